"""Indexed PNGs: labels are what is stored, whatever the palette; everything else is refused."""

import io
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.errors import DataError
from bench.images import MAX_PIXELS
from bench.label_maps import index_png, read_label_map, resized_labels, voc_palette
from tests.bench.test_readers_real import needs

LABELS = np.arange(256, dtype=np.uint8).reshape(8, 32)


def saved(folder: Path, picture: Image.Image, name: str = "mask.png", **options: object) -> Path:
    picture.save(folder / name, **options)
    return folder / name


def test_palette_is_that_of_voc() -> None:
    colours = np.array(voc_palette()).reshape(256, 3)
    # the development kit's table: background, aeroplane, ..., tvmonitor, void
    assert colours[:6].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [128, 0, 128],
    ]
    assert colours[15].tolist() == [192, 128, 128]
    assert colours[20].tolist() == [0, 64, 128]
    assert colours[255].tolist() == [224, 224, 192]
    assert len(np.unique(colours, axis=0)) == 256


def test_palette_is_that_of_the_official_masks() -> None:
    for name in ("VOCdevkit/VOC2012/SegmentationClass/2011_000003.png", "DAVIS/Annotations/480p"):
        path = needs(name)
        path = path if path.is_file() else path / "blackswan/00000.png"
        with Image.open(path) as mask:
            official = mask.getpalette()
        assert official is not None
        used = 3 * (int(read_label_map(path).max()) + 1)
        assert official[: min(used, len(official))] == voc_palette()[: min(used, len(official))]


@pytest.mark.parametrize("palette", ["voc", "grey", "short", "shuffled"])
def test_indexed_png_gives_its_indices_whatever_its_palette(palette: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    colours = {
        "voc": voc_palette(),
        "grey": [value for value in range(256) for _ in range(3)],
        "short": [255, 0, 0] * 2,
        "shuffled": rng.permutation(np.array(voc_palette()).reshape(256, 3)).ravel().tolist(),
    }[palette]
    labels = LABELS % 2 if palette == "short" else LABELS
    picture = Image.fromarray(labels)
    picture.putpalette(colours)
    assert picture.mode == "P"
    found = read_label_map(saved(tmp_path, picture))
    assert found.dtype == np.uint8
    assert np.array_equal(found, labels)


def test_grey_and_two_valued_pngs_give_their_values(tmp_path: Path) -> None:
    assert np.array_equal(read_label_map(saved(tmp_path, Image.fromarray(LABELS))), LABELS)
    two = Image.fromarray(LABELS > 100)
    assert two.mode == "1"
    assert np.array_equal(read_label_map(saved(tmp_path, two)), LABELS > 100)


def test_transparency_does_not_change_labels(tmp_path: Path) -> None:
    picture = Image.fromarray(LABELS)
    picture.putpalette(voc_palette())
    assert np.array_equal(read_label_map(saved(tmp_path, picture, transparency=0)), LABELS)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16"])
def test_colours_are_refused(mode: str, tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new(mode, (4, 3)))
    with pytest.raises(DataError, match=rf"{path} holds colours \(mode {mode}\), .*mode P or L"):
        read_label_map(path)


def test_lossy_formats_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(LABELS), "mask.jpg")
    with pytest.raises(DataError, match=f"cannot read mask {path}"):
        read_label_map(path)


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mask .*gone\.png is missing"):
        read_label_map(tmp_path / "gone.png")
    whole = index_png(LABELS)
    for content in (b"", b"no image", whole[: len(whole) // 2]):
        (tmp_path / "broken.png").write_bytes(content)
        with pytest.raises(DataError, match=r"cannot read mask .*broken\.png"):
            read_label_map(tmp_path / "broken.png")


def test_bombs_are_refused_even_where_a_library_switched_pils_check_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    stream = io.BytesIO()
    Image.new("1", (1, 1)).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    width = MAX_PIXELS + 1
    content[16:20] = width.to_bytes(4, "big")
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(bytes(content))
    with pytest.raises(DataError, match=rf"bomb\.png .{width} x 1 pixels, {MAX_PIXELS} allowed"):
        read_label_map(tmp_path / "bomb.png")
    # a bomb of a photograph is told where it is read itself
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    mask = saved(tmp_path, Image.fromarray(LABELS))
    assert read_label_map(mask, tmp_path / "bomb.png").shape == (8, 32)


def test_masks_must_have_the_size_of_their_image(tmp_path: Path) -> None:
    mask = saved(tmp_path, Image.fromarray(LABELS))
    image = saved(tmp_path, Image.new("RGB", (32, 8)), "image.jpg")
    assert read_label_map(mask, image).shape == (8, 32)
    turned = saved(tmp_path, Image.new("RGB", (8, 32)), "turned.jpg")
    with pytest.raises(
        DataError, match=re.escape(f"mask {mask} has 32 x 8 pixels, its image turned.jpg 8 x 32")
    ):
        read_label_map(mask, turned)
    # a broken image is told where it is read itself
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    assert read_label_map(mask, tmp_path / "broken.jpg").shape == (8, 32)


def test_written_labels_are_read_back_and_in_vocs_colours(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(index_png(LABELS.astype(np.int64)))
    assert np.array_equal(read_label_map(tmp_path / "mask.png"), LABELS)
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.mode == "P"
        colours = np.asarray(mask.convert("RGB"))
    assert np.array_equal(colours, np.array(voc_palette()).reshape(256, 3)[LABELS])


def test_labels_are_resized_to_the_pixel_whose_centre_is_nearest() -> None:
    labels = np.arange(20, dtype=np.uint8).reshape(4, 5)
    small = resized_labels(labels, (2, 2))  # centres at 1.25, 3.75 of 5 columns, 1, 3 of 4 rows
    assert small.tolist() == [[6, 8], [16, 18]]
    assert np.array_equal(resized_labels(small, (4, 4))[::2, ::2], small)
    assert resized_labels(labels, (4, 5)) is labels
    picture = Image.fromarray(labels).resize((7, 9), Image.Resampling.NEAREST)
    assert np.array_equal(resized_labels(labels, (9, 7)), np.asarray(picture))
