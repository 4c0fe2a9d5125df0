"""Whole files: there with their content, or as they were before."""

from contextlib import suppress
from pathlib import Path

import pytest

from bench.disk import flush, whole_file


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    with whole_file(path) as file:
        file.write(b"1 2 3")
        assert not path.exists()
    assert path.read_bytes() == b"1 2 3"
    assert [p.name for p in tmp_path.iterdir()] == ["numbers.txt"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text("old")
    with suppress(KeyboardInterrupt), whole_file(path) as file:
        file.write(b"half of the ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["numbers.txt"]


def test_files_and_folders_can_be_flushed(tmp_path: Path) -> None:
    flush(tmp_path)
    with pytest.raises(FileNotFoundError):
        flush(tmp_path / "missing")
