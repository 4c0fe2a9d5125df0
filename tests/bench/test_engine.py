"""Tests of the engine and the plan: identity, failing cells, kills, several processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import plan
from bench.checkpoint import load_model
from bench.checkpoints.native import write_checkpoint
from bench.engine import Settings, best_device, evaluate, score_backbone
from bench.errors import SpecError
from bench.network import seeded_network
from bench.spec import parse_dataset
from bench.store import Store
from bench.task import TaskData
from bench.transforms import InputSpec
from tasks.image.knn import Knn

MODEL = "random:vit_mini_patch4_32"


@pytest.fixture
def settings(mini: Path, tmp_path: Path) -> Settings:
    return Settings(data=mini, cache=tmp_path / "cache", workers=0)


def digest(settings: Settings, task: str, model: str = MODEL, **more: Any) -> str:
    """Identity of a cell, without running it."""
    request = plan.requests([task])[0]
    data = TaskData(
        parts=request.spec.dataset,
        data_root=settings.data,
        cache=None,  # type: ignore[arg-type]
        **more,
    )
    return plan.identity(load_model(model), request, data).digest


def test_whatever_can_change_a_number_makes_a_new_cell(settings: Settings) -> None:
    base = digest(settings, "knn@mini_objects")
    changed = [
        digest(settings, "knn@mini_objects?k=10"),
        digest(settings, "knn@mini_objects?temperature=0.1"),
        digest(settings, "knn@mini_objects[n=100,seed=0]"),
        digest(settings, "knn@mini_objects[n=100,seed=1]"),
        digest(settings, "knn@mini_objects[val_n=20]"),
        digest(settings, "knn@mini_scenes"),
        digest(settings, "linear@mini_objects"),
        digest(settings, "knn@mini_objects", f"{MODEL}?seed=1"),
        digest(settings, "knn@mini_objects", seed=1),
        digest(settings, "knn@mini_objects", precision="bf16"),
        digest(settings, "knn@mini_objects", skip_bad=1),
    ]
    assert len({base, *changed}) == 1 + len(changed)


def test_how_a_cell_is_run_is_not_part_of_it(settings: Settings) -> None:
    base = digest(settings, "knn@mini_objects")
    assert digest(settings, "knn@mini_objects?k=20") == base, "a default written out"
    assert digest(settings, "knn@mini_objects", batch_size=3, workers=5) == base


def test_the_input_contract_is_part_of_the_model() -> None:
    model = load_model(MODEL)
    other = replace(model, record=replace(model.record, input=InputSpec(32).to_json()))
    assert plan.model_digest(model) != plan.model_digest(other)


def test_a_collapse_in_pre_training_follows_into_every_result(
    settings: Settings, tmp_path: Path
) -> None:
    arch = "vit_mini_patch4_32"
    card = {
        "arch": arch,
        "input": InputSpec(32).to_json(),
        "pretrain": {"collapsed": "one prototype takes all images (1.01 in use)"},
    }
    write_checkpoint(tmp_path / "run" / "checkpoint", seeded_network(arch, 0), None, card)
    store = Store(tmp_path / "results")
    done = evaluate([str(tmp_path / "run")], ["knn@mini_objects"], store, settings)
    assert [text for result in done.ran for text in result.warnings] == [
        "pre-training collapsed: one prototype takes all images (1.01 in use)"
    ]


def test_a_task_without_a_data_set_is_refused() -> None:
    with pytest.raises(SpecError, match="write knn@DATASET"):
        plan.requests(["knn"])


def test_the_same_request_twice_is_one_cell() -> None:
    found = plan.requests(["knn@mini_objects,knn@mini_objects?k=20", "knn@mini_objects"])
    assert [request.text for request in found] == ["knn@mini_objects"]


def test_a_failing_cell_stops_no_other(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Knn.run

    def sometimes(self: Knn, model: Any, data: TaskData) -> Any:
        if data.parts == parse_dataset("mini_objects"):
            raise ZeroDivisionError("a defect")
        return run(self, model, data)

    monkeypatch.setattr(Knn, "run", sometimes)
    store = Store(tmp_path / "results")
    tasks = ["knn@mini_objects", "knn@mini_scenes", "knn@imagenet1k"]
    report = evaluate(["random:vit_nothing", MODEL], tasks, store, settings)
    assert [result.task_spec for result in report.ran] == ["knn@mini_scenes"]
    assert len(report.failed) == 3
    reasons = {cell.split(" ")[2] if " " in cell else cell: r for cell, r in report.failed.items()}
    assert "vit_nothing" in reasons["random:vit_nothing"]
    assert reasons["knn@mini_objects"] == "ZeroDivisionError: a defect"
    assert "imagenet1k" in reasons["knn@imagenet1k"]


def test_a_wrong_task_is_refused_before_anything_runs(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="did you mean 'knn'"):
        evaluate([MODEL], ["linear@mini_objects,knnn@mini_objects"], Store(tmp_path), settings)
    assert not list(Store(tmp_path).results())


def test_a_truncated_image_is_named_and_can_be_skipped(
    mini: Path, settings: Settings, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(mini / "mini_objects", root / "mini_objects")
    victim = sorted((root / "mini_objects" / "val").rglob("*.JPEG"))[5]
    victim.write_bytes(victim.read_bytes()[:200])
    settings = replace(settings, data=root)
    store = Store(tmp_path / "results")
    report = evaluate([MODEL], ["knn@mini_objects"], store, settings)
    assert victim.name in next(iter(report.failed.values()))
    report = evaluate([MODEL], ["knn@mini_objects"], store, replace(settings, skip_bad=1))
    assert not report.failed
    result = report.ran[0]
    assert len(store.outcome(result)) == result.dataset["images"]["val"] - 1


COMMAND = [sys.executable, "-m", "bench.cli", "eval", MODEL, f"{MODEL}?seed=1"]
TASKS = ["--tasks", "knn,linear@mini_objects", "--workers", "0"]


def test_two_processes_fill_one_store(mini: Path, tmp_path: Path) -> None:
    options = ["--data", str(mini), "--results", str(tmp_path / "results")]
    both = [
        subprocess.Popen([*COMMAND, *TASKS, *options], stdout=subprocess.DEVNULL) for _ in range(2)
    ]
    assert [process.wait(timeout=200) for process in both] == [0, 0]
    store = Store(tmp_path / "results")
    assert len(list(store.results())) == 4
    assert not store.problems


def test_a_killed_evaluation_goes_on_where_it_was(
    mini: Path, settings: Settings, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    options = ["--data", str(mini), "--results", str(results), "--cache", str(settings.cache)]
    process = subprocess.Popen([*COMMAND, *TASKS, *options], stderr=subprocess.DEVNULL)
    store, deadline = Store(results), time.monotonic() + 100
    while not list(store.results()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = len(list(store.results()))
    models = [MODEL, f"{MODEL}?seed=1"]
    report = evaluate(models, ["knn,linear@mini_objects"], store, settings)
    assert done >= 1
    assert len(report.stood) == done
    assert len(report.ran) == 4 - done
    assert not store.problems


def test_online_scores_leave_network_and_generators_alone(mini: Path) -> None:
    vit = seeded_network("vit_mini_patch4_32", 0)
    vit.train()
    torch.manual_seed(5)
    scores = score_backbone(vit, InputSpec.of_size(32), "knn,linear@mini_objects[n=60]", mini)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert drawn == torch.rand(1)
    assert vit.training
    assert list(scores) == ["knn@mini_objects[n=60]", "linear@mini_objects[n=60]"]
    assert all(0 <= score <= 1 for score in scores.values())


def test_other_pixels_of_the_same_size_make_a_new_cell(mini: Path, tmp_path: Path) -> None:
    from bench.cifar import read_batch
    from bench.data.mini.cifar import pickled

    root = tmp_path / "data"
    shutil.copytree(mini / "mini_cifar", root / "mini_cifar")
    before = digest(Settings(data=root), "knn@mini_cifar")
    batch = root / "mini_cifar" / "cifar-10-batches-py" / "test_batch"
    content = read_batch(batch)
    rows = (content.pixels // 2).transpose(0, 3, 1, 2).reshape(len(content.labels), -1)
    batch.write_bytes(pickled({"data": rows, "labels": content.labels.tolist()}))
    read_batch.cache_clear()
    assert digest(Settings(data=root), "knn@mini_cifar") != before


def test_the_order_of_a_union_is_part_of_the_cell(settings: Settings) -> None:
    one = digest(settings, "knn@mini_objects+mini_scenes")
    other = digest(settings, "knn@mini_scenes+mini_objects")
    assert one != other


def test_what_was_left_out_is_told_with_the_number(
    mini: Path, settings: Settings, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(mini / "mini_objects", root / "mini_objects")
    victim = sorted((root / "mini_objects" / "train").rglob("*.JPEG"))[0]
    victim.write_bytes(b"")
    settings = replace(settings, data=root, skip_bad=1)
    report = evaluate([MODEL], ["knn@mini_objects"], Store(tmp_path / "results"), settings)
    assert victim.name in report.ran[0].warnings[-1]


def test_bad_settings_are_refused() -> None:
    for wrong in ({"precision": "fp8"}, {"batch_size": 0}, {"workers": -1}, {"device": "tpu"}):
        with pytest.raises(SpecError, match=next(iter(wrong)).replace("_", ".")):
            Settings(**wrong)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [best_device(asked) for asked in ("", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(SpecError, match="--device cuda"):
        best_device("cuda")


def test_cells_that_fail_for_one_reason_stand_together(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("SSLBENCH_PROGRESS", "plain")
    report = evaluate([MODEL], ["knn,linear,fewshot@imagenet1k"], Store(tmp_path), settings)
    assert capsys.readouterr().err.count("no folder") == 1
    text = report.summary(tmp_path)
    assert text.count("no folder") == 1
    assert "knn@imagenet1k · seed 0; " in text
    assert "next:" not in text


def test_a_task_on_data_without_its_split_is_told_which_have_one(
    settings: Settings, tmp_path: Path
) -> None:
    report = evaluate([MODEL], ["retrieval@mini_objects"], Store(tmp_path), settings)
    (reason,) = report.failed.values()
    assert "no split 'database'" in reason
    assert "mini_oxford, roxford5k, rparis6k" in reason


def test_what_a_cell_left_when_it_was_killed_after_storing_goes(
    mini: Path, settings: Settings, tmp_path: Path
) -> None:
    store = Store(tmp_path / "results")
    (made,) = evaluate([MODEL], ["knn@mini_objects"], store, settings).ran
    left = settings.cache / "work" / made.identity.digest
    left.mkdir(parents=True)
    (left / "rows-0.npz").write_bytes(b"1")
    assert len(evaluate([MODEL], ["knn@mini_objects"], store, settings).stood) == 1
    assert not left.exists()
