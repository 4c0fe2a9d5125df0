"""MATLAB annotation files: named variables as arrays, with every failure named after its file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import DataError


@contextmanager
def reading_mat(path: Path) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """The variables of the file, each as a flat array; structs keep their fields as columns.

    Whatever is amiss with the file, or with its content in the block, becomes a `DataError`.
    """
    from scipy.io import loadmat  # late: only a few layouts need scipy

    try:
        content = loadmat(str(path), squeeze_me=True)
        yield {
            name: np.atleast_1d(value)
            for name, value in content.items()
            if not name.startswith("__")
        }
    except DataError:
        raise
    except Exception as error:  # scipy raises anything from struct.error to NotImplementedError
        raise DataError(
            f"cannot read {path} ({type(error).__name__}: {error}): take it from its official "
            "source again"
        ) from error
