"""mini_in9: foregrounds on their own and on others' backgrounds, in the layout of ImageNet-9.

Each of the nine super-classes is made of two materials. Its backgrounds are those of
``mini_objects`` with a weak print of one of its materials, so that a background hints at the class.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.data.mini.compose import Drawn, Objects, draw, fit, paste, to_bytes
from bench.data.mini.grounds import backgrounds
from bench.data.mini.materials import MATERIALS, RGB_FROM_YUV, YUV_FROM_RGB, Floats, Ints
from bench.data.mini.plan import Plan, Report, save_jpeg
from bench.data.mini.shapes import shapes
from bench.data.mini.surface import pieces, surface

NAME = "mini_in9"
SUPER_CLASSES: dict[str, tuple[str, str]] = {
    "00_stone": ("brick", "gravel"),
    "01_metal": ("coins", "wheel"),
    "02_tree": ("foliage", "wood"),
    "03_meadow": ("grass", "petals"),
    "04_night sky": ("galaxies", "moon"),
    "05_tissue": ("gland", "stroma"),
    "06_paper": ("handwriting", "print"),
    "07_building": ("lattice", "pagoda"),
    "08_animal": ("fur", "vessels"),
}
SHARE = 0.1  # of the object train images; eight variants of each
AREA = (0.24, 0.32)  # share of the image that the foreground covers
LONGEST = 0.78  # leaves a strip of background beside the box
PRINT = 0.45  # contrast of the material's print in the background
CHUNK = 512  # images drawn at once

Pixels = NDArray[np.uint8]
Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class _Pictures:
    """``n`` images and what the variants are put together from."""

    original: Floats  # (n, s, s, 3)
    background: Floats  # (n, s, s, 3) as it is behind the object
    masks: Masks  # (n, s, s)
    drawn: Drawn


def super_class_of() -> dict[str, int]:
    """``in_to_in9.json``: place of each class among the sorted wnids -> super-class."""
    groups = [set(names) for names in SUPER_CLASSES.values()]
    ordered = sorted(MATERIALS, key=lambda material: material.wnid)
    return {
        str(index): next(number for number, names in enumerate(groups) if material.name in names)
        for index, material in enumerate(ordered)
    }


def write(folder: Path, plan: Plan, report: Report) -> None:
    """Write ``bg_challenge/{<variant>,fg_mask}/val/<super-class>/`` and the map of classes."""
    (folder / "bg_challenge").mkdir()
    (folder / "bg_challenge" / "in_to_in9.json").write_text(json.dumps(super_class_of()) + "\n")
    kinds = len(SUPER_CLASSES)
    each = max(2, plan.per_class(SHARE, kinds))  # both materials, and a partner of the same class
    supers = np.repeat(np.arange(kinds), each)
    materials = _materials()[supers, np.arange(len(supers)) % 2]
    rng = plan.rng("in9/val")
    stems = _stems(materials, rng)
    for name in SUPER_CLASSES:
        (folder / "bg_challenge" / "fg_mask" / "val" / name).mkdir(parents=True)
    chunks = [slice(start, start + CHUNK) for start in range(0, len(supers), CHUNK)]
    tiled: list[Pixels] = []
    for chunk in chunks:  # first all backgrounds, as each may come behind any foreground
        own = _pictures(materials[chunk], supers[chunk], plan, chunk.start)
        tiled.append(to_bytes(_tiled(own)))
    backdrops = np.concatenate(tiled) / 255
    behind = _partners(supers, rng)
    done = 0
    for chunk in chunks:
        own = _pictures(materials[chunk], supers[chunk], plan, chunk.start)
        sets = _variants(own, backdrops, {name: rows[chunk] for name, rows in behind.items()})
        _save(folder / "bg_challenge", sets, own.masks, supers[chunk], stems[chunk])
        done += len(own.masks)
        report(NAME, done * len(sets), len(supers) * len(sets))


def _materials() -> Ints:
    """The materials (9, 2) of the super-classes."""
    index = {material.name: i for i, material in enumerate(MATERIALS)}
    return np.array([[index[name] for name in names] for names in SUPER_CLASSES.values()])


def _stems(materials: Ints, rng: np.random.Generator) -> list[str]:
    """File names without ending, as ImageNet's: wnid and a number of its own."""
    numbers = rng.permutation(4 * len(materials))[: len(materials)] + 1
    return [f"{MATERIALS[m].wnid}_{number}" for m, number in zip(materials, numbers, strict=True)]


def _partners(supers: Ints, rng: np.random.Generator) -> dict[str, Ints]:
    """Whose background comes behind each foreground, (n,) for each mixed variant."""
    n, kinds = len(supers), len(SUPER_CLASSES)
    own = n // kinds  # images of a super-class; they lie together
    step = rng.integers(1, own, n)  # never itself
    following = (supers + 1) % kinds
    return {
        "mixed_same": supers * own + (np.arange(n) % own + step) % own,
        "mixed_rand": rng.integers(0, n, n),
        "mixed_next": following * own + rng.integers(0, own, n),
    }


