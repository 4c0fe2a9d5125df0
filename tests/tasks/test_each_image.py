"""What is measured image by image: kept, continued, shared, and left out where it is unreadable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import dist
from bench.errors import DataError
from bench.features import FeatureCache
from bench.maps import MapBatch
from bench.task import TaskData
from tasks.each_image import each_image

COUNT = 9


class Split:
    """Images 0 to 8 of a data set; those of `bad` cannot be read."""

    name, split = "numbers", "val"

    def __init__(self, bad: tuple[int, ...] = ()) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return COUNT


def data_of(workspace: Path | None = None, skip_bad: int = 0) -> TaskData:
    cache = FeatureCache(Path("unused"))
    return TaskData((), None, cache, skip_bad=skip_bad, workspace=workspace)


def measured(data: TaskData, split: Split, killed_at: int = -1) -> tuple[list[int], Any, Any]:
    """(rows that were measured now, all rows, columns), out of order, in batches of two."""
    seen: list[int] = []

    def batches(rows: np.ndarray) -> Iterator[MapBatch]:
        bad: dict[int, str] = {}
        for row in rows[::-1].tolist():
            if row in split.bad:
                bad[row] = f"image {row} is broken"
                data.leave_out(bad)
        readable = [row for row in rows[::-1].tolist() if row not in split.bad]
        for start in range(0, len(readable), 2):
            part = np.array(readable[start : start + 2])
            sizes = np.zeros((len(part), 2), np.int64)
            yield MapBatch(part, torch.from_numpy(part).float()[:, None], sizes)

    def measure(row: int, batch: MapBatch, place: int) -> dict[str, Any]:
        if row == killed_at:
            raise KeyboardInterrupt
        seen.append(row)
        number = float(batch.maps[place, 0])
        return {"square": np.float64(number**2), "pair": np.array([number, -number])}

    images: Any = split
    rows, columns = each_image(data, images, batches, measure, "numbers", seconds=-1.0)
    return seen, rows.tolist(), columns


def check(rows: list[int], columns: Any, bad: tuple[int, ...] = ()) -> None:
    expected = [row for row in range(COUNT) if row not in bad]
    assert rows == expected
    assert set(columns) == {"square", "pair"}
    assert columns["square"].tolist() == [row**2 for row in expected]
    assert columns["pair"].tolist() == [[row, -row] for row in expected]


def test_every_image_has_its_own_values_in_rising_order() -> None:
    seen, rows, columns = measured(data_of(), Split())
    assert seen == list(range(COUNT))[::-1]
    check(rows, columns)


def test_a_killed_measurement_continues_behind_what_is_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        measured(data_of(tmp_path), Split(), killed_at=3)
    seen, rows, columns = measured(data_of(tmp_path), Split())
    assert seen == [4, 3, 2, 1, 0]  # 4 shares its batch with 3
    check(rows, columns)
    assert measured(data_of(tmp_path), Split())[0] == []


@pytest.mark.parametrize("damage", [b"", b"no archive", b"cut"])
def test_a_broken_piece_is_measured_again(
    tmp_path: Path,
    damage: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SSLBENCH_PROGRESS", "plain")
    measured(data_of(tmp_path), Split())
    piece = tmp_path / "rank0" / "rows-000000006.npz"
    piece.write_bytes(piece.read_bytes()[:-40] if damage == b"cut" else damage)
    seen, rows, columns = measured(data_of(tmp_path), Split())
    assert seen == [6, 5]
    check(rows, columns)
    assert "rows-000000006.npz cannot be read" in capsys.readouterr().err
    assert measured(data_of(tmp_path), Split())[0] == []


def test_a_full_disk_does_not_end_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("SSLBENCH_PROGRESS", "plain")
    monkeypatch.setattr("numpy.savez", full)
    _, rows, columns = measured(data_of(tmp_path), Split())
    check(rows, columns)
    assert "No space left on device" in capsys.readouterr().err
    assert not list((tmp_path / "rank0").iterdir())


def in_a_group(
    monkeypatch: pytest.MonkeyPatch, split: Split, skip_bad: int
) -> tuple[TaskData, list[int], Any]:
    """What the first of two processes gets; the second has run before it, and allows all."""
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    given: list[Any] = []  # by the second process
    for rank, allowed in ((1, COUNT), (0, skip_bad)):
        others = iter(given if rank == 0 else [])

        def gathered(value: Any, rank: int = rank, others: Iterator[Any] = others) -> list[Any]:
            if rank == 1:
                given.append(value)
                return [value]
            return [value, next(others)]

        monkeypatch.setattr(dist, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(dist, "all_gather_object", gathered)
        data = data_of(skip_bad=allowed)
        _, rows, columns = measured(data, split)
    return data, rows, columns


def test_processes_of_a_group_get_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    _, rows, columns = in_a_group(monkeypatch, Split(), 0)
    check(rows, columns)


def test_unreadable_images_of_all_processes_count_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, rows, columns = in_a_group(monkeypatch, Split((1, 7)), 2)
    check(rows, columns, (1, 7))
    assert set(data.skipped) == {"image 1 is broken", "image 7 is broken"}
    with pytest.raises(DataError, match="2 unreadable images so far, 1 allowed"):
        in_a_group(monkeypatch, Split((1, 7)), 1)


def test_unreadable_images_are_met_again_after_a_kill(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        measured(data_of(tmp_path, 2), Split((8, 0)), killed_at=3)
    data = data_of(tmp_path, 2)
    _, rows, columns = measured(data, Split((8, 0)))
    check(rows, columns, (8, 0))
    assert set(data.skipped) == {"image 8 is broken", "image 0 is broken"}
    with pytest.raises(DataError, match="2 unreadable"):
        measured(data_of(tmp_path, 1), Split((8, 0)))


def test_images_that_are_all_unreadable_are_an_error() -> None:
    with pytest.raises(DataError, match="none of its 9 images is readable"):
        measured(data_of(skip_bad=COUNT), Split(tuple(range(COUNT))))
