"""A reader for data pickles (CIFAR batches, retrieval ground truth) that can run no code."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import DataError


def load_plain_pickle(path: Path) -> Any:
    """The content of a pickle made of built-in containers, numbers, text and numpy arrays.

    Text of Python 2 pickles is read as latin-1, as the readers of CIFAR and of the revisited
    Oxford and Paris ground truth do. Arrays come back as a subclass of `np.ndarray`.

    Raises:
        DataError: the file cannot be read, is broken, or names any other class or function
            (such a pickle could run code).
    """
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a broken stream can raise nearly anything
        raise DataError(
            f"refused to unpickle {path} ({type(error).__name__}: {error}): "
            "take the file again from its official source"
        ) from error


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # Looked up whole, never by getattr: dotted names ("ndarray.tofile") find nothing.
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not plain data")
        return _ALLOWED[module, name]


# numpy's own unpickling trusts the stream: a forged dtype state can make raw bytes pass for
# object pointers. So the stream never touches a real dtype or array: stand-ins take its states,
# check them, and build the array from a clean dtype.


class _PlainDtype:
    """Stands for `np.dtype` in the stream: booleans, numbers and fixed-size text only."""

    def __init__(self, code: str, align: bool = False, copy: bool = True) -> None:
        if not re.fullmatch(r"b1|[iufc]\d{1,2}|[SU]\d{1,6}", code):
            raise pickle.UnpicklingError(f"numpy type {code!r} is not plain data")
        self.dtype: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):  # all else in the state follows from the code
            self.dtype = self.dtype.newbyteorder(state[1])


class _PlainArray(np.ndarray[Any, Any]):
    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, raw = state
        raw = raw.encode("latin-1") if isinstance(raw, str) else raw  # str: written by Python 2
        if not isinstance(kind, _PlainDtype) or not isinstance(raw, bytes):
            raise pickle.UnpicklingError("an array of objects is not plain data")
        # numpy compares the byte count with shape and type
        state = (1, shape, kind.dtype, bool(fortran), raw)
        super().__setstate__(state)  # type: ignore[arg-type]  # the stub wants a numpy bool


def _new_array(*_: object) -> _PlainArray:
    return np.ndarray.__new__(_PlainArray, (0,), np.uint8)


def _array_from_buffer(
    buffer: bytes, kind: _PlainDtype, shape: tuple[int, ...], order: str
) -> np.ndarray[Any, Any]:
    array = np.frombuffer(buffer, kind.dtype)
    return array.reshape(shape, order="F" if order == "F" else "C").copy()


def _scalar(kind: _PlainDtype, raw: bytes | str) -> Any:
    return np.frombuffer(raw.encode("latin-1") if isinstance(raw, str) else raw, kind.dtype)[0]


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """What Python 3 writes for bytes into old pickle protocols; other codecs are refused."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"codec {encoding!r} is not plain data")
    return text.encode("latin-1")


def _empty_bytes() -> bytes:
    """How old protocols write b""; `bytes` itself would fill the memory when asked for a size."""
    return b""


_CONTAINERS = (dict, frozenset, list, set, tuple)
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(home, kind.__name__): kind for home in ("builtins", "__builtin__") for kind in _CONTAINERS},
    **{(home, "bytes"): _empty_bytes for home in ("builtins", "__builtin__")},
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin1_bytes,
    ("numpy", "dtype"): _PlainDtype,
    ("numpy", "ndarray"): None,  # only ever handed to _reconstruct, which does not look at it
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _new_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array_from_buffer for core in ("core", "_core")},
}
