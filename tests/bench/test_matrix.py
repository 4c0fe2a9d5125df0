"""Tests of matrices: read, run, broken off at any moment, gone on with, and what failed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import matrix as matrices
from bench.checkpoint import load_model
from bench.engine import Settings, evaluate
from bench.errors import SpecError
from bench.failures import failures
from bench.matrix import Entry, Matrix, canonical, run_folder
from bench.matrix_file import read
from bench.store import Store
from tasks.image.knn import Knn

DATA = "mini_objects[n=48,seed=0]"
SMALL = "preset=small&arch=vit_mini_patch4_32&batch_size=16&epochs=2&workers=0"
MAE = f"mae@{DATA}?{SMALL}&decoder_dim=16&decoder_depth=1&decoder_heads=2"
DINO = f"dino@{DATA}?{SMALL}&head_hidden=32&head_dim=16&out_dim=64&local_crops=2"
RANDOM = "random:vit_mini_patch4_32"
TASKS = ("knn,linear@mini_objects[n=60,val_n=40]",)


class Place:
    """The folders of a test and what is done in them."""

    def __init__(self, root: Path, data: Path) -> None:
        self.root, self.data, self.runs = root, data, root / "runs"
        self.store = Store(root / "results")
        self.settings = Settings(data=data, cache=root / "cache", workers=0)

    def run(self, *entries: Entry, seeds: tuple[int, ...] = (0,)) -> Any:
        """Runs a matrix in this process."""
        return matrices.run(Matrix(entries, seeds), self.store, self.settings, self.runs)

    def start(self, text: str, *options: str, env: dict[str, str] | None = None) -> Any:
        """Starts `sslbench run` on a matrix, as a user does."""
        (self.root / "m.toml").write_text(text)
        folders = {"--results": self.store.root, "--runs": self.runs, "--data": self.data}
        words = [str(word) for pair in folders.items() for word in pair]
        return subprocess.Popen(
            [sys.executable, "-m", "bench.cli", "run", str(self.root / "m.toml"), *words, *options],
            env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())} | (env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def place(mini: Path, tmp_path: Path) -> Place:
    return Place(tmp_path, mini)


def weights(run: Path) -> bytes:
    return (run / "checkpoint" / "backbone.safetensors").read_bytes()


def until(what: Callable[[], bool], process: Any) -> None:
    """Waits for something that a process does."""
    deadline = time.monotonic() + 120
    while not what() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()


def lines(run: Path) -> int:
    log = run / "metrics.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


# Run folders


def test_a_run_is_named_after_what_it_trains() -> None:
    runs = Path("runs")
    base = run_folder(runs, MAE)
    assert base.parent == runs
    assert base.name.startswith("mae-")
    assert len(base.name) == len("mae-") + 8
    how = [f"{MAE}&log_every=3&save_seconds=1", MAE.replace("workers=0", "workers=4")]
    reordered = f"mae@{DATA}?" + "&".join(reversed(MAE.partition("?")[2].split("&")))
    assert {run_folder(runs, text) for text in (*how, f"{MAE}&seed=0", reordered)} == {base}
    other = [f"{MAE}&seed=1", f"{MAE}&lr=1", MAE.replace("seed=0", "seed=1"), DINO]
    assert len({run_folder(runs, text) for text in (MAE, *other)}) == 5


def test_a_checkpoint_keeps_the_text_that_names_its_run(place: Place) -> None:
    place.run(Entry("mae", TASKS, train=f"{MAE}&seed=0&log_every=2"))
    record = load_model(str(run_folder(place.runs, MAE))).record
    assert record.pretrain is not None
    assert record.pretrain["spec"] == canonical(MAE)
    assert record.name == run_folder(place.runs, MAE).name


# Running


def test_a_matrix_is_trained_and_evaluated_once(place: Place) -> None:
    entries = (
        Entry("mae 0", TASKS, train=MAE),
        Entry("mae 1", TASKS, train=f"{MAE}&seed=1"),
        Entry("dino", TASKS, train=DINO),
        Entry("random", TASKS, source=RANDOM),
    )
    report = place.run(*entries, seeds=(0, 1))
    assert not report.failed
    assert report.trained == [run_folder(place.runs, e.train) for e in entries[:3]]
    cells = {(r.model["name"], r.identity.task, r.identity.seed) for r in place.store.results()}
    assert len(cells) == len(report.ran) == 4 * 2 * 2
    assert len({r.identity.weights for r in report.ran}) == 4
    before = {path: path.stat().st_mtime_ns for path in place.runs.rglob("*.safetensors")}
    again = place.run(*entries, seeds=(0, 1))
    assert (len(again.ran), len(again.stood), again.trained) == (0, 16, [])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "nothing to run: all 16 cells" in again.summary(place.store.root)


def test_a_row_trained_for_one_matrix_serves_the_next(place: Place) -> None:
    place.run(Entry("mae", TASKS, train=MAE))
    report = place.run(Entry("other", ("knn@mini_scenes",), train=f"{MAE}&log_every=1"))
    assert report.trained == []
    assert [r.task_spec for r in report.ran] == ["knn@mini_scenes"]


def test_what_there_is_not_fails_its_own_cells_only(place: Place) -> None:
    tasks = (*TASKS, "knn@imagenet1k", "knnn@mini_objects", "knn@mini_objects?kk=1", "knn@")
    report = place.run(
        Entry("lost", TASKS, train="masked@mini_objects"),
        Entry("wrong", TASKS, train=f"mae@{DATA}?lrr=1"),
        Entry("far", TASKS, train=f"mae@imagenet1k?{SMALL}"),
        Entry("gone", TASKS, source="runs/nowhere"),
        Entry("random", tasks, source=RANDOM),
    )
    assert {r.task_spec.partition("@")[0] for r in report.ran} == {"knn", "linear"}
    assert not report.trained
    noted = failures(place.store.root)
    for model, why in {
        "masked-": "no method 'masked'",
        "mae-": "",
        "runs/nowhere": "there is no runs/nowhere",
    }.items():
        of_model = [f for f in noted if f.model.startswith(model)]
        assert {f.task.partition("@")[0] for f in of_model} == {"knn", "linear"}, model
        assert all(why in f.error for f in of_model)
    assert {f.error.partition(";")[0].partition("\n")[0] for f in noted if "mae-" in f.model} == {
        "MAERecipe has no option 'lrr'",
        "ImageNet-1k: no folder imagenet1k or imagenet-1k or imagenet or ImageNet or ILSVRC2012 or "
        "ILSVRC in the data root",
    }
    refused = {f.task: f.error for f in noted if f.source == RANDOM}
    assert "no folder imagenet1k" in refused["knn@imagenet1k"]
    assert "did you mean 'knn'" in refused["knnn@mini_objects"]
    assert "did you mean 'k'" in refused["knn@mini_objects?kk=1"]
    assert "nothing follows '@'" in refused["knn@"]
    assert len(report.failed) == 4 + 4


def test_nothing_is_trained_for_tasks_that_there_are_not(place: Place) -> None:
    report = place.run(Entry("mae", ("detection@mini_scenes",), train=MAE))
    assert not report.trained
    assert not place.runs.exists()
    assert "no task 'detection'" in next(iter(report.failed.values()))


def test_a_failed_cell_is_noted_until_it_succeeds(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("a defect")

    entry = Entry("mae", TASKS, train=MAE)
    with monkeypatch.context() as patched:
        patched.setattr(Knn, "run", broken)
        place.run(entry, seeds=(0, 1))
    noted = failures(place.store.root)
    assert [(f.task.partition("@")[0], f.seed) for f in noted] == [("knn", 0), ("knn", 1)]
    assert {f.error for f in noted} == {"ZeroDivisionError: a defect"}
    assert {f.model for f in noted} == {run_folder(place.runs, MAE).name}
    assert {f.train for f in noted} == {canonical(MAE)}
    # The same cell by `sslbench eval`, with the run folder written in another way.
    source = os.path.relpath(run_folder(place.runs, MAE))
    evaluate([source], TASKS, place.store, place.settings)
    assert [f.seed for f in failures(place.store.root)] == [1]
    place.run(entry, seeds=(0, 1))
    assert not failures(place.store.root)


def test_a_failed_training_is_noted_until_it_succeeds(mini: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    place = Place(tmp_path, data)
    entry = Entry("mae", TASKS, train=MAE)
    report = place.run(entry)
    assert list(report.failed) == [run_folder(place.runs, MAE).name]
    assert {f.train for f in failures(place.store.root)} == {canonical(MAE)}
    assert len(failures(place.store.root)) == 2
    shutil.copytree(mini / "mini_objects", data / "mini_objects")
    assert not place.run(entry).failed
    assert not failures(place.store.root)


def test_a_run_of_other_defaults_is_not_taken_for_the_spec(place: Place) -> None:
    entry = Entry("mae", TASKS, train=MAE)
    place.run(entry)
    config = run_folder(place.runs, MAE) / "config.json"
    values = json.loads(config.read_text())
    values["recipe"]["mask_ratio"] = 0.5
    config.write_text(json.dumps(values))
    (reason,) = place.run(entry).failed.values()
    assert "mask_ratio was 0.5, now 0.75" in reason
    # A field that an older version did not have says nothing.
    del values["recipe"]["mask_ratio"]
    config.write_text(json.dumps(values))
    assert not place.run(entry).failed


def test_a_device_that_is_not_there_is_refused_before_anything_runs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = Settings(data=place.data, device="cuda")
    matrix = Matrix((Entry("mae", TASKS, train=MAE),))
    with pytest.raises(SpecError, match="--device cuda"):
        matrices.run(matrix, place.store, settings, place.runs)
    assert not place.runs.exists()


# Broken off


TOML = f"""
tasks = ["{TASKS[0]}"]
seeds = [0, 1]
[[models]]
train = "{MAE}&save_seconds=0&log_every=1"
[[models]]
train = "{DINO}"
"""


@pytest.fixture(scope="module")
def whole(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The same matrix, run in one go."""
    place = Place(tmp_path_factory.mktemp("whole"), mini)
    (place.root / "m.toml").write_text(TOML)
    place.run(*read(place.root / "m.toml")[0].entries, seeds=(0, 1))
    return place


