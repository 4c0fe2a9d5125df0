"""A folder for what lets a killed cell continue, held by one process at a time."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.progress import say


@contextlib.contextmanager
def workspace(folder: Path) -> Iterator[Path | None]:
    """The folder, with what a killed process left in it; None when another process works there.

    It is removed when the block ends well, and kept when it is left by an exception or a kill. None
    also where the disk can neither make nor lock it: then a killed cell starts anew.
    """
    lock = folder.with_name(f"{folder.name}.lock")
    try:
        held = _hold(lock)
        if held is not None:
            folder.mkdir(exist_ok=True)
    except OSError as error:
        say(f"{folder} cannot be held ({error.strerror}): a killed run will start anew")
        held = None
    if held is None:
        yield None
        return
    try:
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # nothing was left to continue from
        lock.unlink(missing_ok=True)  # while it is held: `_hold` tells a lock that is gone
        os.close(held)  # the system frees the lock, also after a kill


def _hold(lock: Path) -> int | None:
    """A locked descriptor of the file; None when another process has it.

    A file and not the folder itself: network file systems lock only what is open for writing.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        with contextlib.suppress(FileNotFoundError):
            if lock.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)  # its last owner removed it between the two lines