def _pictures(materials: Ints, supers: Ints, plan: Plan, start: int) -> _Pictures:
    """The images from number ``start`` on; drawing them again gives the same."""
    rng, n, side = plan.rng(f"in9/val/{start}"), len(materials), plan.object_px
    background, _ = backgrounds(n, side, "val", rng)
    printed = _materials()[supers, rng.integers(0, 2, n)]
    steps = np.tile(np.arange(side) + 0.5 - side / 2, (n, 1))
    yuv = surface(printed, "val", side, steps, steps, pieces(n, rng))
    rest = yuv - yuv.mean((1, 2), keepdims=True)
    background = np.clip(background + PRINT * rest @ RGB_FROM_YUV.T, 0, 1)
    chosen = rng.integers(0, len(shapes("val")), n)
    angle = rng.uniform(-0.3, 0.3, n)
    scale, half = fit(chosen, angle, rng.uniform(*AREA, n), LONGEST, "val", side)
    centre = side / 2 + rng.uniform(-1, 1, (n, 2)) * (side / 2 - half - 0.5)
    objects = Objects(materials, chosen, centre[:, 0], centre[:, 1], scale, angle)
    ground = background.mean((1, 2)) @ YUV_FROM_RGB.T
    drawn = draw(objects, "val", side, side + 2, ground, rng)
    original = background.copy()
    masks = paste(original, np.arange(n), drawn)
    return _Pictures(original, background, masks, drawn)


def _tiled(own: _Pictures) -> Floats:
    """The originals with the object's box filled from the widest strip beside it, repeated."""
    out = own.original.copy()
    side = out.shape[1]
    for picture, mask in zip(out, own.masks, strict=True):
        top, bottom, left, right = _box(mask)
        strips = (
            picture[:, :left],
            picture[:, right:],
            picture[:top].swapaxes(0, 1),
            picture[bottom:].swapaxes(0, 1),
        )
        widest = max(range(4), key=lambda i: strips[i].shape[1])
        strip = strips[widest]
        filled = np.tile(strip, (1, side // strip.shape[1] + 1, 1))[:, :side]
        if widest >= 2:
            filled = filled.swapaxes(0, 1)
        picture[top:bottom, left:right] = filled[top:bottom, left:right]
    return out


def _box(mask: Masks) -> tuple[int, int, int, int]:
    """First and past-the-end row, and first and past-the-end column of what the object touches."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    side = len(mask)
    # One pixel more: the antialiased rim is no background.
    return (
        max(0, int(rows[0]) - 1),
        min(side, int(rows[-1]) + 2),
        max(0, int(columns[0]) - 1),
        min(side, int(columns[-1]) + 2),
    )


def _variants(own: _Pictures, backdrops: Floats, behind: dict[str, Ints]) -> dict[str, Pixels]:
    """The eight variants (n, s, s, 3)."""
    every = np.arange(len(own.masks))

    def on(canvas: Floats) -> Floats:
        paste(canvas, every, own.drawn)
        return canvas

    cover = _cover(own)
    boxless = own.original.copy()
    for picture, mask in zip(boxless, own.masks, strict=True):
        top, bottom, left, right = _box(mask)
        picture[top:bottom, left:right] = 0
    found = {
        "original": own.original,
        "only_fg": on(np.zeros_like(own.original)),
        "no_fg": own.background * (1 - cover),
        "only_bg_b": boxless,
        "only_bg_t": _tiled(own),
        **{name: on(backdrops[rows]) for name, rows in behind.items()},
    }
    return {name: to_bytes(pictures) for name, pictures in found.items()}


def _cover(own: _Pictures) -> Floats:
    """Opacity (n, s, s, 1) of the objects in their images."""
    canvas = np.zeros_like(own.original)
    white = Drawn(own.drawn.opacity, np.ones_like(own.drawn.colour), own.drawn.left, own.drawn.top)
    paste(canvas, np.arange(len(canvas)), white)
    return canvas[..., :1]


def _save(
    root: Path, variants: dict[str, Pixels], masks: Masks, supers: Ints, stems: list[str]
) -> None:
    names = list(SUPER_CLASSES)
    for variant, pictures in variants.items():
        for name in names:
            (root / variant / "val" / name).mkdir(parents=True, exist_ok=True)
        for pixels, number, stem in zip(pictures, supers, stems, strict=True):
            save_jpeg(pixels, root / variant / "val" / names[number] / f"{stem}.JPEG")
    for mask, number, stem in zip(masks, supers, stems, strict=True):
        np.save(root / "fg_mask" / "val" / names[number] / f"{stem}.npy", mask)
