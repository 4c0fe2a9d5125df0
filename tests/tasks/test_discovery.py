"""Object discovery: the task around the masks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import Resize

from bench.annotations import semantic_of
from bench.checkpoint import load_model
from bench.dataset import open_split
from bench.errors import DataError, SpecError
from bench.plan import requests
from bench.task import warnings_of
from tasks.dense.discovery import Discovery
from tests.bench.prototyped import write_prototyped
from tests.bench.trees import write_image
from tests.tasks.coded_photos import (
    OBJECTS,
    Reader,
    classes_of,
    photo,
    reader,
    run,
    write_coded,
)

REAL = Path(
    os.environ.get("SSLBENCH_REAL_DATA", Path(__file__).resolve().parents[2] / "../shared/data")
)
SPEC = "discovery@voc2012?mass=1&size_px=64"


def winners(shares: Tensor) -> Tensor:
    """(b, heads, h, w): each object is a head, 1 where the patch has more of it than of others."""
    best = shares.argmax(-1)
    return torch.nn.functional.one_hot(best, OBJECTS).permute(0, 3, 1, 2).float()


def prototypes(shares: Tensor) -> Tensor:
    """(b, h, w, k) of the same."""
    return winners(shares).permute(0, 2, 3, 1)


def blobs(seed: int, side: int = 64, objects: int = 3) -> np.ndarray:
    """(side, side) rectangles in a rim of void, which need not fit the patches."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.uint8)
    for number in rng.permutation([1, 2, 5])[:objects].tolist():  # 1 and 2 are of one class
        top, left = rng.integers(0, side - 20, 2)
        bottom, right = top + rng.integers(6, 30), left + rng.integers(6, 30)
        labels[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1] = 255
        labels[top:bottom, left:right] = number
    return labels


def photos(n: int = 6) -> dict[str, np.ndarray]:
    return {f"2007_{i:06d}": blobs(i, objects=i % 3 + 1) for i in range(n)}


def ceiling(labels: np.ndarray, regions: np.ndarray, ignore_void: bool = False) -> float:
    """Mean best overlap of patches given to whatever object fills most of them."""
    seen = np.where(labels == 255, 0, labels)
    said = np.zeros_like(seen)
    for top in range(0, len(seen), 8):
        for left in range(0, len(seen), 8):
            counts = np.bincount(seen[top : top + 8, left : left + 8].ravel(), minlength=OBJECTS)
            said[top : top + 8, left : left + 8] = counts.argmax()
    counted = labels != 255 if ignore_void else np.ones(labels.shape, dtype=bool)
    best = []
    for region in sorted(set(regions.ravel().tolist()) - {0, 255}):
        true = regions == region
        scores = [
            (true & mask).sum() / ((true | mask) & counted).sum()
            for mask in (said == value for value in range(OBJECTS))
            if mask.any()
        ]
        best.append(max(scores))
    return float(np.mean(best))


@pytest.mark.parametrize("void", ["background", "ignore"])
@pytest.mark.parametrize("objects", ["semantic", "instance"])
def test_maps_that_know_the_objects_reach_the_ceiling_of_the_patches(
    tmp_path: Path, void: str, objects: str
) -> None:
    written = photos()
    root = write_coded(tmp_path, written)
    task, outcome = run(f"{SPEC}&void={void}&objects={objects}", root, reader(winners))
    expected = []
    for labels in written.values():
        regions = labels if objects == "instance" else classes_of(labels)
        expected.append(ceiling(labels, regions, void == "ignore"))
    np.testing.assert_allclose(outcome.columns["value"], expected, atol=1e-12)
    assert outcome.columns["id"].tolist() == list(written)
    assert 0.3 < np.mean(expected) < 0.95
    metrics = task.score(outcome)
    assert metrics["jaccard"].value == pytest.approx(np.mean(expected))
    assert metrics["masks"].value == OBJECTS
    assert warnings_of(outcome) == []


def test_objects_that_fill_their_patches_score_1(tmp_path: Path) -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[8:32, 16:56], labels[40:56, 0:24] = 3, 5
    _, outcome = run(SPEC, write_coded(tmp_path, {"a": labels}), reader(winners))
    assert outcome.columns["value"].tolist() == [1.0]
    assert outcome.columns["regions"].tolist() == [2]


