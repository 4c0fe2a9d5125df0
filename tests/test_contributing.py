"""The skeletons of CONTRIBUTING.md are whole: they load as plugins, lint clean and work."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SKELETON = re.compile(r"```python\n# (\S+\.py)\n(.*?)```", re.DOTALL)
SKELETONS = dict(SKELETON.findall((ROOT / "CONTRIBUTING.md").read_text()))
KINDS = {
    "trainers/methods/rotation.py": "method",
    "tasks/image/centroid.py": "task",
    "bench/data/leaves.py": "dataset",
    "bench/checkpoints/deit.py": "family",
    "bench/figures/norms.py": "figure",
    "leaderboards/papers/emerging.py": "table",
}

METHOD_LEARNS = """
import torch
from trainers.blocks.views import Batch
from trainers.recipe import Plan

method = registry.load("method", "rotation")
recipe = method.recipe(arch="vit_mini_patch4_32", batch_size=8)
torch.manual_seed(0)
model = method(Plan.of(recipe, 8))
batch = Batch([torch.randn(8, 3, 32, 32)], torch.zeros(8, 1, 4), torch.zeros(8, 1) > 0, [None],
              torch.arange(8))
optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
values = []
for step in range(20):
    loss = model(batch, step)["loss"]
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    values.append(loss.item())
assert values[-1] < 0.5 * values[0], values
assert any(p is q for p in model.parameters() for q in model.backbone().parameters())
"""

TASK_AND_DATASET_EVALUATE = """
from pathlib import Path
from bench.checkpoint import load_model
from bench.features import FeatureCache
from bench.spec import parse_dataset
from bench.task import TaskData

data = TaskData(parse_dataset("leaves"), Path("root"), FeatureCache(Path("cache")))
task = registry.load("task", "centroid")()
outcome = task.run(load_model("random:vit_mini_patch4_32?seed=0"), data)
assert sorted(outcome.columns["id"]) == sorted(data.open("val").ids)
top1 = task.score(outcome)[task.headline]
assert top1.n == 6, top1
assert top1.value == 1.0, "black and white leaves are told apart by any network"
"""

FAMILY_LOADS = """
import torch
from bench.checkpoint import load_model
from bench.errors import CheckpointError
from bench.vit import build_vit

vit = build_vit("vit_mini_patch4_32")
state = {**vit.state_dict(), "head.weight": torch.zeros(10, 96)}
torch.save({"model": state}, "deit_mini.pth")
loaded = load_model("deit:deit_mini.pth?arch=vit_mini_patch4_32")
assert loaded.report.loaded == loaded.report.total
assert list(loaded.report.dropped) == ["head.weight"]
assert loaded.record.family == "deit"
for name, tensor in loaded.backbone.vit.state_dict().items():
    assert torch.equal(tensor, vit.state_dict()[name]), name
try:
    load_model("deit:deit_mini.pth?arch=vit_mini_patch8_32")
except CheckpointError:
    pass
else:
    raise AssertionError("weights of another patch size were taken")
"""

FIGURE_DRAWS = """
from pathlib import Path
from PIL import Image
from bench.figure import draw

Image.new("RGB", (40, 40), "green").save("leaf.png")
things = ["random:vit_mini_patch4_32?seed=0", "random:vit_mini_patch4_32?seed=1", "leaf.png"]
picture, numbers = draw("norms?bins=7", things, Path("out/norms"))
rows = [row.split(",") for row in numbers.read_text().splitlines()[1:]]
assert len(rows) == 14, rows
assert sum(float(row[-1]) for row in rows) == 2 * 64
Image.open(picture).verify()
"""


PAPER_ASKS_FOR_WHAT_THERE_IS = """
from bench.spec import bind, parse

table = registry.load("table", "emerging").table("2")
print(table.printed, *(row.published[1] for row in table.rows))
print(registry.describe("table")["emerging"])
for row in table.rows:
    assert len(row.published) == len(table.columns)
for column in table.columns:
    for text in (column.measure.spec, column.measure.mini):
        bind(registry.load("task", parse(text).name), dict(parse(text).options))

from trainers.loop import resolve
archs = {resolve(parse(row.train))[1].arch for row in table.rows}
assert archs == {"vit_small_patch16_224", "vit_base_patch16_224"}, archs
assert {resolve(parse(row.mini))[1].arch for row in table.rows} == {"vit_mini_patch4_32"}
"""


def python(code: str, folder: Path) -> str:
    """What the code prints, run in a fresh interpreter with the skeletons loaded as plugins."""
    load = "".join(f"registry.load_plugin({Path(name).name!r})\n" for name in SKELETONS)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"from bench import registry\n{load}{code}"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, code in SKELETONS.items():
        (tmp_path / Path(name).name).write_text(code)
    return tmp_path


def test_there_is_a_skeleton_of_every_kind() -> None:
    assert SKELETONS.keys() == KINDS.keys()


@pytest.mark.parametrize("name", KINDS)
def test_skeleton_is_not_a_file_that_exists(name: str) -> None:
    assert not (ROOT / name).exists(), "show the reader something that is not there yet"


def test_skeletons_are_registered_under_their_file_names(folder: Path) -> None:
    kinds = sorted(set(KINDS.values()))
    listed = python(f"for kind in {kinds}:\n    print(kind, *registry.names(kind))", folder)
    found = {line.split()[0]: line.split()[1:] for line in listed.splitlines()}
    missing = [name for name, kind in KINDS.items() if Path(name).stem not in found[kind]]
    assert not missing, f"{missing} not in {found}"


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["lint", "format"])
@pytest.mark.parametrize("name", KINDS)
def test_skeleton_keeps_the_style(name: str, command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(ROOT / name), "-"],
        input=SKELETONS[name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_method_skeleton_learns(folder: Path) -> None:
    python(METHOD_LEARNS, folder)


def test_task_and_dataset_skeletons_evaluate_a_model(folder: Path) -> None:
    for split, count in (("train", 4), ("val", 3)):
        for label, species in enumerate(("ash", "oak")):
            place = folder / "root" / "leaves" / split / species
            place.mkdir(parents=True)
            for index in range(count):
                rng = np.random.default_rng((label, index, count))
                pixels = 200 * label + rng.integers(0, 30, (40, 40, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{index}.jpg")
    python(TASK_AND_DATASET_EVALUATE, folder)


def test_family_skeleton_loads_every_tensor_or_refuses(folder: Path) -> None:
    python(FAMILY_LOADS, folder)


def test_figure_skeleton_draws_models_and_counts_every_patch(folder: Path) -> None:
    python(FIGURE_DRAWS, folder)


def test_paper_skeleton_is_listed_and_asks_for_what_there_is(folder: Path) -> None:
    printed, described = python(PAPER_ASKS_FOR_WHAT_THERE_IS, folder).splitlines()
    assert printed == "Table 2 74.5 76.1"
    assert described.startswith("DINO (Caron et al., 2021)")
