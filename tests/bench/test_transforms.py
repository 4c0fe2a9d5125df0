"""Transforms: pixels as in the reference pipelines, draws that depend on the generator only."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from bench.errors import SpecError
from bench.transforms import (
    EvalTransform,
    InputSpec,
    SquareTransform,
    ThumbnailTransform,
    TrainTransform,
    crop_box,
    image_rng,
    to_uint8,
)


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A random image: every resampling mistake shows in noise."""
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("size", [(300, 400), (401, 299), (256, 256), (90, 777), (224, 225)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_eval_pixels_equal_torchvision_resize_and_centre_crop(size, interpolation):
    mode = v2.InterpolationMode[interpolation.upper()]
    reference = v2.Compose([v2.Resize(256, mode), v2.CenterCrop(224), v2.PILToTensor()])
    image = photo(*size)
    ours = EvalTransform(InputSpec(interpolation=interpolation))(image)
    assert ours.dtype == torch.uint8
    assert torch.equal(ours, reference(image))


def test_ids_name_what_changes_pixels():
    assert EvalTransform(InputSpec()).id == "ev224-bicubic-0.875"
    assert EvalTransform(InputSpec(32, crop_pct=1.0)).id == "ev32-bicubic-1"
    assert SquareTransform(InputSpec()).id == "sq224-bicubic"
    assert TrainTransform("rrc_bilinear").id == "rrc224_bilinear"
    assert TrainTransform("rrc_tf", 32, scale=(0.2, 1.0)).id == "rrc32_tf-scale0.2:1"
    assert TrainTransform("rrc_bicubic", flip=0.0).id == "rrc224_bicubic-flip0"


def test_square_transform_squeezes_the_whole_image():
    image = photo(300, 100)
    reference = v2.PILToTensor()(image.resize((64, 64), Image.Resampling.BICUBIC))
    assert torch.equal(SquareTransform(InputSpec(64))(image), reference)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK"])
def test_other_colour_modes_become_rgb(mode):
    image = photo(40, 40, mode)
    for transform in (EvalTransform(InputSpec(32)), SquareTransform(InputSpec(32))):
        assert transform(image).shape == (3, 32, 32)
    assert TrainTransform("rrc_tf", 32)(image, image_rng(0, 0, 0)).shape == (3, 32, 32)
    assert torch.equal(to_uint8(image), v2.PILToTensor()(image.convert("RGB")))


def test_normalise_is_the_usual_formula():
    spec = InputSpec(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    mean = torch.tensor(spec.mean, dtype=torch.float64).view(3, 1, 1)
    std = torch.tensor(spec.std, dtype=torch.float64).view(3, 1, 1)
    expected = (images.double() / 255 - mean) / std
    found = spec.normalise(images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


def test_normalise_serves_training_after_inference():
    with torch.inference_mode():
        InputSpec(mean=(0.1, 0.2, 0.3)).normalise(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    x = InputSpec(mean=(0.1, 0.2, 0.3)).normalise(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    weight = torch.ones(1, requires_grad=True)
    (x * weight).sum().backward()
    assert weight.grad is not None


def test_input_spec_survives_json_and_refuses_what_it_does_not_know():
    spec = InputSpec(96, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", 0.9)
    assert InputSpec.from_json(spec.to_json()) == spec
    with pytest.raises(SpecError, match="did you mean 'crop_pct'"):
        InputSpec.from_json({"crop_pt": 0.9})
    with pytest.raises(SpecError, match="did you mean 'bicubic'"):
        InputSpec(interpolation="bicubc")
    with pytest.raises(SpecError, match="crop_pct"):
        InputSpec(crop_pct=1.5)


@pytest.mark.parametrize("kind", ["rrc_bilinear", "rrc_bicubic", "rrc_tf"])
def test_train_pixels_depend_on_the_generator_only(kind):
    image, transform = photo(80, 60), TrainTransform(kind, 32)
    first = transform(image, image_rng(0, 1, 2))
    transform(image, image_rng(5, 5, 5))  # whatever ran in between
    assert first.dtype == torch.uint8
    assert torch.equal(first, transform(image, image_rng(0, 1, 2)))
    for other in (image_rng(1, 1, 2), image_rng(0, 2, 2), image_rng(0, 1, 3)):
        assert not torch.equal(first, transform(image, other))


@pytest.mark.parametrize(("kind", "mode"), [("rrc_bilinear", 2), ("rrc_bicubic", 3), ("rrc_tf", 3)])
def test_train_pixels_equal_crop_then_resize_of_the_drawn_box(kind, mode):
    image = photo(120, 90)
    box = crop_box(image.size, image_rng(0, 0, 7), (0.08, 1.0), (3 / 4, 4 / 3))
    reference = v2.PILToTensor()(image.crop(box).resize((32, 32), Image.Resampling(mode)))
    plain = TrainTransform(kind, 32, flip=0.0)(image, image_rng(0, 0, 7))
    mirrored = TrainTransform(kind, 32, flip=1.0)(image, image_rng(0, 0, 7))
    assert torch.equal(plain, reference)
    assert torch.equal(mirrored, reference.flip(2))


def test_boxes_have_the_asked_areas_and_aspects():
    rng = np.random.default_rng(0)
    boxes = np.array(
        [crop_box((1000, 1000), rng, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(2000)]
    )
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area, aspect = w * h / 1e6, w / h
    assert boxes.min() >= 0
    assert boxes.max() <= 1000
    assert area.min() > 0.079
    assert aspect.min() > 0.745
    assert aspect.max() < 1.342
    # Uniform area between .08 and 1, thinned a little near 1 where tall boxes do not fit.
    assert 0.45 < area.mean() < 0.55
    assert abs(np.log(aspect).mean()) < 0.02


def test_flips_happen_half_of_the_time():
    image = Image.new("RGB", (16, 16))
    image.paste((255, 255, 255), (8, 0, 16, 16))
    transform = TrainTransform("rrc_bilinear", 16, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    bright_left = [transform(image, image_rng(0, 0, i))[0, 0, 0] > 127 for i in range(400)]
    assert 160 < sum(bright_left) < 240  # four standard deviations


def test_tf_crop_is_one_draw_clipped_to_the_image():
    # A strip: most draws do not fit, so that ten tries end in the fallback and one draw is clipped.
    rng, twin = np.random.default_rng(3), np.random.default_rng(3)
    left, top, right, bottom = crop_box((400, 20), rng, (0.5, 1.0), (3 / 4, 4 / 3), tries=1)
    area = 400 * 20 * twin.uniform(0.5, 1.0)
    aspect = math.exp(twin.uniform(math.log(3 / 4), math.log(4 / 3)))
    assert (right - left, bottom - top) == (round(math.sqrt(area * aspect)), 20)
    twin.integers(0, 1), twin.integers(0, 1)
    assert 0 <= left <= 400 - (right - left)
    # The retrying kind falls back to the largest centred box of allowed aspect.
    box = crop_box((400, 20), np.random.default_rng(3), (0.5, 1.0), (3 / 4, 4 / 3))
    assert box == (186, 0, 213, 20)


def test_crops_of_tiny_and_extreme_images_stay_inside():
    rng = np.random.default_rng(0)
    for size in [(1, 1), (1, 500), (500, 1), (2, 3), (7, 5)]:
        for tries in (1, 10):
            for _ in range(50):
                left, top, right, bottom = crop_box(size, rng, (0.08, 1.0), (3 / 4, 4 / 3), tries)
                assert 0 <= left < right <= size[0]
                assert 0 <= top < bottom <= size[1]


def test_unknown_kind_is_named_with_the_nearest():
    with pytest.raises(SpecError, match="did you mean 'rrc_bicubic'"):
        TrainTransform("rrc_bicubc")


@pytest.mark.parametrize(("size", "expected"), [((90, 60), (32, 48)), ((60, 90), (48, 32))])
def test_a_thumbnail_keeps_the_aspect_and_equals_pil(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    image, transform = photo(*size), ThumbnailTransform(48)
    assert transform(image).shape == (3, *expected)
    reference = image.copy()
    reference.thumbnail((48, 48), Image.Resampling.LANCZOS)
    assert torch.equal(transform(image), to_uint8(reference))
    assert image.size == size  # PIL's works in place


def test_a_thumbnail_never_enlarges_and_converts() -> None:
    assert ThumbnailTransform(512)(photo(30, 20)).shape == (3, 20, 30)
    assert ThumbnailTransform(16)(photo(30, 20).convert("L")).shape[0] == 3
    assert ThumbnailTransform(512, (1.0, 2**-0.5, 0.5)).id == "thumb512-lanczos-1:0.707107:0.5"
    for wrong in (
        {"longest_px": 0},
        {"longest_px": 8, "scales": ()},
        {"longest_px": 8, "scales": (2.0,)},
    ):
        with pytest.raises(SpecError, match="scales"):
            ThumbnailTransform(**wrong)
