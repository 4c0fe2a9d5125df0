"""Position embeddings on another grid than the trained one: both conventions in use."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

PosInterp = Literal["size", "dino"]


def interpolate_positions(
    pos_embed: Tensor,
    old: tuple[int, int],
    new: tuple[int, int],
    prefix: int,
    convention: PosInterp = "size",
) -> Tensor:
    """(1, prefix + h*w, d) for the grid `new` (h, w), from (1, prefix + h0*w0, d) for `old`.

    `size` resizes bicubically with antialiasing to an explicit size, as timm does. `dino` passes a
    scale factor of (h + 0.1) / h0: the 0.1 guards the output size against float truncation and,
    because the factor itself maps the coordinates, shifts the sampling grid, which published DINO
    and iBOT numbers contain. The first `prefix` rows belong to CLS and registers and are kept. A
    grid of the trained size is returned as it is.
    """
    if old == new:
        return pos_embed
    head, grid = pos_embed[:, :prefix], pos_embed[:, prefix:]
    grid = grid.float().reshape(1, *old, -1).permute(0, 3, 1, 2)  # (1, d, h0, w0)
    if convention == "dino":
        factor = ((new[0] + 0.1) / old[0], (new[1] + 0.1) / old[1])
        grid = F.interpolate(grid, scale_factor=factor, mode="bicubic")
    else:
        grid = F.interpolate(grid, size=new, mode="bicubic", antialias=True)
    if tuple(grid.shape[-2:]) != new:
        raise ValueError(f"position grid came out {tuple(grid.shape[-2:])}, expected {new}")
    grid = grid.permute(0, 2, 3, 1).flatten(1, 2).to(pos_embed.dtype)  # (1, h*w, d)
    return torch.cat([head, grid], dim=1)
