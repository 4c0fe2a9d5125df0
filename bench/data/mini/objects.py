"""mini_objects: one large object per image, in the layout of ImageNet with SimCLRv2's lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.data.mini.compose import single
from bench.data.mini.materials import MATERIALS, Part
from bench.data.mini.plan import Plan, Report, save_jpeg

NAME = "mini_objects"
VAL_SHARE = 0.2
CHUNK = 512  # images drawn at once


def write(folder: Path, plan: Plan, report: Report) -> None:
    """Write ``{train,val}/<wnid>/<wnid>_<n>.JPEG``, the few-label lists and the class names."""
    per_class = {"train": plan.per_class(1.0), "val": plan.per_class(VAL_SHARE)}
    total = sum(per_class.values()) * len(MATERIALS)
    done = 0
    parts: tuple[Part, ...] = ("train", "val")
    for part in parts:
        rng = plan.rng(f"objects/{part}")
        classes = np.repeat(np.arange(len(MATERIALS)), per_class[part])
        paths = [folder / part / wnid / f"{name}.JPEG" for wnid, name in _names(classes, rng)]
        for wnid in sorted({path.parent for path in paths}):
            wnid.mkdir(parents=True)
        for start in range(0, len(paths), CHUNK):
            chunk = slice(start, start + CHUNK)
            for pixels, path in zip(
                single(classes[chunk], part, plan.object_px, rng), paths[chunk], strict=True
            ):
                save_jpeg(pixels, path)
            done += len(paths[chunk])
            report(NAME, done, total)
        if part == "train":
            _write_lists(folder, [path.name for path in paths], plan)
    lines = [f"{m.wnid} {m.name}" for m in MATERIALS]
    (folder / "LOC_synset_mapping.txt").write_text("\n".join(lines) + "\n")


def _names(classes: NDArray[np.int64], rng: np.random.Generator) -> list[tuple[str, str]]:
    """(wnid, file stem) of each image; the numbers have gaps, as ImageNet's do."""
    out = []
    for index in np.unique(classes):
        wnid = MATERIALS[index].wnid
        many = int((classes == index).sum())
        numbers = np.sort(rng.choice(many * 4, many, replace=False)) + 1
        out += [(wnid, f"{wnid}_{number}") for number in numbers]
    return out


def _write_lists(folder: Path, names: list[str], plan: Plan) -> None:
    """1percent.txt and 10percent.txt: bare file names, the same number per class, nested."""
    rng = plan.rng("objects/lists")
    by_class: dict[str, list[str]] = {}
    for name in names:
        by_class.setdefault(name.split("_")[0], []).append(name)
    shuffled = {wnid: [own[i] for i in rng.permutation(len(own))] for wnid, own in by_class.items()}
    for file, share in (("1percent.txt", 0.01), ("10percent.txt", 0.1)):
        rows = [
            name for own in shuffled.values() for name in own[: max(1, round(share * len(own)))]
        ]
        (folder / file).write_text("\n".join(sorted(rows)) + "\n")