def test_random_maps_score_what_chance_gives(tmp_path: Path) -> None:
    """A random mask of density p and a region of share q: about p q / (p + q - p q)."""
    labels = np.zeros((64, 64), np.uint8)
    labels[:32, :32] = 1
    root = write_coded(tmp_path, {f"{i:03d}": labels for i in range(100)})
    generator = torch.Generator().manual_seed(0)

    def noise(shares: Tensor) -> Tensor:
        return torch.rand((len(shares), 1, *shares.shape[1:3]), generator=generator)

    _, outcome = run(SPEC.replace("mass=1", "mass=0.75"), root, reader(noise))
    p, q = 0.5, 0.25  # uniform values: the upper half of the cells has 3/4 of the mass
    value = outcome.columns["value"]
    assert value.mean() == pytest.approx(p * q / (p + q - p * q), abs=4 * value.std() / 10)


def test_prototypes_count_where_they_sum_to_more_than_1(tmp_path: Path) -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[0:8, 0:8], labels[16:32, 16:24] = 1, 3  # one patch, and two
    root = write_coded(tmp_path, {"a": labels})
    task, outcome = run(f"{SPEC}&protocol=jacc_slotmim", root, reader(prototypes))
    assert outcome.columns["candidates"].tolist() == [2]  # background and object 3
    # nothing covers object 1: background, with 61 of 64 patches, does not touch it
    np.testing.assert_allclose(outcome.columns["value"], [(0 + 1) / 2])
    assert task.score(outcome)["active_slots"].value == 2.0


def test_an_image_without_active_prototypes_has_0_and_a_warning(tmp_path: Path) -> None:
    root = write_coded(tmp_path, photos(2))
    dark = reader(lambda shares: prototypes(shares) / 64)
    _, outcome = run(f"{SPEC}&protocol=jacc_slotmim", root, dark)
    assert outcome.columns["value"].tolist() == [0.0, 0.0]
    assert warnings_of(outcome) == ["2 images have no candidate mask, and a value of 0"]


def test_images_without_a_region_do_not_count(tmp_path: Path) -> None:
    empty = np.zeros((64, 64), np.uint8)
    empty[0:8, 0:8] = 255
    written = {"2007_000000": empty, **{f"2008_00000{i}": blobs(i) for i in range(3)}}
    root = write_coded(tmp_path, written)
    task, outcome = run(SPEC, root, reader(winners))
    value = outcome.columns["value"]
    assert np.isnan(value).tolist() == [True, False, False, False]
    assert task.score(outcome)["jaccard"].n == 3
    assert task.score(outcome)["jaccard"].value == pytest.approx(value[1:].mean())
    assert warnings_of(outcome) == ["1 images without a region do not count"]


def test_images_are_squeezed_and_masks_take_the_nearest_as_the_public_scripts_do(
    tmp_path: Path,
) -> None:
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (50, 67, 3), np.uint8))
    task = Discovery(size_px=48)
    expected = np.asarray(Resize((48, 48))(image)).transpose(2, 0, 1)
    assert np.array_equal(task.transform()(image).numpy(), expected)
    labels = random.integers(0, OBJECTS, (50, 67)).astype(np.uint8)
    split = open_split("voc2012", "val", write_coded(tmp_path, {"a": labels}))
    assert np.array_equal(semantic_of(split, 0), classes_of(labels))
    palette = Image.open(tmp_path / "VOC2012/SegmentationClass/a.png")
    assert palette.mode == "P"
    expected = np.asarray(Resize((48, 48))(palette))
    assert np.array_equal(task._labels(split, 0, 48), expected)
    assert np.array_equal(task._labels(split, 0, 40), expected[:40, :40])


def test_a_rest_that_fills_no_patch_is_cut_off_from_both(tmp_path: Path) -> None:
    labels = np.zeros((69, 69), np.uint8)
    labels[8:24, 8:24], labels[66:, :] = 1, 3  # the second lies in the rest
    root = write_coded(tmp_path, {"a": labels})
    _, outcome = run(SPEC.replace("64", "69"), root, reader(winners))
    assert outcome.columns["regions"].tolist() == [1]
    assert outcome.columns["value"].tolist() == [1.0]
    assert warnings_of(outcome) == [
        "size_px=69 is no multiple of the 8 px patch: compared on the first 64 px"
    ]


