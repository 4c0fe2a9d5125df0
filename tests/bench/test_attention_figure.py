"""The figure of attention: its numbers from the equation, its page, what it refuses."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import colormaps

from bench.checkpoint import load_model
from bench.checkpoints.native import write_checkpoint
from bench.errors import CheckpointError, SpecError
from bench.figure import Photos, draw
from bench.figures._attention_page import attention_page
from bench.figures._sheet import lifted
from bench.figures.attention import Attention, Found, entropy
from bench.network import seeded_network
from bench.page import png, style
from bench.photos import sort_out
from bench.transforms import InputSpec
from tests.bench.pages import clashes, texts, tile_pixels

ARCH = "vit_mini_patch4_32"
RANDOM = f"random:{ARCH}?seed=0"
SMALL = "random:vit_small_patch16_32?seed=0"  # 6 heads on 2 x 2 patches


@pytest.fixture(scope="module")
def photos(mini: Path) -> Photos:
    return Photos(sort_out(["mini_scenes"], 3, 0, mini)[1])


@pytest.fixture(scope="module")
def focused(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run whose last attention is uneven, as that of a trained model is."""
    network = seeded_network(ARCH, 1)
    with torch.no_grad():
        network.blocks[-1].attn.qkv.weight *= 6
    card = {"arch": ARCH, "input": InputSpec.of_size(32).to_json()}
    run = tmp_path_factory.mktemp("runs") / "focused"
    write_checkpoint(run / "checkpoint", network, None, card)
    return str(run)


def attention64(source: str, photos: Photos, size_px: int) -> np.ndarray:
    """(n, heads, patches) softmax(q k / sqrt(c)) of CLS without its own column, in float64."""
    model = load_model(source)
    backbone = model.backbone
    _, pixels = photos.pixels(Attention(size_px=size_px).transform(backbone))
    block = backbone.vit.blocks[-1].double()
    taken: list[torch.Tensor] = []
    hook = block.register_forward_pre_hook(lambda _, args: taken.append(args[0]))
    with torch.no_grad():
        backbone.double().tokens(backbone.input.normalise(pixels).double())
        hook.remove()
        qkv = block.attn.qkv(block.norm1(taken[0])).numpy()  # (n, 1 + p, 3 * d)
    heads = block.attn.num_heads
    n, p, width = qkv.shape
    c = width // 3 // heads
    found = np.zeros((n, heads, p - 1))
    for image in range(n):
        for head in range(heads):
            q = qkv[image, 0, head * c : (head + 1) * c]
            k = qkv[image, :, heads * c + head * c : heads * c + (head + 1) * c]
            weights = np.exp(k @ q / math.sqrt(c))
            found[image, head] = (weights / weights.sum())[1:]
    return found


