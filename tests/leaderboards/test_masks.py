"""Masks of a cell as files: all of them or none, and never over what is there."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench import cli
from bench.errors import SpecError, StoreError
from bench.label_maps import index_png, voc_palette
from bench.records import Outcome, Result
from bench.store import Store
from leaderboards.cell import explain
from leaderboards.masks import masks

Make = Callable[..., Result]

MAPS = {
    "ant/00000": np.eye(6, dtype=np.uint8),
    "ant/00001": np.eye(6, 9, dtype=np.uint8) * 2,
    "zebra/00000": np.full((4, 5), 255, dtype=np.uint8),
}


def outcome(names: list[str] | None = None, **changed: Any) -> Outcome:
    """Two objects, and the masks of three frames one behind the other."""
    files = [index_png(labels) for labels in MAPS.values()]
    extras = {
        "mask_id": np.array(names or list(MAPS)),
        "mask_offsets": np.cumsum([0, *map(len, files)]),
        "mask_png": np.frombuffer(b"".join(files), dtype=np.uint8),
    }
    columns = {"id": np.array(["ant/1", "zebra/1"]), "value": np.array([0.5, 0.25])}
    return Outcome(columns, extras | changed)


@pytest.fixture
def stored(tmp_path: Path, result: Make) -> Store:
    """A cell with masks and one without."""
    store = Store(tmp_path / "results")
    spec = "davis@mini_davis"
    store.write(result("mae", 0.5, spec=spec, headline="jf_mean"), outcome())
    store.write(result("mae", 0.5), Outcome({"id": np.array(["a"]), "value": np.array([0.5])}))
    return store


def test_files_come_back_as_the_maps_that_they_were_in_the_official_palette(
    stored: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "masks"
    text, values = explain(stored, "mae", "davis", masks=folder)
    assert text.splitlines()[-1] == f"wrote {folder}"
    assert values["files"] == [str(folder)]
    found = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    assert found.keys() == {f"{name}.png" for name in MAPS}
    for name, labels in MAPS.items():
        with Image.open(found[f"{name}.png"]) as picture:
            assert picture.mode == "P"
            assert picture.getpalette() == voc_palette()
            assert np.array_equal(np.array(picture), labels)
    assert [path.name for path in folder.parent.iterdir()] == ["masks"]
    assert folder.stat().st_mode == folder.parent.stat().st_mode


def test_an_empty_folder_is_filled_and_a_full_one_kept(stored: Store, tmp_path: Path) -> None:
    empty, full, file = (tmp_path / name for name in ("empty", "full", "file"))
    empty.mkdir()
    full.mkdir()
    (full / "mine").write_text("")
    file.write_text("")
    explain(stored, "mae", "davis", masks=empty)
    assert sorted(path.name for path in empty.iterdir()) == ["ant", "zebra"]
    for taken in (full, file, empty):
        with pytest.raises(StoreError, match="exists: choose another --masks"):
            explain(stored, "mae", "davis", masks=taken)
    assert [path.name for path in full.iterdir()] == ["mine"]


def test_the_folder_one_stands_in_is_filled(
    stored: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    explain(stored, "mae", "davis", masks=Path())
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["ant", "zebra"]


def test_a_failed_write_leaves_nothing(stored: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="give another --masks"):
        explain(stored, "mae", "davis", masks=tmp_path / "file" / "masks")
    folder = tmp_path / "out" / "masks"
    taken = tmp_path / "file" / "rows.csv"
    with pytest.raises(StoreError, match=r"cannot write .*rows.csv"):
        explain(stored, "mae", "davis", predictions=taken, masks=folder)
    assert not list(folder.parent.iterdir())


def test_other_files_keep_out_of_the_folder(stored: Store, tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    for inside in (folder / "rows.csv", folder):
        with pytest.raises(SpecError, match="a folder of its own"):
            explain(stored, "mae", "davis", predictions=inside, masks=folder)
    assert not folder.exists()
    _, values = explain(stored, "mae", "davis", predictions=tmp_path / "masks.csv", masks=folder)
    assert values["files"] == [str(tmp_path / "masks.csv"), str(folder)]


def test_a_cell_without_masks_says_which_have_some(stored: Store, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"knn@imagenet1k.* keeps no masks.*such as davis"):
        explain(stored, "mae", "knn", masks=tmp_path / "masks")
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize("name", ["../ant", "/ant", "ant/../../b", "", "an\0t"])
def test_masks_stay_in_their_folder(name: str) -> None:
    with pytest.raises(StoreError, match="no path in a folder"):
        masks(outcome(["ant/00000", name, "zebra/00000"]), "davis@x")


@pytest.mark.parametrize("offsets", [[0, 5, 9], [0, 9, 5, 7], [0, 1, 2, 3], []])
def test_broken_masks_are_told(offsets: list[int]) -> None:
    with pytest.raises(StoreError, match="broken: evaluate it again"):
        masks(outcome(mask_offsets=np.array(offsets, dtype=np.int64)), "davis@x")


def test_the_command_writes_the_masks_without_torch(stored: Store, tmp_path: Path) -> None:
    options = ["--masks", str(tmp_path / "masks"), "--results", str(stored.root), "--json"]
    code = (
        f"import sys; sys.argv = ['sslbench', 'cell', 'mae', 'davis', *{options!r}]\n"
        "from bench.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "assert not {'torch', 'timm', 'torchvision'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.load(io.StringIO(done.stdout))["files"] == [str(tmp_path / "masks")]
    assert len(list((tmp_path / "masks").rglob("*.png"))) == 3


def test_a_bad_request_is_told_in_a_line(
    stored: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--masks", str(stored.root), "--results", str(stored.root))
    monkeypatch.setattr("sys.argv", ["sslbench", "cell", "mae", "davis", *options])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "exists: choose another --masks" in error
    assert error.count("\n") == 1