@pytest.mark.parametrize(
    ("protocol", "size", "mass", "recipe"),
    [
        ("jacc_dino", 480, 0.6, "attn_cls"),
        ("jacc_ipvit", 512, 0.9, "attn_cls"),
        ("jacc_slotmim", 224, 0.99, "proto"),
    ],
)
def test_each_protocol_has_its_values_and_options_override_them(
    tmp_path: Path, protocol: Any, size: int, mass: float, recipe: str
) -> None:
    own = Discovery(protocol=protocol).values
    assert (own.size_px, own.mass, own.maps) == (size, mass, recipe)
    other = Discovery(protocol=protocol, size_px=64, mass=0.5).values
    assert (other.size_px, other.mass, other.maps) == (64, 0.5, recipe)
    model = reader(prototypes if recipe == "proto" else winners)
    run(f"discovery@voc2012?protocol={protocol}", write_coded(tmp_path, photos(1)), model)
    assert isinstance(model.backbone, Reader)
    ((asked, images),) = model.backbone.asked
    assert (asked, images.shape) == (recipe, (1, 3, size, size))


def test_the_outcome_does_not_depend_on_batches_or_on_other_images(tmp_path: Path) -> None:
    written = photos(7)
    outcomes = []
    for batch in (1, 3, 64):
        root = write_coded(tmp_path / str(batch), written)
        outcomes.append(run(SPEC, root, reader(winners), batch_size=batch)[1])
    for other in outcomes[1:]:
        for name, column in outcomes[0].columns.items():
            assert np.array_equal(column, other.columns[name]), name
    last = "2007_000006"
    root = write_coded(tmp_path / "one", {last: written[last]})
    assert run(SPEC, root, reader(winners))[1].columns["value"] == outcomes[0].columns["value"][6]


def test_processes_that_share_the_images_measure_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_coded(tmp_path, photos(7))
    _, whole = run(SPEC, root, reader(winners))
    for rank in range(2):
        monkeypatch.setattr("bench.dist.shard", lambda n, rank=rank: range(n)[rank::2])
        _, share = run(SPEC, root, reader(winners))
        for name, column in whole.columns.items():
            assert np.array_equal(column[rank::2], share.columns[name]), name


def test_masks_of_any_image_are_those_of_the_run() -> None:
    labels = blobs(4)
    masks = Discovery(size_px=64, mass=1.0).look(reader(winners), photo(labels), "cpu")
    assert masks.shape == (OBJECTS, 64, 64)
    assert masks.dtype == np.bool_
    assert np.array_equal(masks.sum(0), np.ones((64, 64)))
    assert [len(np.unique(m.reshape(8, 8, 8, 8).sum((1, 3)))) <= 2 for m in masks] == [True] * 8
    best = max((masks[k] & (labels == k)).sum() for k in range(1, OBJECTS))
    assert best > 50
    cut = Discovery(size_px=68, mass=1.0).look(reader(winners), photo(labels), "cpu")
    assert cut.shape == (OBJECTS, 68, 68)
    assert not cut[:, 64:].any()
    assert not cut[:, :, 64:].any()


def test_real_models_give_masks_of_heads_and_of_prototypes(tmp_path: Path) -> None:
    model = load_model(write_prototyped(tmp_path / "run"))
    image = photo(blobs(1))
    heads = Discovery(size_px=48).look(model, image, "cpu")
    assert heads.shape == (3, 48, 48)
    slots = Discovery(protocol="jacc_slotmim", size_px=48).look(model, image, "cpu")
    assert slots.shape[1:] == (48, 48)
    assert 1 <= len(slots) <= 12
    table: Any = model.backbone.vit.pos_embed
    table.data *= 100
    heads = Discovery(size_px=48).look(model, image, "cpu")
    other = Discovery(size_px=48, positions="size").look(model, image, "cpu")
    assert not np.array_equal(heads, other)


