"""Tests of plans: before, half-way and after a run, without a trace of having been made."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import costs
from bench.engine import Settings, evaluate
from bench.errors import SpecError
from bench.matrix import Entry, Matrix, run, run_folder
from bench.matrix_plan import Plan, plan
from bench.store import Store
from trainers.loop import train

DATA = "mini_objects[n=48,seed=0]"
MAE = (
    f"mae@{DATA}?preset=small&arch=vit_mini_patch4_32&batch_size=16&epochs=2&workers=0"
    "&decoder_dim=16&decoder_depth=1&decoder_heads=2&save_seconds=0"
)
RANDOM = "random:vit_mini_patch4_32"
TASKS = ("knn,linear@mini_objects[n=60,val_n=40]",)
MATRIX = Matrix((Entry("mae", TASKS, train=MAE), Entry("random", TASKS, source=RANDOM)), (0, 1))


def snapshot(*roots: Path) -> dict[Path, tuple[int, int]]:
    """Every file and folder, with its size and time."""
    found = [path for root in roots for path in (root, *root.rglob("*")) if path.exists()]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


@pytest.fixture
def looked(mini: Path, tmp_path: Path) -> Any:
    """Makes a plan, and holds it to writing nothing."""

    def look(matrix: Matrix = MATRIX, data: Path = mini, **more: Any) -> Plan:
        before = snapshot(tmp_path, mini)
        made = plan(matrix, Store(tmp_path / "results"), tmp_path / "runs", data, **more)
        made.text()
        json.dumps(made.to_json())
        assert snapshot(tmp_path, mini) == before
        return made

    return look


def states(made: Plan, name: str) -> list[str]:
    (model,) = (model for model in made.models if model.name == name)
    return [cell.state for cell in model.cells]


def test_a_plan_before_half_way_and_after(mini: Path, tmp_path: Path, looked: Any) -> None:
    before = looked()
    cost = costs.run_cost(MAE, 48)
    mae, random = before.models
    assert (mae.state, mae.step, mae.steps) == ("to do", 0, 6)
    assert (mae.train_flops, mae.disk) == (cost.flops, cost.disk)
    assert (random.state, random.train_flops, random.disk) == ("there", 0.0, 0)
    assert states(before, "mae") == states(before, "random") == ["to do"] * 4
    once = costs.forward("vit_mini_patch4_32")
    assert mae.eval_flops == random.eval_flops == once.flops * (60 + 40)
    assert mae.cache == once.features * (60 + 40)

    folder = run_folder(tmp_path / "runs", MAE)
    train(MAE, folder, data=mini, stop_at=3)
    half = looked().models[0]
    assert (half.state, half.step) == ("to do", 3)
    assert half.train_flops == cost.flops / 2
    assert half.training == "resume at 50 %"

    store = Store(tmp_path / "results")
    settings = Settings(data=mini, cache=tmp_path / "cache", workers=0)
    run(MATRIX, store, settings, tmp_path / "runs")
    after = looked()
    assert [model.state for model in after.models] == ["there", "there"]
    assert states(after, "mae") == states(after, "random") == ["there"] * 4
    totals = after.totals()
    assert totals["train_flops"] == totals["eval_flops_at_least"] == totals["run_bytes"] == 0
    card = json.loads((folder / "checkpoint" / "checkpoint.json").read_text())
    assert card["pretrain"]["flops"] == cost.flops


def test_only_cells_of_the_same_identity_are_there(mini: Path, tmp_path: Path, looked: Any) -> None:
    settings = Settings(data=mini, cache=tmp_path / "cache", workers=0, seeds=(0,))
    evaluate([RANDOM], ["knn@mini_objects[n=60,val_n=40]"], Store(tmp_path / "results"), settings)
    assert states(looked(), "random") == ["there", "to do", "to do", "to do"]
    for other in ("knn@mini_objects[n=60,val_n=40]?k=10", "knn@mini_objects[n=61,val_n=40]"):
        matrix = Matrix((Entry("random", (other,), source=RANDOM),))
        assert states(looked(matrix), "random") == ["to do"]
    assert states(looked(precision="bf16"), "random") == ["to do"] * 4
    assert states(looked(skip_bad=1), "random") == ["to do"] * 4
    seeded = Matrix((Entry("random", TASKS, source=f"{RANDOM}?seed=1"),))
    assert states(looked(seeded), "random") == ["to do"] * 2


def test_changed_data_make_other_cells(mini: Path, tmp_path: Path) -> None:
    data, store = tmp_path / "data", Store(tmp_path / "results")
    shutil.copytree(mini / "mini_objects", data / "mini_objects")
    settings = Settings(data=data, cache=tmp_path / "cache", workers=0)
    matrix = Matrix((Entry("random", ("knn@mini_objects",), source=RANDOM),))
    run(matrix, store, settings, tmp_path / "runs")
    assert states(plan(matrix, store, tmp_path / "runs", data), "random") == ["there"]
    shutil.rmtree(sorted((data / "mini_objects" / "val").iterdir())[0])
    shutil.rmtree(sorted((data / "mini_objects" / "train").iterdir())[0])
    assert states(plan(matrix, store, tmp_path / "runs", data), "random") == ["to do"]


def test_results_without_their_data_are_there(mini: Path, tmp_path: Path) -> None:
    store, nowhere = Store(tmp_path / "results"), tmp_path / "empty"
    nowhere.mkdir()
    settings = Settings(data=mini, cache=tmp_path / "cache", workers=0)
    run(MATRIX, store, settings, tmp_path / "runs")
    made = plan(MATRIX, store, tmp_path / "runs", nowhere)
    assert states(made, "mae") == states(made, "random") == ["there"] * 4


def test_a_checkpoint_of_other_weights_under_the_same_name_has_no_cells(
    mini: Path, tmp_path: Path, looked: Any
) -> None:
    store = Store(tmp_path / "results")
    settings = Settings(data=mini, cache=tmp_path / "cache", workers=0)
    run(MATRIX, store, settings, tmp_path / "runs")
    folder = run_folder(tmp_path / "runs", MAE)
    shutil.rmtree(folder)
    train(MAE.replace("epochs=2", "epochs=1"), folder, data=mini)
    # The folder now holds another run than its name says.
    (mae, _) = looked().models
    assert mae.state == "cannot"
    assert "epochs was 1.0, now 2.0" in mae.why
    entry = Entry("moved", TASKS, source=str(folder))
    assert states(looked(Matrix((entry,), (0, 1))), "moved") == ["to do"] * 4


def test_what_is_missing_is_said_by_the_reader(tmp_path: Path, mini: Path, looked: Any) -> None:
    tasks = (*TASKS, "knn@imagenet1k", "retrieval@mini_objects", "detection@coco")
    matrix = Matrix(
        (
            Entry("mae", tasks, train=MAE),
            Entry("far", TASKS, train=MAE.replace(DATA, "imagenet1k")),
            Entry("lost", TASKS, train="masked@mini_objects"),
            Entry("few", TASKS, train=MAE.replace("batch_size=16", "batch_size=64")),
        )
    )
    made = looked(matrix)
    mae, far, lost, few = made.models
    why = {cell.task: cell.why for cell in mae.cells if cell.state == "cannot"}
    assert why["knn@imagenet1k"].startswith("ImageNet-1k: no folder imagenet1k or ")
    assert "has no split 'database'" in why["retrieval@mini_objects"]
    assert "there is no task 'detection'" in why["detection@coco"]
    assert all("\n" not in reason for reason in why.values())
    assert far.state == lost.state == few.state == "cannot"
    assert {cell.state for model in (far, lost, few) for cell in model.cells} == {"cannot"}
    # What lacks its data is estimated from the official counts all the same.
    assert far.steps == 2 * (1_281_167 // 16)
    assert far.train_flops == costs.run_cost(far.train, 1_281_167).flops
    assert lost.train_flops is None
    assert "fewer than one batch" in few.why
    assert made.totals()["train_flops_unknown"] == ["lost", "few"]
    text = made.text()
    assert text.count("no folder imagenet1k") == 1
    assert "training    at least" in text
    images = 60 + 40 + 1_281_167 + 50_000  # of the other two there are none to count
    assert mae.eval_flops == costs.forward("vit_mini_patch4_32").flops * images


def test_a_model_of_unknown_architecture_costs_at_least_nothing(looked: Any) -> None:
    (model,) = looked(Matrix((Entry("x", TASKS, source="runs/nowhere"),))).models
    assert (model.eval_flops, model.cache) == (0, 0)
    assert model.outcomes > 0


def test_no_data_root_is_a_reason_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSLBENCH_DATA", raising=False)
    made = plan(MATRIX, Store(tmp_path), tmp_path / "runs")
    assert {cell.state for model in made.models for cell in model.cells} == {"cannot"}
    assert "no data root" in made.text()


def test_seeds_share_the_splits_that_are_opened(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.data.mini_objects import MiniObjects

    scanned = []
    scan = MiniObjects.scan
    monkeypatch.setattr(
        MiniObjects, "scan", lambda self, split: scanned.append(split) or scan(self, split)
    )
    entries = tuple(replace(entry, tasks=("knn@mini_objects",)) for entry in MATRIX.entries)
    plan(Matrix(entries, (0, 1, 2)), Store(tmp_path), tmp_path / "runs", mini)
    # Train twice: as what is trained on (48 images) and as what is evaluated on (all).
    assert sorted(scanned) == ["train", "train", "val"]


def test_an_unknown_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="did you mean 'h100'"):
        plan(MATRIX, Store(tmp_path), tmp_path / "runs", gpu="h1000")


def test_half_the_peak_is_twice_the_hours(looked: Any) -> None:
    hours = {gpu: looked(gpu=gpu).totals()["train_gpu_hours"] for gpu in ("h100", "a100")}
    ratio = costs.PEAKS["h100"] / costs.PEAKS["a100"]
    assert hours["a100"] == pytest.approx(ratio * hours["h100"])


def test_the_plan_is_a_table_that_fits_its_words(looked: Any) -> None:
    lines = looked().text().splitlines()
    head, mae, random = lines[:3]
    assert " ".join(head.split()) == "model training cells there FLOPs H100 hours disk what"
    assert mae.startswith("mae     to train  0 of 4")
    assert random.startswith("random  none      0 of 4")
    assert "1 run: 1 to do; 8 cells: 8 to do" in lines
    assert mae.count("<0.01") == 1
