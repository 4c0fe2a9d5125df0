"""Images decoded once: the same pixels, kept within a budget, read by other processes."""

import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.dataset import open_split
from bench.decoded import Decoded, decode_once
from bench.errors import DataError
from bench.split import Split


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Six JPEGs of three sizes, one of them grey, and one file that is none."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos" / "train" / "a"
    folder.mkdir(parents=True)
    for number in range(6):
        size = (20 + number % 3, 16, 3)
        image = Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8))
        (image.convert("L") if number == 4 else image).save(folder / f"{number}.jpg", quality=90)
    (folder / "9.jpg").write_bytes(b"broken")
    return open_split(f"folder[path={tmp_path / 'photos'}]", "train", None)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_pixels_are_those_of_the_split(split: Split, tmp_path: Path, where: str) -> None:
    decoded = decode_once(split, tmp_path / "kept" if where == "disk" else None, workers=2)
    assert isinstance(decoded, Decoded)
    for row in range(6):
        image = decoded.image(row)
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), np.asarray(split.image(row)))
    with pytest.raises(DataError, match=r"9\.jpg"):
        decoded.image(6)


def test_a_second_opening_decodes_nothing(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode_once(split, tmp_path / "kept")
    read: list[int] = []
    image = Split.image
    monkeypatch.setattr(Split, "image", lambda self, row: (read.append(row), image(self, row))[1])
    again = decode_once(split, tmp_path / "kept")
    probed = len(read)
    again.image(0)
    assert probed == len(read)
    assert len(list((tmp_path / "kept").glob("*.[rn]*"))) == 2


def test_another_order_is_another_set(split: Split, tmp_path: Path) -> None:
    decode_once(split, tmp_path / "kept")
    turned = split.take(np.arange(5, -1, -1), split.name)
    decoded = decode_once(turned, tmp_path / "kept")
    np.testing.assert_array_equal(np.asarray(decoded.image(0)), np.asarray(split.image(5)))


def test_other_processes_map_the_file_again(split: Split, tmp_path: Path) -> None:
    decoded = decode_once(split, tmp_path / "kept")
    before = np.asarray(decoded.image(2))
    sent = pickle.dumps(decoded)
    assert len(sent) < len(pickle.dumps(decode_once(split)))
    np.testing.assert_array_equal(np.asarray(pickle.loads(sent).image(2)), before)


def test_sets_over_the_budget_are_read_as_before(split: Split, tmp_path: Path) -> None:
    assert decode_once(split, tmp_path / "kept", budget_bytes=1000) is split
    assert decode_once(split, budget_bytes=0) is split
    assert not (tmp_path / "kept").exists()


def test_a_full_disk_costs_the_speed_only(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("bench.decoded.whole_file", full)
    assert decode_once(split, tmp_path / "kept") is split


def test_a_killed_writer_leaves_nothing_that_would_be_read(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            decode_once(split, tmp_path / "kept")
    decoded = decode_once(split, tmp_path / "kept")
    np.testing.assert_array_equal(np.asarray(decoded.image(1)), np.asarray(split.image(1)))


def test_who_comes_second_waits_and_decodes_nothing(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, read, started, go = Split.image, [], threading.Event(), threading.Event()

    def slow(self: Split, row: int) -> Image.Image:
        read.append(row)
        started.set()
        go.wait(30)
        return image(self, row)

    monkeypatch.setattr("bench.decoded._estimate", lambda split: 0.0)
    monkeypatch.setattr(Split, "image", slow)
    pair = [threading.Thread(target=decode_once, args=(split, tmp_path / "kept")) for _ in "ab"]
    pair[0].start()
    started.wait(30)
    pair[1].start()
    go.set()
    for thread in pair:
        thread.join()
    assert sorted(read) == list(range(7))
    assert not list((tmp_path / "kept").glob("*.part"))
