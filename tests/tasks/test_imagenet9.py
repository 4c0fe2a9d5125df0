"""ImageNet-9: the head's largest class mapped to nine, and the gap between two variants."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.checkpoint import load_model
from bench.engine import Settings, evaluate
from bench.errors import DataError, SpecError
from bench.imagenet9 import CLASSES, VARIANTS, super_classes
from bench.records import Outcome
from bench.spec import bind, parse, parse_dataset
from bench.stats import wilson
from bench.store import Store
from bench.task import warnings_of
from bench.transforms import EvalTransform
from bench.values import non_default
from tasks.image.imagenet9 import ImageNet9, classify
from tests.tasks.fakes import FakeSplit, FakeTable, fake_model

REAL = Path(
    os.environ.get("SSLBENCH_REAL_DATA", Path(__file__).resolve().parents[2] / "../shared/data")
)
HEAD_CLASSES = 12  # class i of the fake head belongs to super-class i, the last three to none


class FakeDataset:
    """What the task asks of the dataset."""

    trained_on = "imagenet1k"

    def super_classes_of(self, classes: Any) -> np.ndarray:
        """The first nine name the super-classes in order."""
        return np.array([i if i < 9 else -1 for i in range(len(classes))])


class FakeImages(FakeSplit):
    """A split with an image size and a dataset."""

    side = 32
    dataset: Any = FakeDataset()

    def source(self, index: int) -> tuple[Any, str, str]:
        """The dataset of every sample."""
        return self.dataset, "val", ""

    def image(self, index: int) -> Image.Image:
        """A black square."""
        return Image.new("RGB", (self.side, self.side))


@dataclass
class FakeData:
    """What the task asks of TaskData; the head reads one-hot features as they are."""

    val: FakeImages
    head_classes: int = HEAD_CLASSES
    parts: Any = field(default_factory=lambda: parse_dataset("imagenet9"))
    token: str = "cls4"
    asked: list[Any] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)

    def open(self, name: str) -> FakeImages:
        assert name == "val"
        return self.val

    labelled = open

    def beside(self, parts: Any) -> Any:
        classes = tuple(f"n{i:08}" for i in range(self.head_classes))
        return SimpleNamespace(labelled=lambda _: SimpleNamespace(classes=classes))

    def eval_transform(self, model: Any, size_px: Any = None, crop_pct: Any = None) -> Any:
        own = model.backbone.input
        return EvalTransform(type(own)(own.size_px, crop_pct=crop_pct))

    def cell(self, model: Any, spec: str) -> Outcome:
        self.cells.append(spec)
        extras = {
            "head_token": np.array(["avg", self.token]),
            "reported_head": np.array(1),
            "weight": np.eye(self.head_classes),
            "bias": np.zeros(self.head_classes),
        }
        return Outcome(columns={"id": np.array(["a"])}, extras=extras)

    def features(self, model: Any, split: FakeImages, transform: Any) -> FakeTable:
        self.asked.append((split.name, transform.id))
        return FakeTable(split)


def foregrounds(per_class: int, paired: bool = True) -> list[tuple[str, str, int]]:
    """(variant, file, super-class) of images in all eight variants."""
    found = []
    for variant in VARIANTS:
        for target in range(9):
            for i in range(per_class):
                stem = f"n{target:08}_{i}"
                behind = f"__bg_{i % 9}_n00000007_{i}" if variant.startswith("mixed") else ""
                lone = "" if paired or variant != "mixed_rand" else "9"
                found.append((variant, f"{stem}{lone}{behind}.JPEG", target))
    return found


def world(predicted: Any, per_class: int = 4, paired: bool = True, **changes: Any) -> FakeData:
    """Images on which the head says `predicted(variant, target, number)`."""
    rows = foregrounds(per_class, paired)
    said = np.array([predicted(variant, y, i) for i, (variant, _, y) in enumerate(rows)])
    targets = np.array([y for _, _, y in rows])
    ids = tuple(f"{variant}/{CLASSES[y]}/{file}" for variant, file, y in rows)
    values = np.eye(changes.get("head_classes", HEAD_CLASSES))[said]
    return FakeData(FakeImages("imagenet9", values, targets, CLASSES, ids), **changes)


def run(data: FakeData, **fields: Any) -> Outcome:
    return ImageNet9(**fields).run(fake_model(), data)


# ---------------------------------------------------------------------- what is computed


def test_features_that_are_the_answer_score_one_in_every_variant() -> None:
    outcome = run(world(lambda variant, y, i: y))
    metrics = ImageNet9().score(outcome)
    assert set(metrics) == {*VARIANTS, "bg_gap"}
    assert {metrics[name].value for name in VARIANTS} == {1.0}
    assert metrics["original"].n == 36
    assert metrics["mixed_rand"].interval == "wilson95"
    gap = metrics["bg_gap"]
    assert (gap.value, gap.low, gap.high, gap.n) == (0.0, 0.0, 0.0, 36)
    assert warnings_of(outcome) == []


def test_shuffled_answers_score_chance_within_the_interval() -> None:
    rng = np.random.default_rng(0)
    metrics = ImageNet9().score(run(world(lambda *_: rng.integers(9), per_class=30)))
    inside = [metrics[name].low < 1 / 9 < metrics[name].high for name in VARIANTS]
    assert sum(inside) >= 7
    assert metrics["bg_gap"].low < 0 < metrics["bg_gap"].high


def test_a_class_that_belongs_to_no_super_class_is_wrong() -> None:
    outcome = run(world(lambda variant, y, i: 10 if y == 2 else y))
    third = outcome.columns["target"] == 2
    assert set(outcome.columns["prediction"][third]) == {-1}
    assert set(outcome.columns["head_prediction"][third]) == {10}
    assert ImageNet9().score(outcome)["original"].value == pytest.approx(8 / 9)


def test_the_gap_is_the_difference_resampled_by_foreground() -> None:
    rng = np.random.default_rng(1)
    hard = rng.random(2000) < 0.3  # both variants fail on the same foregrounds, and rand on more

    def said(variant: str, y: int, i: int) -> int:
        number = i % (9 * 40)
        wrong = hard[number] or (variant == "mixed_rand" and number % 10 == 0)
        return (y + 1) % 9 if wrong else y

    data = world(said, per_class=40)
    outcome = run(data)
    metrics = ImageNet9().score(outcome)
    gap = metrics["bg_gap"]
    difference = metrics["mixed_same"].value - metrics["mixed_rand"].value
    assert gap.value == pytest.approx(difference)
    assert gap.interval == "bootstrap95"
    assert 0 < gap.low < gap.value < gap.high
    # Pairs that agree carry no noise: an unpaired interval would be far wider.
    spread = wilson(int(360 * metrics["mixed_same"].value), 360)
    assert gap.high - gap.low < 0.8 * (spread[1] - spread[0])
    order = np.random.default_rng(2).permutation(len(data.val))
    data.val = FakeImages(
        "imagenet9",
        data.val.values[order],
        data.val.targets[order],
        CLASSES,
        tuple(data.val.ids[i] for i in order),
    )
    assert ImageNet9().score(run(data)) == metrics


def test_variants_of_unlike_foregrounds_are_compared_as_independent() -> None:
    rng = np.random.default_rng(0)
    outcome = run(world(lambda v, y, i: y if rng.random() < 0.7 else 0, 20, paired=False))
    metrics = ImageNet9().score(outcome)
    gap, same, rand = (metrics[name] for name in ("bg_gap", "mixed_same", "mixed_rand"))
    assert (gap.interval, gap.n) == ("wilson95", 360)
    assert gap.value == pytest.approx(same.value - rand.value)
    reach = np.hypot(same.value - same.low, rand.high - rand.value)
    assert gap.low == pytest.approx(gap.value - reach)


def test_value_is_the_headline_s_share_and_nan_elsewhere(tmp_path: Path) -> None:
    outcome = run(world(lambda variant, y, i: y if i % 3 else 0))
    value, variant = outcome.columns["value"], outcome.columns["variant"]
    assert np.isnan(value[variant != "mixed_rand"]).all()
    metrics = ImageNet9().score(outcome)
    assert metrics["mixed_rand"].value == pytest.approx(np.nanmean(value))
    outcome.save(tmp_path / "outcome.npz")
    assert ImageNet9().score(Outcome.load(tmp_path / "outcome.npz")) == metrics


def test_the_reported_head_is_asked_for_its_own_token() -> None:
    data = world(lambda variant, y, i: y)
    outcome = run(data, protocol="linear_dino", selection="test")
    assert data.cells == ["linear@imagenet1k?protocol=linear_dino&selection=test"]
    assert outcome.extras["token"] == "cls4"
    assert any("selection=test" in text for text in warnings_of(outcome))
    data.cells.clear()
    run(data, trained_on="imagenette")
    assert data.cells[0].startswith("linear@imagenette?")


def test_logits_are_those_of_the_head_in_float64_whatever_the_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(50, 8)), rng.normal(size=(30, 8)), rng.normal(size=30)
    split = FakeSplit("x", x, np.zeros(50, dtype=int), ("a",))
    expected = (x.astype(np.float16).astype(np.float64) @ w.T + b).argmax(1)
    for chunk in (4096, 7):
        monkeypatch.setattr("tasks.image.imagenet9.CHUNK", chunk)
        np.testing.assert_array_equal(classify(FakeTable(split), "cls", w, b), expected)


def test_images_are_taken_whole_and_another_side_is_told() -> None:
    data = world(lambda variant, y, i: y)
    run(data)
    assert data.asked == [("imagenet9", "ev32-bicubic-1")]
    data.val.side = 48
    assert warnings_of(run(data)) == ["images of 48 x 48 pixels were resized to the model's 32"]


def test_it_announces_the_pass_that_it_reads() -> None:
    data = world(lambda variant, y, i: y)
    announced = ImageNet9().passes(fake_model(), data)
    run(data)
    assert [(p.split.name, p.transform.id) for p in announced] == data.asked


def test_the_map_of_imagenet_has_the_published_counts() -> None:
    counts = np.bincount(super_classes()[super_classes() >= 0])
    assert counts.tolist() == [116, 52, 42, 36, 35, 27, 26, 20, 16]


# ---------------------------------------------------------------------- heads and errors


def test_super_classes_that_the_head_cannot_name_are_told() -> None:
    data = world(lambda variant, y, i: min(y, 6), head_classes=7)
    (text,) = warnings_of(run(data))
    assert "no class of 07_primate, 08_fish" in text


def test_data_that_is_not_imagenet9_is_refused() -> None:
    data = world(lambda variant, y, i: y)
    data.val.dataset = SimpleNamespace()
    data.parts = parse_dataset("imagenette")
    with pytest.raises(SpecError, match="not on imagenette"):
        run(data)
    data.val.dataset = FakeDataset()
    data.parts = parse_dataset("imagenet9+imagenette")
    with pytest.raises(SpecError, match="alone"):
        run(data)


def test_a_part_without_the_headline_is_refused() -> None:
    data = world(lambda variant, y, i: y)
    kept = [i for i, id_ in enumerate(data.val.ids) if "mixed_rand" not in id_]
    ids = tuple(data.val.ids[i] for i in kept)
    data.val = FakeImages("imagenet9", data.val.values[kept], data.val.targets[kept], CLASSES, ids)
    with pytest.raises(DataError, match="mixed_rand"):
        run(data)


@pytest.mark.parametrize("fields", [{"trained_on": ""}, {"trained_on": "imagenet1k[n"}])
def test_wrong_fields_are_refused_when_the_task_is_made(fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        ImageNet9(**fields)


def test_fields_bind_from_a_spec_and_identity_holds_what_differs() -> None:
    spec = parse("imagenet9@x?protocol=linear_dino&selection=test&trained_on=imagenette")
    assert non_default(bind(ImageNet9, dict(spec.options))) == {
        "protocol": "linear_dino",
        "selection": "test",
        "trained_on": "imagenette",
    }


# ---------------------------------------------------------------------- real photographs


def test_real_photographs_through_a_head_of_imagenette(tmp_path: Path) -> None:
    if not (REAL / "derived/in9_tiny").is_dir() or not (REAL / "imagenette2-224").is_dir():
        pytest.skip(f"no in9_tiny and imagenette2-224 in {REAL}: set SSLBENCH_REAL_DATA")
    root = tmp_path / "data"
    root.mkdir()
    (root / "bg_challenge").symlink_to((REAL / "derived/in9_tiny").resolve())
    (root / "imagenette2-224").symlink_to((REAL / "imagenette2-224").resolve())
    store = Store(tmp_path / "results")
    spec = "imagenet9@imagenet9?trained_on=imagenette[n=60,val_n=30]"
    settings = Settings(data=root, cache=tmp_path / "cache", workers=0, device="cpu")
    model = "random:vit_mini_patch8_16"
    report = evaluate([model], [spec], store, settings)
    assert report.failed == {}
    found = next(result for result in report.ran if result.task_spec.startswith("imagenet9"))
    assert {name for name in found.metrics if name != "bg_gap"} == set(VARIANTS)
    assert found.metrics["mixed_rand"].n == 90
    text = " ".join(found.warnings)
    assert "no class of 01_bird" in text
    assert "08_fish" not in text  # tench
    assert "resized to the model's 16" in text
    pairs = store.outcome(found).columns
    same, rand = (set(pairs["stem"][pairs["variant"] == v]) for v in ("mixed_same", "mixed_rand"))
    assert same == rand
    assert load_model(model).backbone.input.size_px == 16
