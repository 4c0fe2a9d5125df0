"""mini_oxford: Revisited Oxford's layout, and views of which more or less is to be seen."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.data.mini.compose import Objects
from bench.data.mini.shapes import shapes
from bench.data.mini.surface import surface
from bench.data.mini.views import VIEWS, attached, seen, things
from bench.dataset import open_split
from bench.safe_pickle import load_plain_pickle

LEVELS = ("easy", "hard", "junk")


@pytest.fixture(scope="module")
def root(mini: Path) -> Path:
    return mini / "mini_oxford"


@pytest.fixture(scope="module")
def truth(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = load_plain_pickle(root / "gnd_mini_oxford.pkl")
    return content


def test_images_are_laid_out_like_oxford_and_of_several_sizes(
    root: Path, truth: dict[str, Any]
) -> None:
    assert (root / "gnd_mini_oxford.pkl").read_bytes()[:2] == b"\x80\x02"
    assert list(truth) == ["imlist", "qimlist", "gnd"]
    assert len(truth["gnd"]) == len(truth["qimlist"])
    assert not set(truth["imlist"]) & set(truth["qimlist"])
    names = [*truth["imlist"], *truth["qimlist"]]
    assert sorted(path.name for path in (root / "jpg").iterdir()) == sorted(
        f"{name}.jpg" for name in names
    )
    sizes = set()
    for name in names:
        with Image.open(root / "jpg" / f"{name}.jpg") as image:
            image.load()
            assert (image.format, image.mode) == ("JPEG", "RGB")
            sizes.add(image.size)
    assert sizes == {(64, 48), (48, 64), (64, 40)}


def test_relevant_images_show_the_thing_of_the_query(truth: dict[str, Any]) -> None:
    def thing(name: str) -> str:
        return name.rsplit("_", 1)[0]

    images = np.array(truth["imlist"])
    for query, own in zip(truth["qimlist"], truth["gnd"], strict=True):
        assert list(own) == ["bbx", *LEVELS]
        rows = [index for level in LEVELS for index in own[level]]
        assert all(type(index) is int for index in rows)
        assert len(set(rows)) == len(rows)
        assert {thing(name) for name in images[rows]} == {thing(query)}
        assert own["hard"]
        assert own["junk"]


def test_some_queries_of_the_full_size_have_no_easy_image() -> None:
    from bench.data.mini.oxford import _table

    table = _table(24, np.random.default_rng(0))
    kinds = np.array(table.kind)
    without = [i for i in range(24) if "easy" not in kinds[table.instance == i]]
    assert without == [7, 15, 23]


def test_regions_are_floats_around_the_thing(root: Path, truth: dict[str, Any], mini: Path) -> None:
    crops = open_split("mini_oxford", "query_crop", mini)
    for i, (query, own) in enumerate(zip(truth["qimlist"], truth["gnd"], strict=True)):
        assert all(type(value) is float for value in own["bbx"])
        x0, y0, x1, y1 = own["bbx"]
        with Image.open(root / "jpg" / f"{query}.jpg") as image:
            assert 0 <= x0 < x1 <= image.width
            assert 0 <= y0 < y1 <= image.height
            assert 0.7 < max(x1 - x0, y1 - y0) / min(image.size) < 0.95
        assert crops.image(i).size == (x1 - x0, y1 - y0)


@pytest.mark.parametrize(("kind", "low", "high"), [
    ("query", 0.999, 1), ("easy", 0.999, 1), ("changed", 0.999, 1), ("far", 0.999, 1),
    ("covered", 0, 0.45),
])  # fmt: skip
def test_as_much_is_seen_as_the_view_says(kind: str, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    shown = seen(things(40, "val", rng), VIEWS[kind], (64, 48), "val", rng)
    assert low <= np.median(shown.visible) <= high
    longest = (shown.boxes[:, 2:] - shown.boxes[:, :2]).max(1) / 48
    # The range is of the turned shape's outer box, which no shape fills to its corners.
    assert (longest > 0.75 * VIEWS[kind].longest[0]).all()
    assert (longest < VIEWS[kind].longest[1] + 0.05).all()


def test_tiny_things_are_smaller_than_any_hard_one() -> None:
    rng = np.random.default_rng(0)
    areas = {}
    for kind in ("far", "tiny"):
        boxes = seen(things(40, "val", rng), VIEWS[kind], (64, 48), "val", rng).boxes
        areas[kind] = (boxes[:, 2:] - boxes[:, :2]).max(1)
    assert areas["tiny"].max() < areas["far"].min()


def test_the_piece_of_photograph_turns_and_grows_with_the_shape() -> None:
    rng = np.random.default_rng(0)
    n = 24
    shown = things(n, "val", rng)
    assert set(shown.cut.flip) == {-1.0, 1.0}
    scale = 20 / shapes("val").half[shown.shape].max(1)
    zero, steps = np.zeros(n), np.tile(np.arange(21) - 10.0, (n, 1))

    def face(angle: float, growth: float) -> np.ndarray:
        objects = Objects(
            shown.material, shown.shape, zero, zero, growth * scale, np.full(n, angle)
        )
        cut = attached(shown, objects, 48, "val")
        return surface(shown.material, "val", 48, growth * steps, growth * steps, cut)

    upright = face(0.0, 1.0)
    np.testing.assert_allclose(face(np.pi / 2, 1.0), np.rot90(upright, -1, (1, 2)), atol=1e-6)
    # Twice as large, looked at in twice as wide steps: the same points, from a sharper level.
    assert np.abs(face(0.0, 2.0) - upright).mean() < 0.01
    assert np.abs(upright - np.rot90(upright, 1, (1, 2))).mean() > 0.04  # and not by chance
