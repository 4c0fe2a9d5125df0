"""CorLoc: the task around LOST."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bench.checkpoint import load_model
from bench.errors import DataError, SpecError
from bench.plan import requests
from bench.records import Outcome
from bench.task import warnings_of
from bench.transforms import InputSpec
from tasks.dense.corloc import CorLoc
from tests.tasks.coded_photos import Reader, photo, reader, run, write_coded

REAL = Path(
    os.environ.get("SSLBENCH_REAL_DATA", Path(__file__).resolve().parents[2] / "../shared/data")
)
SPEC = "corloc@voc2012"
Corners = tuple[int, int, int, int]

#: (height, width) of images, which patches of 8 px do not divide, and the object of each
SCENES: list[tuple[tuple[int, int], Corners]] = [
    ((50, 67), (8, 16, 32, 40)),
    ((67, 50), (40, 0, 50, 24)),  # up to the edge, which padding lies behind
    ((50, 67), (16, 40, 24, 50)),
    ((50, 67), (48, 32, 67, 50)),
    ((41, 73), (0, 0, 8, 8)),
    ((67, 50), (24, 8, 40, 56)),
    ((56, 64), (8, 8, 24, 32)),
]


def alike(shares: Tensor) -> Tensor:
    """(b, h, w, 2): patches with a pixel of the object have one key, at a right angle to others."""
    touched = shares[..., 1:].sum(-1) > 0
    return torch.stack([touched, ~touched], dim=-1).float()


def noise(shares: Tensor) -> Tensor:
    return torch.randn(shares.shape, generator=torch.Generator().manual_seed(0))


def scene(size: tuple[int, int], corners: Corners, number: int = 1) -> np.ndarray:
    labels = np.zeros(size, np.uint8)
    left, top, right, bottom = corners
    labels[top:bottom, left:right] = number
    return labels


def photos() -> dict[str, np.ndarray]:
    return {f"2007_{i:06d}": scene(*args) for i, args in enumerate(SCENES)}


def boxes_in(outcome: Outcome) -> list[tuple[float, ...]]:
    sides = [outcome.columns[f"box_{side}"] for side in ("left", "top", "right", "bottom")]
    return list(zip(*(column.tolist() for column in sides), strict=True))


def true_boxes() -> dict[str, list[Corners]]:
    """As XML files state them: from 1."""
    return {
        f"2007_{i:06d}": [(left + 1, top + 1, right, bottom)]
        for i, (_, (left, top, right, bottom)) in enumerate(SCENES)
    }


def test_keys_that_know_the_object_give_its_box_exactly(tmp_path: Path) -> None:
    root = write_coded(tmp_path, photos(), true_boxes())
    task, outcome = run(SPEC, root, reader(alike))
    assert boxes_in(outcome) == [tuple(map(float, corners)) for _, corners in SCENES]
    assert outcome.columns["best_iou"].tolist() == [1.0] * len(SCENES)
    assert outcome.columns["value"].tolist() == [1.0] * len(SCENES)
    metrics = task.score(outcome)
    assert metrics["corloc"].value == 1.0
    assert metrics["corloc"].interval == "wilson95"
    assert metrics["mean_best_iou"].value == 1.0
    assert warnings_of(outcome) == []


def test_one_of_several_boxes_is_enough_and_the_first_pixel_is_1(tmp_path: Path) -> None:
    size = (48, 48)
    given: dict[str, list[Corners]] = {
        "a": [(30, 30, 48, 48), (1, 1, 16, 16)],  # the second from pixel 0
        "b": [(1, 1, 16, 32)],  # overlap of a half
        "c": [(1, 1, 16, 33)],  # of less
        "d": [],
    }
    root = write_coded(tmp_path, dict.fromkeys(given, scene(size, (0, 0, 16, 16))), given)
    task, outcome = run(SPEC, root, reader(alike))
    best = [1.0, 0.5, 16 / 33]
    np.testing.assert_allclose(outcome.columns["best_iou"], [*best, np.nan], atol=1e-12)
    np.testing.assert_array_equal(outcome.columns["value"], [1, 1, 0, np.nan])
    assert outcome.columns["boxes"].tolist() == [2, 1, 1, 0]
    assert task.score(outcome)["corloc"].value == 2 / 3
    assert task.score(outcome)["corloc"].n == 3
    assert task.score(outcome)["mean_best_iou"].value == pytest.approx(np.mean(best))
    assert warnings_of(outcome) == ["1 images without a box do not count"]
    task, outcome = run(f"{SPEC}?iou=0.51", root, reader(alike))
    assert task.score(outcome)["corloc"].value == 1 / 3


def test_random_keys_find_few_small_objects(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    written = {}
    for i in range(40):
        left, top = (8 * rng.integers(0, 12, 2)).tolist()
        written[f"{i:03d}"] = scene((128, 128), (left, top, left + 32, top + 32))
    root = write_coded(tmp_path, written)
    task, outcome = run(SPEC, root, reader(noise))
    assert task.score(outcome)["corloc"].value <= 0.1
    assert task.score(run(SPEC, root, reader(alike))[1])["corloc"].value == 1.0


def test_padding_is_zeros_after_normalisation_at_the_right_and_the_bottom(tmp_path: Path) -> None:
    model = reader(alike)
    assert isinstance(model.backbone, Reader)
    model.backbone.input = InputSpec(64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    labels = scene((50, 67), (0, 0, 30, 30))
    run(SPEC, write_coded(tmp_path, {"a": labels}), model)
    CorLoc().look(model, photo(labels), "cpu")
    for recipe, images in model.backbone.asked:
        assert (recipe, images.shape) == ("key_last", (1, 3, 56, 72))
        assert (images[..., :50, :67] < 0).all()
        assert (images[..., 50:, :] == 0).all()
        assert (images[..., 67:] == 0).all()


def test_the_outcome_does_not_depend_on_batches_or_on_other_images(tmp_path: Path) -> None:
    outcomes = []
    for batch in (1, 2, 64):
        root = write_coded(tmp_path / str(batch), photos(), true_boxes())
        outcomes.append(run(SPEC, root, reader(alike), batch_size=batch)[1])
    for other in outcomes[1:]:
        for name, column in outcomes[0].columns.items():
            assert np.array_equal(column, other.columns[name]), name
    one = {"2007_000003": photos()["2007_000003"]}
    _, alone = run(SPEC, write_coded(tmp_path / "one", one), reader(alike))
    assert boxes_in(alone) == [boxes_in(outcomes[0])[3]]


def test_processes_that_share_the_images_measure_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_coded(tmp_path, photos(), true_boxes())
    _, whole = run(SPEC, root, reader(alike))
    for rank in range(2):
        monkeypatch.setattr("bench.dist.shard", lambda n, rank=rank: range(n)[rank::2])
        _, share = run(SPEC, root, reader(alike))
        for name, column in whole.columns.items():
            assert np.array_equal(column[rank::2], share.columns[name]), name


def test_the_box_of_any_image_is_that_of_the_run(tmp_path: Path) -> None:
    model = load_model("random:vit_mini_patch4_32")
    rng = np.random.default_rng(3)
    for labels in photos().values():
        assert CorLoc().look(reader(alike), photo(labels), "cpu").shape == (4,)
    written = {f"{i}": rng.integers(0, 8, (30, 41)).astype(np.uint8) for i in range(5)}
    root = write_coded(tmp_path, written)
    _, outcome = run(SPEC, root, model)
    for labels, box in zip(written.values(), boxes_in(outcome), strict=True):
        assert tuple(CorLoc().look(model, photo(labels), "cpu")) == box


def test_positions_are_interpolated_as_in_dino_unless_asked_otherwise() -> None:
    model = load_model("random:vit_mini_patch4_32")
    assert model.backbone.pos_interp == "size"
    assert CorLoc()._prepared(model).backbone.pos_interp == "dino"
    assert CorLoc(positions="model")._prepared(model) is model


def test_an_image_smaller_than_a_patch_is_named_and_may_be_left_out(tmp_path: Path) -> None:
    root = write_coded(tmp_path, {"speck": scene((5, 30), (0, 0, 3, 5)), **photos()})
    small = r"JPEGImages/speck\.\w+ of voc2012.* has 30 x 5 pixels, less than a patch of 8 px"
    with pytest.raises(DataError, match=small):
        run(SPEC, root, reader(alike))
    _, outcome = run(SPEC, root, reader(alike), skip_bad=1)
    assert outcome.columns["id"].tolist() == sorted(photos())


def test_boxes_of_masks_are_marked(tmp_path: Path) -> None:
    _, outcome = run(SPEC, write_coded(tmp_path, photos()), reader(alike))
    assert outcome.columns["value"].tolist() == [1.0] * len(SCENES)
    assert warnings_of(outcome) == [
        "no folder Annotations: the true boxes are those of the objects' masks"
    ]


def test_real_photographs_are_read_at_their_size() -> None:
    root = REAL / "derived/VOC_from_COCO"
    if not root.is_dir():
        pytest.skip(f"no {root}: set SSLBENCH_REAL_DATA")
    model = load_model("random:vit_mini_patch16_224")
    task, outcome = run("corloc@voc2012[lists=segmentation]", root, model)
    assert len(outcome.columns["id"]) == 30
    assert (outcome.columns["boxes"] > 0).all()
    for stem, box in zip(outcome.columns["id"], boxes_in(outcome), strict=True):
        with Image.open(root / f"VOCdevkit/VOC2012/JPEGImages/{stem}.jpg") as image:
            width, height = image.size
        assert 0 <= box[0] < box[2] <= width
        assert 0 <= box[1] < box[3] <= height
    assert 0 <= task.score(outcome)["corloc"].value < 1
    assert len(warnings_of(outcome)) == 1  # boxes of masks


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("k_patches=0", "k_patches=0 must be at least 1"),
        ("iou=0", "iou=0.0 must be above 0 and at most 1"),
        ("iou=1.1", "iou=1.1 must be"),
    ],
)
def test_wrong_options_are_refused(options: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        requests([f"corloc@voc2012?{options}"])


def test_a_data_set_without_boxes_is_refused_before_any_forward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = reader(alike)
    root = write_coded(tmp_path, photos())
    monkeypatch.setattr("bench.data.voc2012.Voc2012.annotations", None)
    with pytest.raises(SpecError, match="voc2012 says nothing of boxes of objects"):
        run(SPEC, root, model)
    assert isinstance(model.backbone, Reader)
    assert model.backbone.asked == []


def test_a_split_without_any_box_is_refused(tmp_path: Path) -> None:
    root = write_coded(tmp_path, {"a": np.zeros((16, 16), np.uint8)})
    with pytest.raises(DataError, match="none of its 1 images has a box"):
        run(SPEC, root, reader(alike))


def test_a_swin_is_refused(tmp_path: Path) -> None:
    model = load_model("random:swin_tiny_patch4_window7_224")
    with pytest.raises(SpecError, match="has no attention over the whole image, whose keys corloc"):
        run(SPEC, write_coded(tmp_path, photos()), model)
