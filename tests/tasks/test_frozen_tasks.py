"""k-NN and linear probes end to end: images on disk, a random ViT, the real feature cache."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.checkpoint import LoadedModel, load_model
from bench.errors import DataError
from bench.features import FeatureCache
from bench.records import Outcome
from bench.spec import parse_dataset
from bench.streams import Batches, Stream, open_stream
from bench.task import TaskData, warnings_of
from bench.transforms import TrainTransform
from tasks.image.knn import Knn
from tasks.image.linear import Linear

CLASSES = 4
TINY = "random:vit_mini_patch8_16?seed=0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 + 20 images of 20 px whose class is their colour."""
    root = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    colours = rng.integers(40, 216, size=(CLASSES, 3))
    for split, count in (("train", 48), ("val", 20)):
        for i in range(count):
            noise = rng.integers(-40, 40, size=(20, 20, 3))
            pixels = (colours[i % CLASSES] + noise).clip(0, 255).astype(np.uint8)
            path = root / split / f"c{i % CLASSES}" / f"{i:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return root


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model(TINY)


def data_in(folder: Path, cache: Path, **changes: object) -> TaskData:
    parts = parse_dataset(f"folder[labels=folders,path={folder}]")
    return TaskData(parts, None, FeatureCache(cache), **{"batch_size": 10, **changes})


def same(a: Outcome, b: Outcome) -> bool:
    return all(np.array_equal(a.columns[name], b.columns[name]) for name in a.columns)


def test_knn_and_cached_linear_share_one_pass_and_learn_colours(
    folder: Path, model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_in(folder, tmp_path)
    knn = Knn(k=5, ks=(1, 5)).run(model, data)
    assert Knn().score(knn)["top1"].value > 0.9
    assert list(knn.columns["id"]) == list(data.open("val").ids)

    def never(*_: object) -> None:
        raise AssertionError("a second forward pass")

    monkeypatch.setattr(model.backbone, "features", never)
    task = Linear(epochs=30)
    outcome = task.run(model, data)
    assert task.score(outcome)["top1"].value > 0.9
    assert set(outcome.extras["head_token"]) == {"cls", "avg"}


@pytest.mark.parametrize("protocol", ["linear_dino", "linear_mae_sgd"])
def test_exact_protocols_forward_fresh_crops(
    protocol: str, folder: Path, model: LoadedModel, tmp_path: Path
) -> None:
    fields = {"epochs": 6, "warmup_epochs": 0.0, "batch": 16, "lrs": (0.1, 1.0)}
    task = Linear(protocol=protocol, **fields)
    outcome = task.run(model, data_in(folder, tmp_path / "a"))
    assert task.score(outcome)["top1"].value > 0.7
    other_pieces = data_in(folder, tmp_path / "b", batch_size=7)
    np.testing.assert_allclose(
        outcome.extras["test_accuracy"], task.run(model, other_pieces).extras["test_accuracy"]
    )


def source_of(model: LoadedModel, data: TaskData, rows: np.ndarray, batch: int) -> Batches:
    crops = TrainTransform("rrc_bilinear", 16)
    stream = Stream(data.open("train"), rows, crops, batch, len(rows) // batch, data.seed)
    return open_stream(stream, ("cls", "avg"), model, data)


def batches_of(
    folder: Path, model: LoadedModel, cache: Path, **changes: object
) -> list[tuple[dict[str, torch.Tensor], torch.Tensor]]:
    source = source_of(model, data_in(folder, cache, **changes), np.arange(3, 48), batch=12)
    return [*source.epoch(0), *source.epoch(1)]


def test_augmented_batches_repeat_and_do_not_depend_on_workers_or_pieces(
    folder: Path, model: LoadedModel, tmp_path: Path
) -> None:
    plain = batches_of(folder, model, tmp_path)
    assert [tuple(f["cls"].shape) for f, _ in plain] == [(12, 96)] * 6
    again = batches_of(folder, model, tmp_path)
    for (a, y), (b, z) in zip(plain, again, strict=True):
        assert torch.equal(a["avg"], b["avg"])
        assert torch.equal(y, z)
    for changes in ({"workers": 1}, {"batch_size": 5}, {"batch_size": 64}):
        for (a, y), (b, z) in zip(
            plain, batches_of(folder, model, tmp_path, **changes), strict=True
        ):
            assert torch.equal(y, z)
            torch.testing.assert_close(a["cls"], b["cls"])


def test_every_visit_of_an_image_sees_another_crop(
    folder: Path, model: LoadedModel, tmp_path: Path
) -> None:
    source = source_of(model, data_in(folder, tmp_path), np.array([17]), batch=1)
    ((first, _),), ((second, _),), ((again, _),) = (list(source.epoch(e)) for e in (0, 1, 0))
    assert not torch.allclose(first["avg"], second["avg"])
    assert torch.equal(first["avg"], again["avg"])


def test_only_the_given_rows_are_trained_on(
    folder: Path, model: LoadedModel, tmp_path: Path
) -> None:
    data = data_in(folder, tmp_path)
    rows = np.flatnonzero(data.open("train").targets == 2)
    ((_, target),) = source_of(model, data, rows, batch=len(rows)).epoch(0)
    assert target.tolist() == [2] * 12


def test_unreadable_images_stop_the_probe_unless_skipped(
    folder: Path, model: LoadedModel, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    for path in folder.rglob("*.png"):
        target = broken / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (broken / "train" / "c1" / "021.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"021\.png"):
        batches_of(broken, model, tmp_path / "cache")
    lenient = batches_of(broken, model, tmp_path / "cache", skip_bad=1)
    sizes = sorted(len(target) for _, target in lenient)
    assert sizes[0] == 11  # an epoch leaves out an incomplete batch, so one may miss the file
    assert sizes[2:] == [12, 12, 12, 12]


def test_splits_without_labels_are_refused(
    folder: Path, model: LoadedModel, tmp_path: Path
) -> None:
    unlabelled = TaskData(
        parse_dataset(f"folder[path={folder}]"), None, FeatureCache(tmp_path / "cache")
    )
    with pytest.raises(DataError, match="label"):
        Knn().run(model, unlabelled)


def test_splits_with_different_classes_are_refused(folder: Path, tmp_path: Path) -> None:
    data = data_in(folder, tmp_path)
    val = data.open("val")
    data.splits["val"] = dataclasses.replace(val, classes=(*val.classes[:-1], "c9"))
    with pytest.raises(DataError, match="in one only: c3, c9"):
        data.pair()


def test_the_manifest_covers_both_splits_and_splits_are_opened_once(
    folder: Path, tmp_path: Path
) -> None:
    data = data_in(folder, tmp_path)
    assert data.open("train") is data.open("train")
    assert data.manifest() == data_in(folder, tmp_path).manifest()
    assert len({data.manifest(), data.manifest(["train"]), data.manifest(["val"])}) == 3


def test_the_input_side_is_a_field_of_the_protocol(
    folder: Path, model: LoadedModel, tmp_path: Path
) -> None:
    data = data_in(folder, tmp_path)
    small = Knn(ks=(1,), k=1).run(model, data)
    large = Knn(ks=(1,), k=1, size_px=24, crop_pct=1.0).run(model, data)
    assert small.columns["id"].tolist() == large.columns["id"].tolist()
    assert len(list(tmp_path.glob("*/card.json"))) == 4
    assert warnings_of(small) == []
    assert same(small, Knn(ks=(1,), k=1, size_px=16).run(model, data))
