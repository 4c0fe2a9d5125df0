"""mini_cifar: ten materials in CIFAR-10's python batches, byte for byte of the official kind."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.data.mini.compose import single
from bench.data.mini.materials import MATERIALS, Part
from bench.data.mini.plan import CIFAR_SIDE_PX, Plan, Report

NAME = "mini_cifar"
CLASSES = (
    "brick",
    "coins",
    "foliage",
    "fur",
    "galaxies",
    "grass",
    "pagoda",
    "petals",
    "print",
    "wood",
)
BATCHES = 5
PER_BATCH_SHARE = 1 / 6  # of the object train images; the test batch is as large as one of them

Value = str | int | list[int] | list[str] | NDArray[np.uint8]


def write(folder: Path, plan: Plan, report: Report) -> None:
    """Write ``cifar-10-batches-py/{data_batch_1..5,test_batch,batches.meta}``, always 32 px."""
    root = folder / "cifar-10-batches-py"
    root.mkdir()
    own = plan.per_class(PER_BATCH_SHARE, len(CLASSES))
    size = own * len(CLASSES)
    for number in range(1, BATCHES + 2):
        train = number <= BATCHES
        name = f"data_batch_{number}" if train else "test_batch"
        label = f"training batch {number} of {BATCHES}" if train else "testing batch 1 of 1"
        batch = _batch("train" if train else "val", label, own, plan.rng(f"cifar/{name}"))
        (root / name).write_bytes(pickled(batch))
        report(NAME, size * number, size * (BATCHES + 1))
    meta: dict[str, Value] = {
        "num_cases_per_batch": size,
        "label_names": list(CLASSES),
        "num_vis": 3 * CIFAR_SIDE_PX**2,
    }
    (root / "batches.meta").write_bytes(pickled(meta))


def _batch(part: Part, label: str, per_class: int, rng: np.random.Generator) -> dict[str, Value]:
    labels = rng.permutation(np.repeat(np.arange(len(CLASSES)), per_class))
    index = {material.name: i for i, material in enumerate(MATERIALS)}
    classes = np.array([index[name] for name in CLASSES])[labels]
    pixels = single(classes, part, CIFAR_SIDE_PX, rng)  # (n, 32, 32, 3)
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(len(pixels), -1)
    names = [f"{CLASSES[c]}_s_{i:06d}.png" for i, c in enumerate(labels)]
    return {"batch_label": label, "labels": labels.tolist(), "data": planes, "filenames": names}


def pickled(content: dict[str, Value]) -> bytes:
    """A protocol 2 pickle whose text is Python 2 ``str``, as in the official files.

    Python 3's own pickler cannot write those: readers that pass ``encoding="bytes"`` would find
    text keys, and those that pass ``encoding="latin1"`` would find bytes keys.
    """
    items = b"".join(_text(key) + _value(value) for key, value in content.items())
    return b"\x80\x02}(" + items + b"u."


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(_value(item) for item in value) + b"e"
    return _array(value)


def _text(text: str) -> bytes:
    return _string(text.encode("latin1"))


def _string(raw: bytes) -> bytes:
    if len(raw) < 256:
        return b"U" + struct.pack("<B", len(raw)) + raw
    return b"T" + struct.pack("<i", len(raw)) + raw


def _array(array: NDArray[np.uint8]) -> bytes:
    """What numpy's ``__reduce__`` gives, with booleans in the dtype (numpy 2.4 warns of ints)."""
    rows, columns = array.shape
    shape = _value(rows) + _value(columns) + b"\x86"
    # numpy.core is where official files and every numpy know the function; numpy 2 keeps it.
    empty = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + _text("b") + b"\x87R"
    )
    dtype = b"cnumpy\ndtype\n" + _text("u1") + b"\x89\x88\x87R"
    dtype += b"(K\x03" + _text("|") + b"NNN" + _value(-1) + _value(-1) + b"K\x00tb"
    return empty + b"(K\x01" + shape + dtype + b"\x89" + _string(array.tobytes()) + b"tb"
