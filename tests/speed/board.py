"""The board of 100,000 results from the index, against reading every folder.

    python tests/speed/board.py [--store DIR] [--models 1000]

A store of 1,000 models, each with 20 tasks on three data sets (10 of the 60 with five seeds), is
written to a temporary folder, or to DIR, where it is used again. Each line is a process of its own,
so that imports count: once with every folder to be read (the index is written), then from the
index, the least of five. Targets: under 60 s and under 2 s, and no torch in either.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.index_file import NAME
from bench.records import Identity, Metric, ModelRecord, Outcome, Result
from bench.stats import wilson
from bench.store import Store

ROOT = Path(__file__).resolve().parents[2]
TASKS = (
    *("knn", "linear", "finetune", "semi", "attentive", "decoder", "fewshot", "retrieval"),
    *("imagenet9", "clevr", "segknn", "davis", "jaccard", "lost", "boxes", "depth", "lesion"),
    *("kitchen", "metaworld", "franka"),
)
DATASETS = ("imagenet1k", "coco", "ade20k")
REPEATED = 10  # measurements with several seeds
SEEDS = 5

PACKAGES = {f"package-{i}": f"{i}.{i + 1}.{i + 2}" for i in range(30)}


def results_of(number: int) -> Iterator[Result]:
    """The results of one invented model, about 3 kB each."""
    rng = np.random.default_rng(number)
    digest = f"{number:064x}"
    trained = {
        "dataset": ("imagenet1k", "coco_plus")[number % 2],
        "manifest": "a" * 64,
        "images": 1_281_167,
        "epochs": 100 * (1 + number % 8),
        "effective_epochs": 200 * (1 + number % 8),
        "views_seen": 256_233_400 * (1 + number % 8),
        "steps": 125_100,
        "flops": 1.1e18 * (1 + number % 97),
        "seed": 0,
        "recipe": {f"option_{i}": i / 3 for i in range(30)},
        "collapsed": "",
    }
    model = ModelRecord(
        name=f"{('slotmim', 'dino', 'mae')[number % 3]}-{number:04}",
        source=f"runs/{number:04}",
        family="native",
        arch=("vit_small_patch16_224", "vit_base_patch16_224")[number % 2],
        method=("slotmim", "dino", "mae")[number % 3],
        weights=digest,
        input={"size_px": 224, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        pretrain=trained,
    ).to_dict()
    skill = rng.normal(0, 0.08)
    for j, (task, data) in enumerate((t, d) for t in TASKS for d in DATASETS):
        level = 0.35 + 0.3 * (j % 7) / 7 + skill + rng.normal(0, 0.02)
        for seed in range(SEEDS if j < REPEATED else 1):
            n = 5000
            hits = int(n * min(max(level + rng.normal(0, 0.004), 0.01), 0.99))
            yield Result(
                identity=Identity(digest, task, 1, {"k": 20}, f"{j:064x}", seed),
                task_spec=f"{task}@{data}?k=20",
                headline="top1",
                metrics={
                    name: Metric(hits / n, *wilson(hits, n), n, "wilson95")
                    for name in ("top1", "top5", "mean_class_accuracy")
                },
                model=model,
                dataset={"name": data, "images": {"train": 100_000, "val": n}, "classes": 1000},
                cost={"seconds": float(rng.uniform(1, 900)), "images": 105_000},
                provenance={"git_commit": "0" * 40, "packages": PACKAGES, "command_line": "eval"},
            )


def fill(root: Path, models: int) -> None:
    """Writes the store, without flushing each file to the disk."""
    store, outcome = Store(root), root / "outcome.npz"
    root.mkdir(parents=True)
    Outcome({"id": np.array(["a"]), "value": np.zeros(1)}).save(outcome)
    content = outcome.read_bytes()
    for number in range(models):
        for result in results_of(number):
            folder = store.path(result.identity, result.model["name"])
            folder.mkdir(parents=True)
            (folder / "result.json").write_text(result.to_json())
            (folder / "outcome.npz").write_bytes(content)
    outcome.unlink()


READ = "from bench.store import Store\nprint(len(list(Store(sys.argv[1]).results())))"
BOARD = """
from bench.cli import main
sys.argv = ["sslbench", "board", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    assert not stop.code
assert not {"torch", "pandas", "matplotlib"} & set(sys.modules)
"""


def timed(what: str, code: str, *arguments: str, repeats: int = 1) -> float:
    """Least wall seconds of fresh interpreters that run the code, printed with all of them."""
    walls, processor = [], []
    for _ in range(repeats):
        before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", f"import sys\n{code}", *arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        walls.append(time.perf_counter() - wall)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(f"{what:<45} {min(walls):6.2f} s wall {min(processor):6.2f} s processor", flush=True)
    return min(walls)


def main() -> None:
    """Prints seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--models", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.store or Path(folder) / "results"
        if not root.exists():
            began = time.perf_counter()
            fill(root, options.models)
            print(f"the store: written in {time.perf_counter() - began:.0f} s")
            time.sleep(3)  # what changed a moment ago is not kept in the index
        (root / NAME).unlink(missing_ok=True)
        results = ["--results", str(root)]
        every = timed("reading every folder, no board", READ, str(root))
        timed("board, the index written (target 60 s)", BOARD, *results)
        print(f"the index: {(root / NAME).stat().st_size / 1e6:.0f} MB")
        for form in ("text", "md", "csv", "latex", "json"):
            target = " (target 2 s)" if form == "text" else ""
            arguments = [*results, "--format", form]
            seconds = timed(f"board as {form} from the index{target}", BOARD, *arguments, repeats=5)
            if form == "text":
                print(f"  {every / seconds:.0f} times as fast as reading every folder")


if __name__ == "__main__":
    main()
