"""The masks of a cell as files: one PNG an image, as the official evaluators read them."""

import contextlib
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from bench.disk import flush
from bench.errors import SpecError, StoreError
from bench.records import Outcome


def masks(outcome: Outcome, spec: str) -> dict[str, bytes]:
    """PNG files by their paths, such as `blackswan/00000.png`.

    Raises:
        SpecError: the cell keeps no masks.
        StoreError: what it keeps is broken, or would be written outside of the folder.
    """
    kept = outcome.extras
    if "mask_png" not in kept:
        raise SpecError(
            f"{spec} keeps no masks: ask for a cell of a task that predicts them, such as davis"
        )
    content, ends = kept["mask_png"].tobytes(), kept["mask_offsets"].tolist()
    ids = [str(id_) for id_ in kept["mask_id"]]
    if len(ends) != len(ids) + 1 or sorted(ends) != ends or ends[-1:] != [len(content)]:
        raise StoreError(f"the masks of {spec} are broken: evaluate it again")
    for id_ in ids:
        parts = PurePosixPath(id_).parts
        if not parts or PurePosixPath(id_).is_absolute() or ".." in parts or "\0" in id_:
            raise StoreError(f"{spec} keeps a mask called {id_!r}, which is no path in a folder")
    return {f"{id_}.png": content[ends[i] : ends[i + 1]] for i, id_ in enumerate(ids)}


@contextlib.contextmanager
def staged(folder: Path, files: Mapping[str, bytes]) -> Iterator[None]:
    """All files in the folder when the block ends well, and none of them otherwise.

    Raises:
        StoreError: the folder holds something already, or cannot be written.
    """
    refuse_taken(folder)
    folder = folder.resolve()  # "." has no name
    part = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}.part")
    try:
        for name, content in files.items():
            path = part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        yield
        part.rename(folder)  # an empty folder gives way
        flush(folder.parent)
    except OSError as error:
        raise StoreError(
            f"cannot write {folder} ({error.strerror}): give another --masks"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def refuse_taken(folder: Path) -> None:
    """StoreError where there is something that files of ours could replace or be mixed with."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise StoreError(f"{folder} exists: choose another --masks, or delete it")
