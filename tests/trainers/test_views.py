"""Views: pixels, boxes, flips and masks belong together; batches keep them so."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from trainers.blocks.geometry import intersection
from trainers.blocks.masks import BlockwiseMask
from trainers.blocks.views import Batch, View, ViewSpec, collate, cut_views, effective_epoch_factor

MASK = BlockwiseMask(4, 4, (0.4,), (0.0,))


def noise_image(seed: int = 0, size: tuple[int, int] = (52, 40)) -> Image.Image:
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def ramp_image() -> Image.Image:
    """Red grows with x, green with y, by one level a pixel: colours tell where they come from."""
    x, y = np.meshgrid(np.arange(200), np.arange(160))
    return Image.fromarray(np.stack((x, y, 0 * x), -1).astype(np.uint8))


def pixel_box(view: View, image: Image.Image) -> tuple[int, ...]:
    sides = np.array([image.width, image.height] * 2)
    return tuple(np.rint(view.box.astype(float) * sides).astype(int).tolist())


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_pixels_are_torchvisions_resized_crop_of_the_box(flip: float, interpolation: str) -> None:
    spec = ViewSpec(16, (0.1, 1.0), flip=flip, interpolation=interpolation)
    for seed in range(10):
        image = noise_image(seed)
        (view,) = cut_views(image, [spec], np.random.default_rng(seed))
        left, top, right, bottom = pixel_box(view, image)
        mode = tv.InterpolationMode(interpolation)
        crop = tv.resized_crop(image, top, left, bottom - top, right - left, [16, 16], mode)
        crop = tv.horizontal_flip(crop) if flip else crop
        assert torch.equal(view.image, tv.pil_to_tensor(crop))
        assert view.flipped == bool(flip)
        assert view.box.dtype == np.float32


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_views_colours_lie_where_its_box_and_flip_say(flip: float) -> None:
    image, spec = ramp_image(), ViewSpec(10, (0.2, 1.0), flip=flip)
    for seed in range(10):
        (view,) = cut_views(image, [spec], np.random.default_rng(seed))
        x0, y0, x1, y1 = view.box
        across = (np.arange(10) + 0.5) / 10
        u = 1 - across if flip else across
        x = (x0 + u * (x1 - x0)) * 200 - 0.5
        y = (y0 + across * (y1 - y0)) * 160 - 0.5
        inner = slice(1, -1)  # at its border a crop has no neighbours to filter
        red, green = view.image[0].numpy(), view.image[1].numpy()
        np.testing.assert_allclose(red[inner, inner], np.tile(x[inner], (8, 1)), atol=1.0)
        np.testing.assert_allclose(green[inner, inner].T, np.tile(y[inner], (8, 1)), atol=1.0)


def test_crops_keep_to_their_ranges_of_area_and_ratio() -> None:
    image, rng = noise_image(size=(400, 300)), np.random.default_rng(0)
    spec = ViewSpec(4, (0.2, 0.4))
    areas, flips = [], []
    for _ in range(300):
        (view,) = cut_views(image, [spec], rng)
        x0, y0, x1, y1 = pixel_box(view, image)
        areas.append((x1 - x0) * (y1 - y0) / (400 * 300))
        flips.append(view.flipped)
        assert 0.74 < (x1 - x0) / (y1 - y0) < 1.35
    assert 0.198 < min(areas) < 0.21
    assert 0.39 < max(areas) < 0.402
    assert 110 < sum(flips) < 190  # 150, and 4.6 standard deviations


def test_all_randomness_comes_from_the_generator() -> None:
    specs = [ViewSpec(8, (0.1, 1.0), mask=MASK), ViewSpec(8, (0.1, 1.0), mask=MASK)]
    image = noise_image()
    np.random.seed(0)
    one = collate([(0, cut_views(image, specs, np.random.default_rng(5)))])
    np.random.seed(1)
    torch.manual_seed(1)
    two = collate([(0, cut_views(image, specs, np.random.default_rng(5)))])
    three = collate([(0, cut_views(image, specs, np.random.default_rng(6)))])
    assert all(torch.equal(a, b) for a, b in zip(one.images, two.images, strict=True))
    assert torch.equal(one.boxes, two.boxes)
    assert all(torch.equal(a, b) for a, b in zip(one.masks, two.masks, strict=True))
    assert not torch.equal(one.boxes, three.boxes)


def test_views_of_one_image_have_their_own_boxes_and_masks() -> None:
    specs = [ViewSpec(8, (0.1, 1.0), mask=MASK), ViewSpec(8, (0.1, 1.0), mask=MASK)]
    a, b = cut_views(noise_image(), specs, np.random.default_rng(0))
    assert not np.array_equal(a.box, b.box)
    assert not np.array_equal(a.mask, b.mask)


def test_a_view_overlaps_the_earlier_ones_that_it_names() -> None:
    small = ViewSpec(8, (0.05, 0.1))
    rng, image = np.random.default_rng(0), noise_image(size=(300, 300))
    met = {(): 0, (0,): 0}
    for overlaps in met:
        specs = [small, dataclasses.replace(small, overlaps=overlaps, min_overlap=0.2)]
        for _ in range(200):
            first, second = (pixel_box(v, image) for v in cut_views(image, specs, rng))
            area = (second[2] - second[0]) * (second[3] - second[1])
            met[overlaps] += intersection(first, second) >= 0.2 * area
    assert met[()] < 70  # left to chance
    assert met[0,] > 150  # ten tries leave a few pairs apart


def sample(index: int) -> tuple[int, list[View]]:
    specs = [
        ViewSpec(8, (0.1, 1.0), mask=MASK),
        ViewSpec(8, (0.1, 1.0)),
        ViewSpec(4, (0.1, 1.0)),
    ]
    return index, cut_views(noise_image(index), specs, np.random.default_rng(index))


def test_collating_groups_by_view_and_keeps_each_images_facts_in_its_row() -> None:
    samples = [sample(index) for index in (7, 3, 5)]
    batch = collate(samples)
    assert [tuple(images.shape) for images in batch.images] == [(3, 3, 8, 8)] * 2 + [(3, 3, 4, 4)]
    assert batch.index.tolist() == [7, 3, 5]
    assert len(batch) == 3
    assert batch.masks[1] is None
    assert batch.masks[2] is None
    for row, (_, views) in enumerate(samples):
        assert np.array_equal(batch.masks[0][row], views[0].mask)
        for v, view in enumerate(views):
            assert torch.equal(batch.images[v][row], view.image)
            assert np.array_equal(batch.boxes[row, v], view.box)
            assert batch.flips[row, v] == view.flipped


def facts(batch: Batch) -> list[torch.Tensor]:
    masks = [mask for mask in batch.masks if mask is not None]
    return [*batch.images, batch.boxes, batch.flips, *masks, batch.index]


def test_the_parts_of_a_batch_put_together_are_the_batch() -> None:
    batch = collate([sample(index) for index in range(6)])
    parts = batch.split(3)
    assert [len(part) for part in parts] == [2, 2, 2]
    for whole, *pieces in zip(facts(batch), *map(facts, parts), strict=True):
        assert torch.equal(whole, torch.cat(pieces))


def test_moving_a_batch_changes_nothing_in_it() -> None:
    batch = collate([sample(index) for index in range(2)])
    moved = batch.to(torch.device("cpu"))
    assert all(torch.equal(a, b) for a, b in zip(facts(batch), facts(moved), strict=True))


def test_effective_epochs_count_the_pixels_of_all_views() -> None:
    large, small = ViewSpec(224, (0.25, 1.0)), ViewSpec(96, (0.05, 0.25))
    assert effective_epoch_factor([large]) == 1  # MAE
    assert effective_epoch_factor([large] * 2) == 2  # SlotMIM
    assert effective_epoch_factor([large] * 2 + [small] * 10) == pytest.approx(3.84, abs=0.005)
