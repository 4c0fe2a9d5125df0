"""What tasks share is computed once, and every cell is what it would be alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from bench import plan, registry
from bench.checkpoint import LoadedModel, load_model
from bench.engine import Settings, evaluate, task_data
from bench.errors import DataError, TrainingError
from bench.features import FeatureCache
from bench.probing import Probe, run_probe, run_probes
from bench.records import Metric, Outcome
from bench.stats import accuracy_metric
from bench.store import Store
from bench.streams import Stream, open_stream
from bench.task import FrozenPass, Task, TaskData
from bench.transforms import EvalTransform, InputSpec, TrainTransform
from leaderboards.cells import protocol_text

MODEL = "random:vit_mini_patch4_32"


@pytest.fixture
def model() -> LoadedModel:
    return load_model(MODEL)


@pytest.fixture
def settings(mini: Path, tmp_path: Path) -> Settings:
    return Settings(data=mini, cache=tmp_path / "cache", workers=0, device="cpu")


@pytest.fixture
def data(settings: Settings) -> TaskData:
    return data_of("mini_objects", settings)


def data_of(text: str, settings: Settings) -> TaskData:
    request = plan.requests([f"knn@{text}"])[0]
    return task_data(request, 0, settings, FeatureCache(settings.cache))


def forwarded(model: LoadedModel) -> list[int]:
    """Grows by the number of images of each forward."""
    sizes: list[int] = []
    features = model.backbone.features

    def counting(images: Tensor, recipes: Sequence[str]) -> dict[str, Tensor]:
        sizes.append(len(images))
        return features(images, recipes)

    model.backbone.features = counting  # type: ignore[method-assign]
    return sizes


# Passes


def test_tasks_on_one_data_set_need_one_pass_over_each_split(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("SSLBENCH_PROGRESS", "plain")
    loaded = load_model(MODEL)
    sizes = forwarded(loaded)
    monkeypatch.setattr("bench.engine.load_model", lambda source: loaded)
    tasks = "knn,linear@mini_objects?epochs=2,linear@mini_objects?epochs=3"
    report = evaluate([MODEL], [tasks], Store(tmp_path / "r"), settings)
    assert report.failed == {}
    space = data_of("mini_objects", settings)
    images = {name: len(space.open(name)) for name in ("train", "val")}
    assert sum(sizes) == sum(images.values())
    told = [line for line in capsys.readouterr().err.splitlines() if "one pass" in line]
    assert told == [
        f"one pass over mini_objects {name}, ev32-bicubic-1: {n} images for knn, linear"
        for name, n in images.items()
    ]
    shared = report.ran[0].cost["shared"]
    assert [len(part["tasks"]) for part in shared] == [3, 3]
    assert all(part["seconds"] > 0 for part in shared)


def test_few_label_lists_are_rows_of_the_whole_pass(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = evaluate([MODEL], [FEW], Store(tmp_path / "alone"), settings)
    loaded = load_model(MODEL)
    sizes = forwarded(loaded)
    monkeypatch.setattr("bench.engine.load_model", lambda source: loaded)
    fresh = Settings(data=settings.data, cache=tmp_path / "fresh", workers=0, device="cpu")
    both = evaluate([MODEL], [FEW, "knn@mini_objects"], Store(tmp_path / "both"), fresh)
    space = data_of("mini_objects", settings)
    assert sum(sizes) == len(space.open("train")) + len(space.open("val"))
    (few,) = [result for result in both.ran if "list=" in result.task_spec]
    assert few.metrics == alone.ran[0].metrics
    assert few.identity == alone.ran[0].identity


FEW = "knn@mini_objects[list=10percent.txt]"


def test_a_subset_without_the_whole_is_passed_alone(settings: Settings, model: LoadedModel) -> None:
    sizes = forwarded(model)
    data = data_of("mini_objects[list=10percent.txt]", settings)
    table = data.features(model, data.open("train"))
    assert sum(sizes) == len(table) == len(data.open("train"))


def test_rows_of_the_whole_pass_are_the_features_of_the_subset(
    settings: Settings, model: LoadedModel, tmp_path: Path
) -> None:
    data = data_of("mini_objects", settings)
    train = data.open("train")
    rows = np.array([5, 3, 40])
    own = data.features(model, train.take(rows, "few"))
    whole = data.features(model, train)
    again = data.features(model, train.take(rows, "few"))
    assert own.path != again.path == whole.path
    assert again.ids == tuple(train.ids[row] for row in rows)
    assert np.array_equal(again.targets, train.targets[rows])
    np.testing.assert_allclose(again.get("cls"), own.get("cls"), atol=2e-3)
    assert np.array_equal(again.get("cls"), whole.get("cls")[rows])
    assert np.array_equal(again.take(np.array([2, 0])), whole.take(rows[[2, 0]]))


def test_rows_of_the_whole_are_not_passed_again_later(data: TaskData, model: LoadedModel) -> None:
    train, transform = data.open("train"), data.eval_transform(model)
    data.prepare(model, train, transform, tokens=True)
    sizes = forwarded(model)
    part = train.take(np.array([5, 3, 40]), "few")
    assert data.prepare(model, part, transform, tokens=True) == {}
    assert data.tokens(model, part).stored
    assert sizes == []


def test_columns_of_chosen_rows_hold_no_others_in_memory(
    data: TaskData, model: LoadedModel
) -> None:
    train = data.open("train")
    data.features(model, train)
    few = data.features(model, train.take(np.array([5, 3, 40]), "few")).get("cls")
    owner = few if few.base is None else few.base
    assert owner.nbytes == 3 * 96 * 2


def test_unreadable_images_of_the_whole_are_left_out_of_the_subset(
    model: LoadedModel, tmp_path: Path
) -> None:
    from PIL import Image

    folder = tmp_path / "photos"
    for split, n in (("train", 8), ("val", 2)):
        for i in range(n):
            path = folder / split / f"c{i % 2}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (i * 20, 0, 0)).save(path)
    (folder / "train/c1/3.png").write_bytes(b"no image")
    settings = Settings(cache=tmp_path / "cache", workers=0, device="cpu", skip_bad=1)
    data = data_of(f"folder[labels=folders,path={folder}]", settings)
    train = data.open("train")
    whole = data.features(model, train)
    broken = train.ids.index("c1/3.png")
    assert broken not in whole.split_rows
    part = train.take(np.array([broken, 0, 6]), "part")
    few = data.features(model, part)
    assert few.path == whole.path
    assert few.ids == (train.ids[0], train.ids[6])
    assert few.split_rows.tolist() == [1, 2]
    assert len(few.skipped) == 1
    clean = data.features(model, train.take(np.array([0, 6]), "clean"))
    assert clean.skipped == ()


# Tokens


def test_tokens_come_from_the_pass_of_the_vectors(data: TaskData, model: LoadedModel) -> None:
    val = data.open("val")
    transform = data.eval_transform(model)
    sizes = forwarded(model)
    made = data.prepare(model, val, transform, tokens=True)
    assert made["images"] == sum(sizes) == len(val)
    assert data.prepare(model, val, transform, tokens=True) == {}
    table, tokens = data.features(model, val), data.tokens(model, val)
    assert sum(sizes) == len(val)
    assert (tokens.shape, tokens.stored, tokens.ids) == ((65, 96), True, table.ids)
    rows = np.array([7, 0, 3])
    ((read, values),) = tokens.batches(rows, 8)
    assert np.array_equal(read, rows)
    assert values.dtype == torch.float32
    cls = torch.from_numpy(np.array(table.get("cls")[rows])).float()
    torch.testing.assert_close(values[:, 0], cls)
    average = torch.from_numpy(np.array(table.get("avg")[rows])).float()
    torch.testing.assert_close(values[:, 1:].mean(1), average, atol=2e-3, rtol=0)


def test_vectors_that_were_there_first_leave_only_tokens_to_be_made(
    data: TaskData, model: LoadedModel
) -> None:
    val = data.open("val")
    data.features(model, val)
    sizes = forwarded(model)
    tokens = data.tokens(model, val)
    assert sum(sizes) == len(val)
    assert tokens.stored


def test_stored_tokens_are_read_when_the_disk_has_filled_since(
    data: TaskData, model: LoadedModel
) -> None:
    val = data.open("val")
    data.tokens(model, val)
    data.cache.token_bytes = 0
    assert data.tokens(model, val).stored
    assert data.tokens(model, val.take(np.array([4, 2]), "few")).stored


@pytest.mark.parametrize("arch", ["vit_mini_patch4_32", "swin_tiny_patch4_window4_32"])
def test_tokens_that_fit_no_disk_are_the_same_numbers(
    arch: str, settings: Settings, tmp_path: Path
) -> None:
    model = load_model(f"random:{arch}")
    stored, unstored = (data_of("mini_objects[val_n=20]", settings) for _ in range(2))
    unstored.cache = FeatureCache(tmp_path / "full", token_bytes=0)
    val = stored.open("val")
    a, b = stored.tokens(model, val), unstored.tokens(model, val)
    assert (a.stored, b.stored, a.shape) == (True, False, b.shape)
    rows = np.arange(len(val))[::-1].copy()
    for (ra, xa), (rb, xb) in zip(a.batches(rows, 7), b.batches(rows, 7), strict=True):
        assert np.array_equal(ra, rb)
        torch.testing.assert_close(xa, xb, atol=4e-3, rtol=1e-3)
        assert not xb.is_inference()


def test_a_killed_pass_over_both_matrices_continues(
    data: TaskData, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.cache.shard_rows, data.batch_size = 16, 8
    val, transform = data.open("val"), data.eval_transform(model)
    features, calls = model.backbone.features, []

    def dying(images: Tensor, recipes: Sequence[str]) -> dict[str, Tensor]:
        if len(calls) == 5 and len(images) > 1:
            raise KeyboardInterrupt
        calls.append(len(images))
        return features(images, recipes)

    model.backbone.features = dying  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        data.prepare(model, val, transform, tokens=True)
    model.backbone.features = features  # type: ignore[method-assign]
    sizes = forwarded(model)
    data.prepare(model, val, transform, tokens=True)
    assert 0 < sum(n for n in sizes if n > 1) < len(val)
    fresh = TaskData(data.parts, data.data_root, FeatureCache(data.cache.root / "other"))
    table, other = data.tokens(model, val), fresh.tokens(model, val)
    everything = np.arange(len(val))
    ((_, a),), ((_, b),) = table.batches(everything, 999), other.batches(everything, 999)
    torch.testing.assert_close(a, b, atol=4e-3, rtol=1e-3)


# Streams and probes


class Recorder(Probe):
    """Remembers what it saw, and draws a random number at each step."""

    def __init__(self, stream: Stream, recipes: tuple[str, ...], epochs: int = 2) -> None:
        self.label, self.stream, self.recipes, self.epochs = "recorder", stream, recipes, epochs
        self.seen: list[Tensor] = []
        self.drawn: list[float] = []
        self.evaluated: list[int] = []

    def step(
        self, features: Mapping[str, Tensor], target: Tensor, epoch: int, iteration: int
    ) -> None:
        self.seen += [features[recipe] for recipe in self.recipes] + [target]
        self.drawn.append(float(torch.rand(())))

    def after_epoch(self, epoch: int) -> None:
        self.evaluated.append(epoch)

    def outcome(self) -> Outcome:
        return Outcome({"id": np.array(["all"]), "value": np.array([sum(self.drawn)])})

    def state(self) -> dict[str, Any]:
        return {"drawn": list(self.drawn), "evaluated": list(self.evaluated)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.drawn, self.evaluated = list(state["drawn"]), list(state["evaluated"])


class Failing(Recorder):
    def step(
        self, features: Mapping[str, Tensor], target: Tensor, epoch: int, iteration: int
    ) -> None:
        if epoch == 1:
            raise ZeroDivisionError("a defect")
        super().step(features, target, epoch, iteration)


def stream_of(data: TaskData, transform: TrainTransform | EvalTransform, seed: int = 0) -> Stream:
    train = data.open("train")
    return Stream(train, np.arange(0, len(train), 2), transform, 16, 3, seed)


CROPS = TrainTransform("rrc_bilinear", 32)
WHOLE = EvalTransform(InputSpec.of_size(32))


@pytest.mark.parametrize("transform", [CROPS, WHOLE])
def test_probes_in_lockstep_fare_as_they_would_alone(
    transform: TrainTransform | EvalTransform, data: TaskData, model: LoadedModel
) -> None:
    stream = stream_of(data, transform)
    wants = (("cls",), ("tokens",), ("cls", "avg"))
    alone = [Recorder(stream, want, epochs) for want, epochs in zip(wants, (2, 3, 1), strict=True)]
    for probe in alone:
        run_probe(probe, model, data)
    together = [Recorder(stream, p.recipes, p.epochs) for p in alone]
    found = run_probes(together, model, data)
    for one, two, outcome in zip(alone, together, found, strict=True):
        assert isinstance(outcome, Outcome)
        assert one.drawn == two.drawn
        assert one.evaluated == two.evaluated == list(range(1, one.epochs + 1))
        for a, b in zip(one.seen, two.seen, strict=True):
            torch.testing.assert_close(a, b)
    assert together[1].seen[0].shape == (16, 65, 96)


def test_a_probe_that_fails_leaves_the_others_alone(data: TaskData, model: LoadedModel) -> None:
    stream = stream_of(data, CROPS)
    good, bad = Recorder(stream, ("cls",)), Failing(stream, ("avg",))
    found = run_probes([bad, good], model, data)
    assert isinstance(found[0], ZeroDivisionError)
    assert isinstance(found[1], Outcome)
    assert len(good.drawn) == 6
    with pytest.raises(ZeroDivisionError):
        run_probe(Failing(stream, ("avg",)), model, data)


def test_when_all_probes_failed_nothing_more_is_forwarded(
    data: TaskData, model: LoadedModel
) -> None:
    sizes = forwarded(model)
    run_probes([Failing(stream_of(data, CROPS), ("avg",), epochs=50)], model, data)
    assert sum(sizes) <= 16 * 3 + 2 * data.batch_size


def keep_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.snapshot._SECONDS", 0.0)
    monkeypatch.setattr("bench.snapshot._SHARE", 1e9)


class Killed(Recorder):
    def step(
        self, features: Mapping[str, Tensor], target: Tensor, epoch: int, iteration: int
    ) -> None:
        if (epoch, iteration) == (2, 1):
            raise KeyboardInterrupt
        super().step(features, target, epoch, iteration)


def test_killed_probes_continue_after_their_last_epoch(
    data: TaskData, model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_every_epoch(monkeypatch)
    stream, folders = stream_of(data, CROPS), [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    whole = Recorder(stream, ("cls",), epochs=4)
    run_probe(whole, model, data)
    dying = [Recorder(stream, ("cls",), epochs=4), Killed(stream, ("cls",), epochs=4)]
    with pytest.raises(KeyboardInterrupt):
        run_probes(dying, model, data, folders)
    again = [Recorder(stream, ("cls",), epochs=4) for _ in folders]
    run_probes(again, model, data, folders)
    for probe in again:
        assert probe.drawn == whole.drawn
        assert probe.evaluated == [1, 2, 3, 4]
        assert len(probe.seen) == 2 * 3 * 2  # two epochs were not seen again


@pytest.mark.parametrize("options", ["", "&selection=test", "&optimizer=lars&batch_norm=both"])
def test_a_killed_linear_probe_gives_the_same_outcome(
    options: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.probe import SweepProbe

    keep_every_epoch(monkeypatch)
    spec = f"linear@mini_objects?epochs=6&batch=64&lrs=0.1:1&eval_every=2{options}"
    whole, killed = Store(tmp_path / "whole"), Store(tmp_path / "killed")
    (expected,) = evaluate([MODEL], [spec], whole, settings).ran
    step, calls = SweepProbe.step, []

    def dying(self: SweepProbe, *args: Any) -> None:
        calls.append(args[2])
        if len(calls) == 4 * self.stream.iterations + 1:
            raise KeyboardInterrupt
        step(self, *args)

    monkeypatch.setattr(SweepProbe, "step", dying)
    with pytest.raises(KeyboardInterrupt):
        evaluate([MODEL], [spec], killed, settings)
    (found,) = evaluate([MODEL], [spec], killed, settings).ran
    assert calls[-1] == 5
    assert len(calls) == 6 * (len(calls) // 6) + 1
    a, b = whole.outcome(expected), killed.outcome(found)
    for name, column in a.columns.items():
        assert np.array_equal(column, b.columns[name]), name
    for name, array in a.extras.items():
        assert np.array_equal(array, b.extras[name]), name


def test_a_damaged_snapshot_means_starting_anew(data: TaskData, model: LoadedModel) -> None:
    data.workspace = data.cache.root / "work"
    data.workspace.mkdir(parents=True)
    (data.workspace / "probe.pt").write_bytes(b"half a file")
    probe = Recorder(stream_of(data, CROPS), ("cls",))
    run_probe(probe, model, data)
    assert probe.evaluated == [1, 2]


class Outdated(Recorder):
    def restore(self, state: Mapping[str, Any]) -> None:
        raise KeyError("heads")


def test_a_state_of_another_version_fails_its_own_probe_once(
    data: TaskData, model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_every_epoch(monkeypatch)
    stream, folders = stream_of(data, CROPS), [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    run_probes([Recorder(stream, ("cls",)) for _ in folders], model, data, folders)
    pair = [Outdated(stream, ("cls",), 3), Recorder(stream, ("cls",), 3)]
    found = run_probes(pair, model, data, folders)
    assert isinstance(found[0], TrainingError)
    assert "run the same command again" in str(found[0])
    assert isinstance(found[1], Outcome)
    assert not (folders[0] / "probe.pt").exists()


def test_images_left_out_of_crops_are_told(model: LoadedModel, tmp_path: Path) -> None:
    from PIL import Image

    for i in range(8):
        path = tmp_path / "photos/train" / f"c{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (i * 20, 0, 0)).save(path)
    path.write_bytes(b"no image")
    settings = Settings(cache=tmp_path / "cache", workers=0, device="cpu", skip_bad=1)
    data = data_of(f"folder[labels=folders,path={tmp_path / 'photos'}]", settings)
    stream = Stream(data.open("train"), np.arange(8), CROPS, 4, 2, 0)
    run_probe(Recorder(stream, ("cls",)), model, data)
    (why,) = data.skipped
    assert "7.png" in why


def test_different_streams_are_not_one(data: TaskData, model: LoadedModel) -> None:
    one, two = stream_of(data, CROPS), stream_of(data, CROPS, seed=1)
    assert one.key != two.key
    assert one.key == stream_of(data, CROPS).key
    with pytest.raises(ValueError, match="different streams"):
        run_probes([Recorder(one, ("cls",)), Recorder(two, ("cls",))], model, data)


def test_stored_and_forwarded_batches_are_the_same_numbers(
    data: TaskData, model: LoadedModel
) -> None:
    stream = stream_of(data, WHOLE)
    stored = list(open_stream(stream, ("cls", "tokens"), model, data).epoch(1))
    data.cache = FeatureCache(data.cache.root / "full", token_bytes=0)
    again = list(open_stream(stream, ("cls", "tokens"), model, data).epoch(1))
    assert len(stored) == len(again) == 3
    for (a, y), (b, z) in zip(stored, again, strict=True):
        assert torch.equal(y, z)
        torch.testing.assert_close(a["tokens"], b["tokens"], atol=4e-3, rtol=1e-3)
        torch.testing.assert_close(a["cls"], b["cls"], atol=4e-3, rtol=1e-3)


def test_features_of_a_stream_can_stand_in_a_graph(data: TaskData, model: LoadedModel) -> None:
    for transform in (CROPS, WHOLE):
        batches = open_stream(stream_of(data, transform), ("tokens",), model, data)
        features, _ = next(iter(batches.epoch(0)))
        weight = torch.ones(96, requires_grad=True)
        (features["tokens"] * weight).sum().backward()
        assert weight.grad is not None


def test_linear_probes_of_one_stream_share_its_forward(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("SSLBENCH_PROGRESS", "plain")
    short = "protocol=linear_dino&epochs=1&batch=32&lrs=0.1"
    tasks = [f"linear@mini_objects?{short}", f"linear@mini_objects?{short}&tokens=avg"]
    alone = [
        evaluate([MODEL], [text], Store(tmp_path / f"r{i}"), settings).ran[0]
        for i, text in enumerate(tasks)
    ]
    capsys.readouterr()
    both = evaluate([MODEL], tasks, Store(tmp_path / "both"), settings)
    assert "one stream of mini_objects train, rrc32_bilinear trains linear, linear" in (
        capsys.readouterr().err
    )
    assert [result.metrics for result in both.ran] == [result.metrics for result in alone]
    assert any("stream of" in part["what"] for part in both.ran[0].cost["shared"])


# Cells that read other cells, and folders to continue in


@dataclass(frozen=True, kw_only=True)
class Echo(Task):
    """Says again what k-NN said; leaves a note in its folder when it fails."""

    version: ClassVar[int] = 1
    headline: ClassVar[str] = "top1"

    k: int = 5
    fail: bool = False

    def cells(self, data: TaskData) -> tuple[str, ...]:
        return (f"knn@mini_objects?k={self.k}",)

    def passes(self, model: LoadedModel, data: TaskData) -> Sequence[FrozenPass]:
        raise DataError("cannot say")

    def run(self, model: LoadedModel, data: TaskData) -> Outcome:
        assert data.workspace is not None
        visits = data.workspace / "visits"
        visits.write_text((visits.read_text() if visits.exists() else "") + "x")
        if self.fail and len(visits.read_text()) < 2:
            raise DataError("stopped half way")
        return data.cell(model, self.cells(data)[0])

    def score(self, outcome: Outcome) -> dict[str, Metric]:
        return {"top1": accuracy_metric(outcome.columns["value"] == 1)}


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> None:
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda k, n: Echo if n == "echo" else load(k, n))


@pytest.mark.usefixtures("echo")
def test_a_cell_that_reads_another_makes_it_and_carries_its_identity(
    settings: Settings, tmp_path: Path
) -> None:
    store = Store(tmp_path / "r")
    report = evaluate([MODEL], ["echo@mini_scenes"], store, settings)
    assert report.failed == {}
    knn, echoed = report.ran
    assert knn.task_spec == "knn@mini_objects?k=5"
    assert echoed.identity.fields["cells"] == [knn.identity.digest]
    assert echoed.metrics["top1"] == knn.metrics["top1"]
    (twin,) = [
        result
        for result in evaluate([f"{MODEL}?seed=1"], ["echo@mini_scenes"], store, settings).ran
        if result.identity.task == "echo"
    ]
    assert twin.identity.fields["cells"] != echoed.identity.fields["cells"]
    assert protocol_text(twin) == protocol_text(echoed)
    other = evaluate([MODEL], ["echo@mini_scenes?k=7"], store, settings).ran[-1]
    assert other.identity.fields["cells"] != echoed.identity.fields["cells"]
    again = evaluate([MODEL], ["echo@mini_scenes,knn@mini_objects?k=5"], store, settings)
    assert (len(again.ran), len(again.stood)) == (0, 2)


@pytest.mark.usefixtures("echo")
def test_a_cell_that_is_read_and_asked_for_is_made_once(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = "linear@mini_objects?epochs=1&batch=64&lrs=0.1"
    monkeypatch.setattr(Echo, "cells", lambda self, data: (spec,))
    for tasks in ([spec, "echo@mini_objects"], ["echo@mini_objects", spec]):
        store = Store(tmp_path / f"{tasks[0].partition('@')[0]}")
        report = evaluate([MODEL], tasks, store, settings)
        assert [result.identity.task for result in report.ran] == ["linear", "echo"]


@pytest.mark.usefixtures("echo")
def test_a_cell_that_failed_is_not_tried_again_for_its_reader(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.image.knn import Knn

    tried = []

    def failing(*_: Any) -> Outcome:
        tried.append(1)
        raise DataError("no luck")

    monkeypatch.setattr(Knn, "run", failing)
    tasks = ["knn@mini_objects?k=5", "echo@mini_objects"]
    report = evaluate([MODEL], tasks, Store(tmp_path / "r"), settings)
    assert len(tried) == 1
    assert len(report.failed) == 2
    assert "reads" in list(report.failed.values())[1]
    assert "no luck" in list(report.failed.values())[1]


@pytest.mark.usefixtures("echo")
@pytest.mark.parametrize("where", ["announcement", "pass"])
def test_a_defect_in_what_is_shared_fails_its_own_cells_only(
    where: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def defect(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    if where == "announcement":
        monkeypatch.setattr(Echo, "passes", defect)
    else:
        monkeypatch.setattr(TaskData, "prepare", defect)
    tasks = ["echo@mini_objects", "knn@mini_objects?k=3"]
    report = evaluate([MODEL], tasks, Store(tmp_path / "r"), settings)
    assert report.failed == {}
    assert len(report.ran) == 3


def test_what_a_failed_probe_has_learnt_stays(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.probe import SweepProbe

    keep_every_epoch(monkeypatch)
    step = SweepProbe.step

    def failing(self: SweepProbe, features: Any, target: Tensor, epoch: int, i: int) -> None:
        if epoch == 2 and self.epochs == 4:
            raise DataError("the disk was away")
        step(self, features, target, epoch, i)

    short = "linear@mini_objects?batch=64&lrs=0.1"
    tasks = [f"{short}&epochs=4", f"{short}&epochs=3"]
    with monkeypatch.context() as patch:
        patch.setattr(SweepProbe, "step", failing)
        report = evaluate([MODEL], tasks, Store(tmp_path / "r"), settings)
    assert len(report.failed) == len(report.ran) == 1
    (left,) = (settings.cache / "work").glob("*/probe.pt")
    assert torch.load(left, weights_only=True)["epoch"] == 2
    assert not evaluate([MODEL], tasks, Store(tmp_path / "r"), settings).failed
    assert not list((settings.cache / "work").iterdir())


@pytest.mark.usefixtures("echo")
def test_the_folder_of_a_cell_stays_until_its_result_is_stored(
    settings: Settings, tmp_path: Path
) -> None:
    store = Store(tmp_path / "r")
    tasks = ["echo@mini_objects?fail=true"]
    assert evaluate([MODEL], tasks, store, settings).failed
    (left,) = (settings.cache / "work").iterdir()
    assert (left / "visits").read_text() == "x"
    assert not evaluate([MODEL], tasks, store, settings).failed
    assert not list((settings.cache / "work").iterdir())


def test_images_that_a_task_learns_from_are_in_its_identity(
    settings: Settings, model: LoadedModel
) -> None:
    found = []
    for text in ("", "?whiten=mini_objects", "?whiten=mini_objects[n=50]"):
        (request,) = plan.requests([f"retrieval@mini_oxford{text}"])
        data = task_data(request, 0, settings, FeatureCache(settings.cache))
        found.append(plan.identity(model, request, data))
    assert "facts" not in found[0].fields
    assert found[1].fields["facts"] != found[2].fields["facts"]
