"""A checkpoint with prototypes, written without any training."""

from pathlib import Path

import torch

from bench.checkpoints.native import write_checkpoint
from bench.network import seeded_network
from bench.transforms import InputSpec

ARCH = "vit_mini_patch4_32"


def write_prototyped(folder: Path, prototypes: int = 12, method: str = "slotmim") -> str:
    """A run folder whose encoder, projector and prototypes are random; its path as a source."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "head.0.weight": (20, 96),
        "head.0.bias": (20,),
        "head.2.weight": (16, 20),
        "head.2.bias": (16,),
        "prototypes.weight": (prototypes, 16),
    }
    state = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    declared = {"projector": "head", "prototypes": "prototypes.weight", "temperature": 0.07}
    meta = {
        "name": folder.name,
        "arch": ARCH,
        "method": method,
        "input": InputSpec.of_size(32).to_json(),
        "extras": {"proto": declared},
    }
    write_checkpoint(folder / "checkpoint", seeded_network(ARCH, 0), state, meta)
    return str(folder)
