"""Names of the materials, for those who must not read any photograph to know them."""

from __future__ import annotations

MATERIAL_NAMES: tuple[str, ...] = (
    "brick",
    "coins",
    "foliage",
    "fur",
    "galaxies",
    "gland",
    "grass",
    "gravel",
    "handwriting",
    "lattice",
    "moon",
    "pagoda",
    "petals",
    "print",
    "stroma",
    "vessels",
    "wheel",
    "wood",
)
