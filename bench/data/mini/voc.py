"""mini_voc: several objects per image with masks and boxes, in the layout of VOC2012."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bench.annotations import VOID
from bench.data.mini.materials import MATERIALS, Part
from bench.data.mini.plan import Plan, Report, save_jpeg
from bench.data.mini.windows import Window, windows
from bench.label_maps import index_png

NAME = "mini_voc"
# List, whether it has masks (else only ImageSets/Main has it), share of the object train images,
# fewest images of each class.
LISTS: tuple[tuple[Part, bool, float, int], ...] = (
    ("train", True, 0.08, 2),
    ("train", False, 0.01, 1),
    ("val", True, 0.08, 2),
    ("val", False, 0.01, 1),
)
SIZES = ((48, 40), (40, 48), (48, 38))  # width, height in 48ths of a scene's side
LEAST = 0.008  # share of the scene; what shows less is difficult, and void in the masks
YEARS = (2007, 2012)
FOLDERS = ("JPEGImages", "Annotations", "SegmentationClass", "SegmentationObject")
REPORT = 100  # images between two reports


def write(folder: Path, plan: Plan, report: Report) -> None:
    """Write images, XML, both kinds of masks and the lists in ``ImageSets``."""
    for name in FOLDERS:
        (folder / name).mkdir()
    per_class = [max(least, plan.per_class(share)) for _, _, share, least in LISTS]
    total = sum(per_class) * len(MATERIALS)
    stems = iter(_stems(total, plan.rng("voc/names")))
    sizes = tuple((w * plan.scene_px // 48, h * plan.scene_px // 48) for w, h in SIZES)
    listed: dict[tuple[Part, bool], list[str]] = {}
    done = 0
    for (part, segmented, _, _), many in zip(LISTS, per_class, strict=True):
        rng = plan.rng(f"voc/{part}/{'masks' if segmented else 'boxes'}")
        own = listed[part, segmented] = []
        for seen in windows(many, sizes, plan.scene_px, part, rng):
            own.append(next(stems))
            _write_image(folder, own[-1], seen, segmented, plan, rng)
            done += 1
            if done % REPORT == 0 or done == total:
                report(NAME, done, total)
    _write_lists(folder / "ImageSets", listed)


def _stems(n: int, rng: np.random.Generator) -> list[str]:
    """File names without ending such as ``2009_000123``, the splits interleaved."""
    years = rng.integers(YEARS[0], YEARS[1] + 1, n)
    numbers = rng.permutation(4 * n)[:n] + 1
    return [f"{year}_{number:06d}" for year, number in zip(years, numbers, strict=True)]


def _write_image(
    folder: Path,
    stem: str,
    seen: Window,
    segmented: bool,
    plan: Plan,
    rng: np.random.Generator,
) -> None:
    save_jpeg(seen.pixels, folder / "JPEGImages" / f"{stem}.jpg")
    void = border(seen.front, plan.scene_px // 48)
    left = np.bincount(seen.front[~void], minlength=len(seen.materials) + 1)
    order = rng.permutation(len(seen.materials)) + 1  # which says nothing of size or depth
    clear = left[order] >= LEAST * plan.scene_px**2
    order = np.concatenate([order[clear], order[~clear]])
    difficult = order[int(clear.sum()) :]
    objects = [_object(seen, number, number in difficult) for number in order]
    (folder / "Annotations" / f"{stem}.xml").write_text(_xml(stem, seen, segmented, objects))
    if not segmented:
        return
    void |= np.isin(seen.front, difficult)
    numbers = np.zeros(len(order) + 1, np.uint8)
    numbers[order] = np.arange(1, len(order) + 1)
    classes = np.array([0, *(seen.materials + 1)], np.uint8)
    for name, table in (("SegmentationClass", classes), ("SegmentationObject", numbers)):
        labels = np.where(void, np.uint8(VOID), table[seen.front])
        (folder / name / f"{stem}.png").write_bytes(index_png(labels))


def border(front: NDArray[np.uint8], width_px: int) -> NDArray[np.bool_]:
    """(h, w) true on the outer side of each object's outline, on what lies behind it."""
    nearest = ndimage.maximum_filter(front, 2 * width_px + 1, mode="nearest")
    return np.asarray(nearest > front)


def _object(seen: Window, number: int, difficult: bool) -> str:
    y, x = np.nonzero(seen.mask(number))
    return f"""\t<object>
\t\t<name>{MATERIALS[seen.materials[number - 1]].name}</name>
\t\t<pose>Unspecified</pose>
\t\t<truncated>{int(seen.cut[number - 1])}</truncated>
\t\t<difficult>{int(difficult)}</difficult>
\t\t<bndbox>
\t\t\t<xmin>{x.min() + 1}</xmin>
\t\t\t<ymin>{y.min() + 1}</ymin>
\t\t\t<xmax>{x.max() + 1}</xmax>
\t\t\t<ymax>{y.max() + 1}</ymax>
\t\t</bndbox>
\t</object>
"""


def _xml(stem: str, seen: Window, segmented: bool, objects: list[str]) -> str:
    height, width = seen.front.shape
    return f"""<annotation>
\t<folder>VOC2012</folder>
\t<filename>{stem}.jpg</filename>
\t<source>
\t\t<database>sslbench {NAME}</database>
\t\t<annotation>sslbench {NAME}</annotation>
\t\t<image>as stated by scikit-image and scikit-learn</image>
\t</source>
\t<size>
\t\t<width>{width}</width>
\t\t<height>{height}</height>
\t\t<depth>3</depth>
\t</size>
\t<segmented>{int(segmented)}</segmented>
{"".join(objects)}</annotation>
"""


def _write_lists(folder: Path, listed: dict[tuple[Part, bool], list[str]]) -> None:
    """``Segmentation`` lists the images with masks, ``Main`` all of them."""
    masks = {part: own for (part, has), own in listed.items() if has}
    every = {part: own + listed[part, False] for part, own in masks.items()}
    for name, lists in (("Segmentation", masks), ("Main", every)):
        (folder / name).mkdir(parents=True)
        content = {str(part): own for part, own in lists.items()}
        content["trainval"] = [*lists["train"], *lists["val"]]
        for split, stems in content.items():
            (folder / name / f"{split}.txt").write_text("\n".join(sorted(stems)) + "\n")
