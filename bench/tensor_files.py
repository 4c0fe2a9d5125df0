"""Tensors from files of strangers: safetensors, or pickles that may hold data and nothing else."""

import argparse
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from bench.errors import CheckpointError

# What old checkpoints carry beside tensors: the arguments of the run and numpy scalars in them.
_NUMBERS = ("?", "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "e", "f", "d", "S", "U")
_SAFE: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *{type(np.dtype(code)) for code in _NUMBERS},
    # numpy 1 and 2 pickle the function that makes scalars under two names.
    (np.float64().__reduce__()[0], "numpy._core.multiarray.scalar"),
    (np.float64().__reduce__()[0], "numpy.core.multiarray.scalar"),
]


def safe_torch_load(path: Path | str) -> Any:
    """What a `.safetensors` file or a torch checkpoint holds, on the CPU, without running its code.

    Pickles are read with `weights_only=True`; beside torch's own types only `argparse.Namespace`
    and numpy scalars pass. CheckpointError, in one line: a missing or damaged file, or a pickle
    that names any other object.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file: give the path of a checkpoint file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_SAFE):
            # Mapped where the format allows: asking several families then costs no reading.
            mmap = zipfile.is_zipfile(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except safetensors.SafetensorError as error:
        raise _unreadable(path, error) from error
    except Exception as error:  # torch and pickle raise anything on bytes that are no checkpoint
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    with open(path, "rb") as stream:
        head = stream.read(64)
    size = path.stat().st_size
    if head.startswith(b"version https://git-lfs"):
        return CheckpointError(f"{path} is a Git LFS pointer, not the weights: run `git lfs pull`")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return CheckpointError(f"{path} is a web page, not a checkpoint: download the file again")
    text = " ".join(str(error).split())
    # torch spends a screen on how to switch the protection off; only the name matters here.
    named = re.search(r"GLOBAL (\S+)", text)
    if named or "weights_only" in text:
        what = f"pickles {named[1]}, which is code" if named else "pickles more than data"
        return CheckpointError(
            f"{path} {what}: refused; where you trust the file, save its tensors as .safetensors "
            "and load that"
        )
    return CheckpointError(
        f"{path} ({size:,} bytes) cannot be read as a checkpoint ({text[:120]}): "
        "it is damaged or cut short, so copy or download it again"
    )


def find_tensors(
    payload: Any, keys: Sequence[str] = ("state_dict", "model"), source: str = "checkpoint"
) -> dict[str, Tensor]:
    """The state dict in what a checkpoint file held: under the first of `keys`, else the whole.

    CheckpointError names what the file holds when there is no tensor in that place.
    """
    place = payload
    for key in keys:
        if isinstance(payload, Mapping) and isinstance(payload.get(key), Mapping):
            place = payload[key]
            break
    if isinstance(place, Mapping):
        tensors = {str(name): value for name, value in _tensors(place)}
        if tensors:
            return tensors
    found = ", ".join(map(str, list(payload)[:8])) if isinstance(payload, Mapping) else "no mapping"
    raise CheckpointError(
        f"{source} has no tensors at its top or under {' or '.join(keys)} (it holds {found}): "
        "give the file of the weights"
    )


def _tensors(mapping: Mapping[Any, Any]) -> Iterator[tuple[Any, Tensor]]:
    return ((name, value) for name, value in mapping.items() if isinstance(value, Tensor))


def strip_prefixes(state: Mapping[str, Tensor], prefixes: Sequence[str]) -> dict[str, Tensor]:
    """The state with leading `prefixes` cut off every name, repeatedly (`module.backbone.`)."""
    stripped: dict[str, Tensor] = {}
    for name, tensor in state.items():
        short = name
        while cut := next((p for p in prefixes if short.startswith(p)), None):
            short = short.removeprefix(cut)
        if short in stripped:
            raise CheckpointError(
                f"'{short}' comes twice once {', '.join(prefixes)} are cut off: choose one branch "
                "of the checkpoint (teacher or student)"
            )
        stripped[short] = tensor
    return stripped