def test_real_photographs_score_what_their_masks_do_pixel_by_pixel() -> None:
    root = REAL / "derived/VOC_from_COCO"
    if not root.is_dir():
        pytest.skip(f"no {root}: set SSLBENCH_REAL_DATA")
    model = load_model("random:vit_mini_patch16_224")
    task, outcome = run("discovery@voc2012?size_px=224", root, model)
    assert isinstance(task, Discovery)
    expected = []
    for stem in outcome.columns["id"]:
        folder = root / "VOCdevkit/VOC2012"
        with Image.open(folder / f"JPEGImages/{stem}.jpg") as image:
            masks = task.look(model, image, "cpu")
        with Image.open(folder / f"SegmentationClass/{stem}.png") as stored:
            label = np.asarray(stored.resize((224, 224), Image.Resampling.NEAREST))
        best = []
        for region in set(label.ravel().tolist()) - {0, 255}:
            true = label == region
            best.append(max((true & mask).sum() / (true | mask).sum() for mask in masks))
        expected.append(np.mean(best))
    assert len(expected) == 10
    np.testing.assert_allclose(outcome.columns["value"], expected, atol=1e-12)


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size_px=0", "size_px=0 must be at least 1"),
        ("mass=0", "mass=0.0 must be above 0 and at most 1"),
        ("mass=1.5", "mass=1.5 must be"),
        ("protocol=jacc", "jacc_dino"),
    ],
)
def test_wrong_options_are_refused(options: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        requests([f"discovery@voc2012?{options}"])


def test_a_data_set_without_masks_is_refused_before_any_forward(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write_image(tmp_path / f"leaves/{part}/oak/a.jpg")
    model = reader(winners)
    with pytest.raises(SpecError, match="says nothing of the classes of pixels"):
        run(f"discovery@folder[path={tmp_path / 'leaves'}]", tmp_path, model)
    with pytest.raises(SpecError, match="says nothing of which object"):
        run(f"discovery@folder[path={tmp_path / 'leaves'}]?objects=instance", tmp_path, model)
    assert isinstance(model.backbone, Reader)
    assert model.backbone.asked == []


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    root = write_coded(tmp_path, photos(2))
    photo(blobs(0, side=72)).save(root / "VOC2012/JPEGImages/2007_000001.jpg", "PNG")
    with pytest.raises(DataError, match=r"2007_000001\.png has 64 x 64 pixels, its image .* 72"):
        run(SPEC, root, reader(winners))


def test_a_split_without_any_region_is_refused(tmp_path: Path) -> None:
    root = write_coded(tmp_path, {"a": np.zeros((64, 64), np.uint8)})
    with pytest.raises(DataError, match="none of its 1 images has a region"):
        run(SPEC, root, reader(winners))


def test_images_smaller_than_a_patch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="size_px=7 is smaller than one patch of reader, 8 px"):
        run(SPEC.replace("64", "7"), write_coded(tmp_path, photos(1)), reader(winners))


@pytest.mark.parametrize(
    ("protocol", "lacks", "message"),
    [
        ("jacc_dino", ["attn_cls"], "jacc_slotmim reads its prototypes and the task corloc"),
        ("jacc_dino", ["attn_cls", "proto"], "reads: the task corloc reads its keys"),
        ("jacc_ipvit", ["attn_cls", "proto", "key_last"], "take a ViT with a CLS token"),
        (
            "jacc_slotmim",
            ["proto"],
            "run of slotmim, slotcon, sove, or ibot.*jacc_dino reads its atten",
        ),
        ("jacc_slotmim", ["proto", "attn_cls"], "or ibot with norm_last_layer=true$"),
    ],
)
def test_a_model_without_the_maps_is_told_what_it_can_do(
    tmp_path: Path, protocol: str, lacks: list[str], message: str
) -> None:
    root = write_coded(tmp_path, photos(1))
    with pytest.raises(SpecError, match=message):
        run(f"{SPEC}&protocol={protocol}", root, reader(winners, lacks))


def test_a_swin_is_refused(tmp_path: Path) -> None:
    root = write_coded(tmp_path, photos(1))
    model = load_model("random:swin_tiny_patch4_window7_224")
    with pytest.raises(SpecError, match="has no CLS token that attends to the whole image"):
        run(SPEC, root, model)
