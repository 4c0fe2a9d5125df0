"""Errors written as advice: what was found, what was expected, what mends it.

Every error that a user can cause derives from `SSLBenchError`; the command line prints its one
line and exits with its `exit_code`. Anything else that escapes is a defect and keeps its traceback.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import ClassVar

_LISTED = 12  # more names than this hide the advice instead of giving it


class SSLBenchError(Exception):
    """Base of all errors that are advice to the user; `str(error)` is that advice."""

    exit_code: ClassVar[int] = 2


class SpecError(SSLBenchError):
    """A spec string, a name or an option that does not exist or cannot be read."""


class DataError(SSLBenchError):
    """A dataset that is missing, incomplete or unreadable."""


class CheckpointError(SSLBenchError):
    """A checkpoint that cannot be read, or does not fit the backbone it is loaded into."""


class StoreError(SSLBenchError):
    """A stored result that cannot be written or read."""


class NewerSchema(StoreError):
    """A record that a newer version wrote: whole, but not ours to read or to replace."""


class TrainingError(SSLBenchError):
    """A training run that cannot start or must not go on (a NaN loss, a state that misfits)."""


class MissingPackage(SSLBenchError):
    """An optional package that is not installed; the message carries the line that installs it."""


def require(module: str, extra: str | None = None) -> ModuleType:
    """The imported module; raises `MissingPackage` with the `pip install` line otherwise.

    `extra` names the extra of sslbench that brings the package (`robot`, `dense`, `scale`, ...);
    without one the module's own first name is advised.
    """
    target = f"'sslbench[{extra}]'" if extra else module.partition(".")[0].replace("_", "-")
    mend = f"pip install {target}"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if missing.partition(".")[0] == module.partition(".")[0]:
            raise MissingPackage(f"{missing} is needed here but not installed; {mend}") from error
        raise MissingPackage(
            f"{module} is installed, but {missing}, which it imports, is not; {mend}"
        ) from error
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise MissingPackage(
            f"{module} is installed but does not import ({reason}); {mend} --force-reinstall"
        ) from error


def nearest(name: str, valid: Iterable[str]) -> str:
    """The second half of an "unknown name" message: the likeliest name, then the valid ones.

    Example: `nearest("kn", ["knn", "linear"])` is `"did you mean 'knn'? valid: knn, linear"`.
    """
    import difflib  # costs milliseconds that only the failing path should pay

    names = sorted(set(valid))
    if not names:
        return "there are none"
    folded = {candidate.casefold(): candidate for candidate in names}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    listed = ", ".join(names[:_LISTED])
    if len(names) > _LISTED:
        listed += f", and {len(names) - _LISTED} more"
    guess = f"did you mean {folded[close[0]]!r}? " if close else ""
    return f"{guess}valid: {listed}"
