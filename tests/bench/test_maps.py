"""Maps of patches: each image's own, whatever it shares a batch with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from bench.checkpoint import LoadedModel
from bench.errors import CheckpointError, DataError
from bench.features import FeatureCache
from bench.maps import MapBatch, map_batches, placed
from bench.spec import parse_dataset
from bench.split import Split
from bench.task_data import TaskData
from bench.transforms import NativeTransform
from tests.tasks.photos import small_model

SIZES = ((30, 41), (32, 44), (31, 43), (44, 30), (32, 41), (30, 44))  # height, width
PATCH = 8


@dataclass(frozen=True)
class Photographs:
    """A split of noise in several sizes; the image `broken` cannot be read."""

    broken: int = -1
    name: str = "photographs"

    def __len__(self) -> int:
        return len(SIZES)

    def image(self, index: int) -> Image.Image:
        if index == self.broken:
            raise DataError(f"cannot read image {index}.jpg")
        pixels = np.random.default_rng(index).integers(0, 256, (*SIZES[index], 3), np.uint8)
        return Image.fromarray(pixels)


@pytest.fixture
def model() -> LoadedModel:
    return small_model()


def passed(
    model: LoadedModel, tmp_path: Path, split: Photographs | None = None, **settings: Any
) -> list[MapBatch]:
    """All batches, padded; `bad` goes to the pass and all other settings to the data."""
    bad = settings.pop("bad", None)
    data = TaskData(parse_dataset("mini_objects"), None, FeatureCache(tmp_path), **settings)
    images, native = cast(Split, split or Photographs()), NativeTransform()
    return list(map_batches(data, model, images, native, "patch", pad=True, bad=bad))


def by_row(batches: list[MapBatch]) -> dict[int, tuple[torch.Tensor, list[int]]]:
    """Row -> its maps and its size."""
    return {
        row: (batch.maps[place], batch.sizes[place].tolist())
        for batch in batches
        for place, row in enumerate(batch.rows.tolist())
    }


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (3, 0), (64, 0), (64, 1)])
def test_images_of_one_padded_size_keep_their_own_and_share_forwards(
    batch_size: int, workers: int, model: LoadedModel, tmp_path: Path
) -> None:
    batches = passed(model, tmp_path, batch_size=batch_size, workers=workers)
    if batch_size == 64:
        assert sorted(len(batch.rows) for batch in batches) == [1, 5]
    found = by_row(batches)
    assert sorted(found) == list(range(len(SIZES)))
    for row, (maps, size) in found.items():
        assert size == list(SIZES[row])
        pixels = NativeTransform()(Photographs().image(row))[None]
        images = model.backbone.input.normalise(pixels)
        images = torch.nn.functional.pad(images, (0, -size[1] % PATCH, 0, -size[0] % PATCH))
        with torch.no_grad():
            alone = model.backbone.features(images, ["patch"])["patch"][0]
        torch.testing.assert_close(maps, alone, atol=1e-4, rtol=1e-4)


def test_maps_that_are_not_finite_stop_the_pass(model: LoadedModel, tmp_path: Path) -> None:
    with torch.no_grad():
        next(model.backbone.vit.parameters()).fill_(float("nan"))
    with pytest.raises(CheckpointError, match=r"patch of .* is not finite on photographs"):
        passed(model, tmp_path)


def test_unreadable_images_of_earlier_passes_count(model: LoadedModel, tmp_path: Path) -> None:
    split = Photographs(broken=3)
    with pytest.raises(DataError, match=r"3\.jpg .1 unreadable images so far, 0 allowed"):
        passed(model, tmp_path, split)
    bad: dict[int, str] = {}
    assert sorted(by_row(passed(model, tmp_path, split, skip_bad=1, bad=bad))) == [0, 1, 2, 4, 5]
    assert bad == {3: "cannot read image 3.jpg"}
    passed(model, tmp_path, split, skip_bad=1, bad=bad)  # the same image counts once
    with pytest.raises(DataError, match=r"4\.jpg .2 unreadable images so far, 1 allowed"):
        passed(model, tmp_path, Photographs(broken=4), skip_bad=1, bad=bad)


def test_a_pass_leaves_the_mode_and_the_positions_of_a_model_alone(
    model: LoadedModel, tmp_path: Path
) -> None:
    model.backbone.train()
    own = model.backbone.pos_interp
    other = placed(model, "dino" if own == "size" else "size")
    assert (model.backbone.pos_interp, other.backbone.training) == (own, True)
    assert other.backbone.vit is model.backbone.vit
    assert placed(model, "model") is placed(model, own) is model
    passed(other, tmp_path)
    assert all(module.training for module in model.backbone.modules())
    model.backbone.eval()
    assert not placed(model, other.backbone.pos_interp).backbone.training
    assert not model.backbone.vit.training
