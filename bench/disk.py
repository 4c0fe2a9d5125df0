"""Files that are there whole or not at all, also after a power cut."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bench.progress import say


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file to write; it gets the name `path` when the block ends, and never on an error.

    What lay at `path` before is replaced in one step.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    flush(path.parent)


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Holds `PATH.lock`, which the system frees when the process ends, however it ends.

    Who comes second waits, and says so: for "another process that `what`".
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f"{path.name}.lock"), "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that {what}")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def flush(path: Path) -> None:
    """Forces a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush folders, and say so with EINVAL.
        if not (path.is_dir() and error.errno == errno.EINVAL):
            raise
    finally:
        os.close(descriptor)
