"""Decoding: the same pixels as the official loaders, and errors that name the file."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.errors import DataError
from bench.images import MAX_PIXELS, decode


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_rgb_pixels_come_back_unchanged(pixels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    for source in (path, str(path), path.read_bytes()):
        image = decode(source)
        assert image.mode == "RGB"
        assert np.array_equal(image, pixels)


def test_grey_is_repeated_over_the_channels(pixels: np.ndarray) -> None:
    grey = pixels[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=2)
    assert np.array_equal(decode(saved(Image.fromarray(grey), "PNG")), expected)


def test_black_and_white_becomes_0_and_255() -> None:
    image = Image.fromarray(np.array([[True, False]]))
    assert image.mode == "1"
    assert np.asarray(decode(saved(image, "PNG")))[..., 0].tolist() == [[255, 0]]


@pytest.mark.parametrize("transparent", [None, 0, b"\x00\x80"])
def test_palettes_give_their_colours_with_and_without_transparency(
    transparent: int | bytes | None,
) -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], dtype=np.uint8)).convert("L")
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette([255, 0, 0, 0, 0, 255])
    options = {} if transparent is None else {"transparency": transparent}
    red, blue = [255, 0, 0], [0, 0, 255]
    decoded = np.asarray(decode(saved(image, "PNG", **options)))
    assert decoded.tolist() == [[red, blue], [blue, red]]


def test_alpha_is_dropped_and_not_blended(pixels: np.ndarray) -> None:
    alpha = np.full((6, 5, 1), 7, dtype=np.uint8)
    image = Image.fromarray(np.concatenate([pixels, alpha], axis=2))
    assert image.mode == "RGBA"
    assert np.array_equal(decode(saved(image, "PNG")), pixels)


def test_cmyk_jpeg_keeps_its_colour() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    decoded = np.asarray(decode(saved(red, "JPEG", quality=95)))
    assert np.abs(decoded.astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_upper_byte(kind: str) -> None:
    grey = np.array([[0, 255, 256], [0x1234, 0x8000, 0xFFFF]], dtype=np.uint16)
    decoded = np.asarray(decode(saved(Image.fromarray(grey), kind)))
    assert decoded[..., 1].tolist() == [[0, 0, 1], [0x12, 0x80, 0xFF]]


def test_float_images_are_refused() -> None:
    image = Image.fromarray(np.zeros((2, 2), dtype=np.float32))
    with pytest.raises(DataError, match=r"depth\.tif.*unknown range"):
        decode(saved(image, "TIFF"), name="depth.tif")


def test_exif_orientation_is_not_applied(pixels: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    assert decode(saved(Image.fromarray(pixels), "JPEG", exif=exif)).size == (5, 6)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_truncated_file_is_named(kind: str, share: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = saved(Image.fromarray(noise), kind)
    path = tmp_path / "half.img"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"half\.img.*--skip-bad"):
        decode(path)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\xff\xd8\xff"])
def test_file_that_is_no_image_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "n01440764_1.JPEG"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"n01440764_1\.JPEG"):
        decode(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png is missing"):
        decode(tmp_path / "gone.png")


def forged_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that announces any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


def test_pixel_limit_is_checked_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(forged_png(20_000, 20_000))
    with pytest.raises(DataError, match=r"bomb\.png is over the limit of 179 megapixels"):
        decode(path)


def test_pixel_limit_holds_where_another_package_switched_off_that_of_pil(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(DataError, match="over the limit"):
        decode(forged_png(MAX_PIXELS + 1, 1))


def test_formats_that_call_other_programs_are_no_images(tmp_path: Path) -> None:
    """PIL goes by content: PostScript under the name of a photograph would reach Ghostscript."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match="no known image format"):
        decode(path)
