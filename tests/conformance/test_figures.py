"""What every figure must hold; a new file in `bench/figures` is tested here unasked."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import registry
from bench.engine import Settings, evaluate
from bench.errors import SpecError
from bench.figure import Figure, Photos, draw
from bench.photos import sort_out
from bench.store import Store
from tests.bench.prototyped import write_prototyped

PICTURES = {".png", ".svg", ".pdf", ".gif"}
# The tests of a figure run in one process, which draws it once for all of them.
NAMES = [
    pytest.param(name, marks=pytest.mark.xdist_group(f"figure-{name}"))
    for name in registry.names("figure")
]


@pytest.fixture(params=NAMES, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def cls(name: str) -> type[Figure]:
    found: type[Figure] = registry.load("figure", name)
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model with all that a figure may ask for."""
    return write_prototyped(tmp_path_factory.mktemp("models") / "prototyped")


@pytest.fixture(scope="module")
def results(model: str, drawing: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with rollouts of the model, for figures of what was evaluated."""
    folder = tmp_path_factory.mktemp("results")
    kitchen = registry.load("task", "franka_kitchen")
    spec = f"franka_kitchen@{kitchen.mini}?{kitchen.mini_options}"
    evaluate([model], [spec], Store(folder), Settings(cache=folder / ".cache", workers=0))
    return str(folder)


@pytest.fixture(scope="module")
def options(cls: type[Figure], request: pytest.FixtureRequest) -> dict[str, str]:
    """What the figure needs beside models and images."""
    reads = "results" in {field.name for field in dataclasses.fields(cls)}
    return {"results": request.getfixturevalue("results")} if reads else {}


@pytest.fixture(scope="module")
def drawn(
    name: str,
    cls: type[Figure],
    options: dict[str, str],
    model: str,
    mini: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[Path]:
    """The files of the figure, in a folder that holds nothing else."""
    return draw(
        spec(name, options), [model, cls.mini], tmp_path_factory.mktemp("drawn") / "out", data=mini
    )


def spec(name: str, options: dict[str, str]) -> str:
    """The figure of three images."""
    return "&".join([f"{name}?images=3", *(f"{key}={value}" for key, value in options.items())])


def test_it_is_a_frozen_dataclass_whose_options_are_explained(cls: type[Figure]) -> None:
    figure = cls()
    with pytest.raises(dataclasses.FrozenInstanceError):
        figure.seed = 1  # type: ignore[misc]
    explained = "".join(c.__doc__ or "" for c in cls.__mro__ if issubclass(c, Figure))
    for field in dataclasses.fields(cls):
        assert f"\n        {field.name}: " in explained, field.name


def test_it_gives_a_picture_and_its_numbers_as_whole_files(
    cls: type[Figure], drawn: list[Path]
) -> None:
    assert [path.name for path in drawn] == [f"out{ending}" for ending in cls.endings]
    assert sorted(drawn[0].parent.iterdir()) == sorted(drawn)
    assert cls.endings[0] == ".png"
    assert set(cls.endings) - PICTURES <= {".csv", ".json"}
    assert set(cls.endings) - PICTURES, "the numbers drawn belong to the picture"
    with Image.open(drawn[0]) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels.shape[1] >= 1000
    assert pixels.std() > 1
    for path in drawn[1:]:
        if path.suffix == ".json":
            json.loads(path.read_text())
        if path.suffix == ".csv":
            assert len(path.read_text().splitlines()) > 1


def test_the_same_input_gives_the_same_bytes(
    name: str,
    cls: type[Figure],
    options: dict[str, str],
    model: str,
    mini: Path,
    drawn: list[Path],
    tmp_path: Path,
) -> None:
    again = draw(spec(name, options), [model, cls.mini], tmp_path / "out", data=mini)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in drawn]


def test_one_image_of_any_format_is_enough(cls: type[Figure], model: str, tmp_path: Path) -> None:
    if not cls.any_image:
        pytest.skip("draws data sets only")
    Image.new("L", (40, 70), 128).save(tmp_path / "grey.png")
    _, photos = sort_out([str(tmp_path / "grey.png")], 1)
    found = cls().draw([model], Photos(photos), "cpu")
    Image.open(io.BytesIO(found[".png"])).verify()


@pytest.mark.parametrize("option", ["images=0", "size_px=-1", "size_px=33", "seed=-1", "sed=1"])
def test_wrong_options_are_answered_in_a_line(
    option: str, name: str, cls: type[Figure], model: str, mini: Path, tmp_path: Path
) -> None:
    with pytest.raises(SpecError) as caught:
        draw(f"{name}?{option}", [model, cls.mini], tmp_path / "out", data=mini)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