def finished(place: Place, whole: Place) -> Any:
    """The report of the same matrix run again; all of it is as if it had never stopped."""
    report = place.run(*read(place.root / "m.toml")[0].entries, seeds=(0, 1))
    assert not report.failed
    for train in (MAE, DINO):
        one, other = run_folder(place.runs, train), run_folder(whole.runs, train)
        assert weights(one) == weights(other)
    digests = [{r.identity.digest for r in p.store.results()} for p in (place, whole)]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 8
    assert not place.store.problems
    return report


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_matrix_stopped_in_a_training_goes_on(
    number: signal.Signals, place: Place, whole: Place
) -> None:
    process = place.start(TOML, "--workers", "0")
    until(lambda: lines(run_folder(place.runs, MAE)) >= 2, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=100)
    assert not (run_folder(place.runs, MAE) / "checkpoint").exists()
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert "the same command continues" in err
        assert "Traceback" not in err
    assert not failures(place.store.root)
    assert len(finished(place, whole).trained) == 2


def test_a_matrix_stopped_in_an_evaluation_goes_on(place: Place, whole: Place) -> None:
    process = place.start(TOML, "--workers", "0")
    until(lambda: any(place.store.results()), process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "Traceback" not in err
    done = len(list(place.store.results()))
    assert 1 <= done < 8
    report = finished(place, whole)
    assert (len(report.stood), len(report.ran)) == (done, 8 - done)
    assert report.trained == [run_folder(place.runs, DINO)]


def test_two_processes_train_each_model_once(place: Place, whole: Place) -> None:
    both = [place.start(TOML, "--json", "--workers", "0") for _ in range(2)]
    outs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    trained = [run for out, _ in outs for run in json.loads(out)["trained"]]
    assert sorted(trained) == sorted({str(run_folder(place.runs, t)) for t in (MAE, DINO)})
    finished(place, whole)


# Reading


def entries(path: Path, text: str) -> Matrix:
    (path / "m.toml").write_text(text)
    return read(path / "m.toml")[0]


def test_a_file_is_read_into_models_seeds_and_tasks(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(
        f"""
        results = "r"
        seeds = [3, 4]
        tasks = ["{TASKS[0]}"]
        [[models]]
        train = "{MAE}"
        seeds = [0, 7]
        [[models]]
        train = "{DINO}&seed=2"
        name = "DINO"
        [[models]]
        source = "timm:vit_small_patch16_224.dino"
        tasks = ["knn@imagenette"]
        """
    )
    matrix, folders = read(tmp_path / "m.toml")
    assert (folders.results, folders.runs) == (Path("r"), Path("runs"))
    assert matrix.seeds == (3, 4)
    mae, seven, dino, timm = matrix.entries
    assert canonical(mae.train) == canonical(MAE)
    assert canonical(seven.train) == canonical(f"{MAE}&seed=7")
    assert mae.name == run_folder(Path(), MAE).name
    assert (dino.name, dino.tasks) == ("DINO", TASKS)
    assert (timm.name, timm.train) == (timm.source, "")
    assert timm.tasks == (*TASKS, "knn@imagenette")


def test_named_models_of_several_seeds_have_names_of_their_own(tmp_path: Path) -> None:
    matrix = entries(
        tmp_path,
        f'tasks = ["knn@mini_objects"]\n[[models]]\ntrain = "{MAE}"\nname = "M"\nseeds = [0, 1]',
    )
    assert [entry.name for entry in matrix.entries] == ["M seed 0", "M seed 1"]
    assert matrix.seeds == (0,)


HEAD = 'tasks = ["knn@mini_objects"]\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tasks = [", ["m.toml is not TOML"]),
        ("", ["no models"]),
        (HEAD, ["no models"]),
        ("models = 3", ["models: found 3"]),
        ("[models]\ntrain = 'mae@x'", ["models: found {", "[[models]]"]),
        (f"{HEAD}[[models]]\ntrian = 'mae@x'", ["models[1].trian", "did you mean 'train'"]),
        (f"{HEAD}resluts = 'r'", ["m.toml: resluts", "did you mean 'results'"]),
        (f"{HEAD}[[models]]\nname = 'a'", ["models[1]: found neither"]),
        (f"{HEAD}[[models]]\ntrain = '{MAE}'\nsource = '{RANDOM}'", ["models[1]: found both"]),
        (f"[[models]]\nsource = '{RANDOM}'", ["models[1]: no tasks"]),
        (f"[[models]]\nsource = '{RANDOM}'\ntasks = []", ["models[1]: no tasks"]),
        (f"seeds = [0.5]\n{HEAD}", ["seeds: found [0.5], expected a list of whole numbers"]),
        (f"seeds = [true]\n{HEAD}", ["seeds: found [True]"]),
        (f"seeds = []\n{HEAD}", ["seeds: found []"]),
        (f"seeds = [1, 1]\n{HEAD}", ["seeds: found [1, 1]"]),
        (f"seeds = [-1]\n{HEAD}", ["seeds: found [-1]"]),
        ("tasks = 'knn@mini_objects'", ["tasks: found 'knn@mini_objects', expected a list"]),
        ("results = 3", ["results: found 3, expected text"]),
        (f"tasks = ['knnn@x']\n[[models]]\nsource = '{RANDOM}'", ["tasks: ", "mean 'knn'"]),
        (f"tasks = ['knn@imagenet1']\n[[models]]\nsource = '{RANDOM}'", ["mean 'imagenet1k'"]),
        (f"tasks = ['knn@coco[m=1]']\n[[models]]\nsource = '{RANDOM}'", ["no modifier 'm'"]),
        (f"tasks = ['knn']\n[[models]]\nsource = '{RANDOM}'", ["needs a data set"]),
        (
            f"{HEAD}[[models]]\nsource = '{RANDOM}'\n[[models]]\ntrain = 'maee@coco'",
            ["models[2].train", "did you mean 'mae'"],
        ),
        (f"{HEAD}[[models]]\ntrain = 'mae@coco?lrr=1'", ["models[1].train", "mean 'lr'"]),
        (f"{HEAD}[[models]]\ntrain = 'mae'", ["models[1].train", "needs a data set"]),
        (f"{HEAD}[[models]]\ntrain = 'mae@coc'", ["models[1].train", "mean 'coco'"]),
        (f"{HEAD}[[models]]\nsource = 'tim:vit'", ["models[1].source", "mean 'timm'"]),
        (f"{HEAD}[[models]]\nsource = '{RANDOM}'\nseeds = [1]", ["models[1].seeds"]),
        (f"{HEAD}[[models]]\ntrain = '{MAE}&seed=1'\nseeds = [1]", ["models[1]: seeds and"]),
        (f"{HEAD}[[models]]\nsource = '{RANDOM}'\ntasks = [1]", ["models[1].tasks: found [1]"]),
        (f"{HEAD}{f'[[models]]{chr(10)}source = {RANDOM!r}{chr(10)}' * 2}", ["two models"]),
    ],
)
def test_a_wrong_file_is_answered_with_the_place_and_advice(
    text: str, words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(SpecError) as caught:
        entries(tmp_path, text)
    assert "m.toml" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(SpecError, match="cannot be read"):
            read(path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match="is not TOML"):
        read(tmp_path / "bytes.toml")


def test_entries_are_trained_or_given(tmp_path: Path) -> None:
    for wrong in ({}, {"train": MAE, "source": RANDOM}):
        with pytest.raises(SpecError, match=r"found (both|neither)"):
            Entry("x", TASKS, **wrong)


def test_matrices_are_described_without_torch() -> None:
    code = (
        "import sys; from pathlib import Path; import bench.failures, bench.matrix_plan; "
        "from bench.matrix import run_folder, canonical; "
        f"run_folder(Path('runs'), {MAE!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_fails_where_a_cell_did(place: Place) -> None:
    text = f"tasks = ['knn@mini_objects', 'knn@imagenette']\n[[models]]\nsource = '{RANDOM}'"
    process = place.start(text, "--json", "--workers", "0")
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 1
    report = json.loads(out)
    assert [r["task_spec"] for r in report["ran"]] == ["knn@mini_objects"]
    assert len(report["failed"]) == 1
    assert (place.store.root / ".cache").is_dir()