@pytest.mark.parametrize("size_px", [32, 48])
def test_maps_and_numbers_are_those_of_the_equation(
    size_px: int, focused: str, photos: Photos
) -> None:
    expected = attention64(focused, photos, size_px)
    numbers = json.loads(Attention(size_px=size_px).draw([focused], photos, "cpu")[".json"])
    (model,) = numbers["models"]
    assert [image["image"] for image in model["images"]] == [p.name for p in photos.items]
    for image, heads in zip(model["images"], expected, strict=True):
        every = [(image["mean"], heads.mean(0)), *zip(image["heads"], heads, strict=True)]
        for shown, values in every:
            drawn = np.array(shown["map"])
            assert drawn.shape == (size_px // 4, size_px // 4)
            np.testing.assert_allclose(drawn.ravel(), values, rtol=2e-3, atol=1e-6)
            assert shown["on_patches"] == pytest.approx(values.sum(), rel=1e-4)
            assert shown["largest"] == pytest.approx(values.max(), rel=1e-3)
            share = values / values.sum()
            nats = sum(-p * math.log(p) for p in share if p > 0)
            assert shown["entropy"] == pytest.approx(nats / math.log(len(values)), rel=1e-3)
            falling = np.cumsum(np.sort(share)[::-1])
            fewest = 1 + int((falling < 0.6 - 1e-9).sum())
            assert shown["mask_share"] * len(values) == pytest.approx(fewest, abs=1.01)


def test_even_attention_has_entropy_one_and_a_single_patch_zero() -> None:
    assert entropy(np.full((7, 7), 0.01)) == pytest.approx(1)
    alone = np.zeros((7, 7))
    alone[3, 4] = 0.2
    assert entropy(alone) == 0
    assert entropy(np.ones((1, 1))) == 1


def test_tiles_are_painted_with_the_maps_and_the_masks_below(focused: str, photos: Photos) -> None:
    figure = Attention(masks=True)
    found = figure.look(load_model(focused), photos, "cpu")
    with style():
        page = attention_page([found], figure)
        picture = png(page)
    tiles = iter(page.axes)
    colours = colormaps["inferno"]
    for image in range(3):
        photo = tile_pixels(next(tiles), picture)
        assert np.abs(photo.mean((0, 1)) - found.pixels[image].mean((0, 1))).max() < 3
        for place in range(1 + found.heads):
            drawn, masked = (tile_pixels(next(tiles), picture) for _ in range(2))
            attention = found.maps[image, place]
            middle = (np.arange(8) * 2 + 1) * len(drawn) // 16
            seen = drawn[middle][:, middle].astype(float)
            expected = 255 * np.array(colours(attention / attention.max()))[..., :3]
            assert np.abs(seen - expected).max() <= 2
            pale = lifted(found.pixels[image] / 255, found.masks[image, place])
            assert np.abs(masked.mean((0, 1)) - 255 * pale.mean((0, 1))).max() < 3
    assert next(tiles, None) is None


def test_masks_hold_the_asked_share(focused: str, photos: Photos) -> None:
    for mass in (0.3, 0.6, 0.9):
        found = Attention(mass=mass).look(load_model(focused), photos, "cpu")
        inside = (found.maps * found.masks).sum((2, 3)) / found.maps.sum((2, 3))
        assert (inside >= mass - 1e-9).all()
        less = np.where(found.masks, found.maps, np.inf).min((2, 3)) / found.maps.sum((2, 3))
        assert (inside - less < mass).all(), "one patch less holds less"


def of_heads(heads: int, name: str = "of many heads") -> Found:
    rng = np.random.default_rng(heads)
    maps = rng.random((2, 1 + heads, 5, 5))
    record = load_model(RANDOM).record
    object.__setattr__(record, "name", name)
    pixels = rng.integers(0, 256, (2, 20, 20, 3), np.uint8)
    names = ["photos/a_very_long_folder/of_a_very_long_name.jpeg", "b.png"]
    return Found(record, names, ["", "a class of many words, and more"], pixels, maps, maps > 0.4)


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("heads", [(1,), (3,), (12,), (16,), (17,), (6, 16, 1)])
def test_nothing_overlaps_with_any_number_of_heads(heads: tuple[int, ...], masks: bool) -> None:
    models = [of_heads(many, "a model whose name is as long as names get" * 3) for many in heads]
    with style():
        page = attention_page(models, Attention(masks=masks))
        assert clashes(page) == []
    assert 5 * 200 <= page.get_size_inches()[0] * 200 <= 2200
    drawn = sum(min(many, 16) + 1 for many in heads) * (1 + masks) + 1
    assert len(page.axes) == 2 * drawn
    written = texts(page)
    assert written.count("mean") == 2 * len(heads)
    noted = any("the first 16 of 17 heads" in text for text in written)
    assert noted == (max(heads) > 16)


def test_fewer_heads_may_be_asked_for_and_numbers_keep_all(photos: Photos) -> None:
    figure = Attention(heads=2)
    found = figure.look(load_model(SMALL), photos, "cpu")
    with style():
        written = texts(attention_page([found], figure))
    assert [text for text in written if text.startswith("head ")] == ["head 1", "head 2"] * 3
    assert "the first 2 of 6 heads" in " ".join(written)
    numbers = json.loads(figure.numbers([found]))
    assert len(numbers["models"][0]["images"][0]["heads"]) == 6


def test_models_follow_each_other_below_each_image(photos: Photos) -> None:
    figure = Attention(images=2)
    found = [figure.look(load_model(source), photos, "cpu") for source in (SMALL, RANDOM)]
    names = [model.model.name for model in found]
    with style():
        page = attention_page(found, figure)
    written = [(text.get_text(), text.get_position()[1]) for text in page.texts]
    rows = [text for text, _ in sorted(written, key=lambda pair: -pair[1]) if text in names]
    assert rows == names * 3
    numbers = json.loads(figure.numbers(found))
    assert [model["model"]["name"] for model in numbers["models"]] == names


def test_a_model_without_cls_is_refused_in_a_line(photos: Photos) -> None:
    swin = "random:swin_tiny_patch4_window14_224?seed=0"
    with pytest.raises(SpecError, match=r"attention cannot draw .*swin.*attends within") as caught:
        Attention(size_px=224).draw([swin], photos, "cpu")
    assert "\n" not in str(caught.value)


def test_attention_that_is_not_finite_is_told(tmp_path: Path, photos: Photos) -> None:
    network = seeded_network(ARCH, 0)
    with torch.no_grad():
        network.blocks[-1].attn.qkv.weight *= 1e30
    card = {"arch": ARCH, "input": InputSpec.of_size(32).to_json()}
    write_checkpoint(tmp_path / "run" / "checkpoint", network, None, card)
    with pytest.raises(CheckpointError, match="attn_cls of run is not finite"):
        Attention().draw([str(tmp_path / "run")], photos, "cpu")


@pytest.mark.parametrize(
    ("option", "words"),
    [("mass=0", "mass=0.0: expected"), ("mass=1.5", "mass=1.5"), ("heads=0", "heads=0: expected")],
)
def test_wrong_options_name_what_is_right(
    option: str, words: str, mini: Path, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=words):
        draw(f"attention?{option}", [RANDOM, "mini_scenes"], tmp_path / "out", data=mini)


def test_more_than_a_picture_holds_is_refused_before_it_is_painted() -> None:
    found = of_heads(3)
    many = Found(
        found.model,
        found.names * 150,
        found.labels * 150,
        found.pixels.repeat(150, 0),
        found.maps.repeat(150, 0),
        found.masks.repeat(150, 0),
    )
    with pytest.raises(SpecError, match=r"inches tall, 300 at most: draw fewer images"):
        attention_page([many], Attention())
