"""A folder for what lets a killed cell continue, held by one process at a time."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def workspace(folder: Path) -> Iterator[Path | None]:
    """The folder, with what a killed process left in it; None when another process works there.

    It is removed when the block ends well, and kept when it is left by an exception or a kill.
    """
    held = _hold(folder)
    if held is None:
        yield None
        return
    try:
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # nothing was left to continue from
        os.close(held)  # the system frees the lock, also after a kill


def _hold(folder: Path) -> int | None:
    """A locked descriptor of the folder; None when another process has it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # its last owner removed it between the two lines
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        with contextlib.suppress(FileNotFoundError):
            if folder.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)  # the lock is of a folder that is gone
