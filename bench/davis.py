"""Reader of the DAVIS layout: short videos, each frame with the numbers of its objects.

Splits `train` and `val` hold every frame (id `<sequence>/<frame>`, sequences in the order of their
list). `objects` has a sample for each object of the val sequences (id `<sequence>/<number>`), as
their first frames number them; its image is that frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from bench.annotations import VOID, Annotations, LabelMap
from bench.dataset import Dataset, Table, layout_error
from bench.errors import DataError, SpecError, nearest
from bench.images import decode
from bench.label_maps import read_label_map
from bench.listed import require_paths
from bench.paired import by_stem, require_stems, stem_sizes
from bench.subsets import read_lines

SPLITS = ("train", "val", "objects")
IMAGES = "JPEGImages/480p"
_LISTS = {2017: ("ImageSets/2017",), 2016: ("ImageSets/2016", "ImageSets/480p")}
_MASKS = {2017: ("Annotations/480p",), 2016: ("Annotations_2016/480p", "Annotations/480p")}


class _Frame(NamedTuple):
    id: str  # sequence/stem
    key: str  # path of the image below the root
    size: int  # bytes of image and mask


def davis_table(dataset: Dataset, split: str, year: int = 2017) -> Table:
    """A split as a table without labels; see the module for its samples.

    The modifier `sequences` (names joined by ':'), where the dataset has it, keeps those alone.
    The size of an object counts the files of all frames of its sequence, so that the manifest
    notices a change in any of them.
    """
    require_paths(dataset, dataset.root, f"{IMAGES}/")
    masks = _mask_folder(dataset, year)
    names = _sequences(dataset, "train" if split == "train" else "val", year)
    with ThreadPoolExecutor(8) as pool:  # the time goes into waiting for the disk
        videos = list(pool.map(lambda name: _frames(dataset, name, masks), names))
        if split == "objects":
            videos = list(pool.map(lambda frames: _objects(dataset, frames), videos))
    rows = [row for video in videos for row in video]
    return Table(
        ids=tuple(row.id for row in rows),
        keys=tuple(row.key for row in rows),
        targets=np.full(len(rows), -1),
        classes=(),
        sizes=np.array([row.size for row in rows], dtype=np.int64),
    )


def davis_image(dataset: Dataset, split: str, key: str) -> Image.Image:
    """The frame of a key; of an object, the first of its sequence."""
    return decode(dataset.root / _frame_path(split, key))


def davis_objects(dataset: Dataset, split: str, key: str) -> LabelMap:
    """(h, w) numbers of the objects in a frame, as stored: 0 background, 255 void."""
    return _mask(dataset, split, key, 2017)


def davis_foreground(dataset: Dataset, split: str, key: str) -> LabelMap:
    """(h, w) 1 on all objects of a frame: whatever its mask stores but 0, also 255."""
    return np.not_equal(_mask(dataset, split, key, 2016), 0).astype(np.uint8)


DAVIS_ANNOTATIONS = Annotations(objects=davis_objects)
DAVIS_2016_ANNOTATIONS = Annotations(objects=davis_foreground)


def _mask(dataset: Dataset, split: str, key: str, year: int) -> LabelMap:
    frame = PurePosixPath(_frame_path(split, key))
    folder = dataset.root / _mask_folder(dataset, year) / frame.parent.name
    return read_label_map(folder / f"{frame.stem}.png", dataset.root / frame)


def _frame_path(split: str, key: str) -> str:
    return key.rpartition("#")[0] if split == "objects" else key


def _mask_folder(dataset: Dataset, year: int) -> str:
    found = next((name for name in _MASKS[year] if (dataset.root / name).is_dir()), None)
    if found is None:
        raise layout_error(type(dataset), dataset.root, f"no folder {_MASKS[year][-1]}/")
    return found


# Sequences


def _sequences(dataset: Dataset, part: str, year: int) -> list[str]:
    """The part's sequences in the order of its list, those of the modifier alone if it is given."""
    path = _list_path(dataset, part, year)
    if path is None:
        raise layout_error(type(dataset), dataset.root, f"no file {_LISTS[year][0]}/{part}.txt")
    names = _listed(path)
    wanted = dataset.options.get("sequences")
    if wanted is None:
        return names
    other = _list_path(dataset, "val" if part == "train" else "train", year)
    known = names + (_listed(other) if other else [])
    strange = [name for name in wanted.split(":") if name not in known]
    if strange:
        raise SpecError(
            f"sequences={wanted}: no list names {strange[0]!r}; {nearest(strange[0], known)}"
        )
    kept = [name for name in names if name in wanted.split(":")]
    if not kept:
        raise DataError(f"none of the sequences {wanted} is in {path}: ask for the other split")
    return kept


def _list_path(dataset: Dataset, part: str, year: int) -> Path | None:
    paths = [dataset.root / folder / f"{part}.txt" for folder in _LISTS[year]]
    return next((path for path in paths if path.is_file()), None)


def _listed(path: Path) -> list[str]:
    """Names of sequences; lines of the first release are paths of a frame and of its mask."""
    firsts = [PurePosixPath(line.split()[0]) for line in read_lines(path)]
    names = [first.parent.name if len(first.parts) > 1 else first.name for first in firsts]
    strange = [str(a) for a, name in zip(firsts, names, strict=True) if name in ("", ".", "..")]
    if strange:
        raise DataError(
            f"{path} lists {strange[0]!r}: expected names of sequences, or paths of their frames"
        )
    return list(dict.fromkeys(names))


def _frames(dataset: Dataset, name: str, masks: str) -> list[_Frame]:
    """All frames of a sequence; `DataError` unless each has a mask, and each mask a frame."""
    images, annotated = dataset.root / IMAGES / name, dataset.root / masks / name
    for folder in (images, annotated):
        if not folder.is_dir():
            why = f"sequence {name} of the list has no folder {folder.relative_to(dataset.root)}/"
            raise layout_error(type(dataset), folder.parent, why)
    files, mask_bytes = by_stem(dataset, images), stem_sizes(annotated)
    stems = sorted(files)
    what = f"frames of sequence {name} have no mask"
    require_stems(dataset, annotated, what, stems, mask_bytes, ".png")
    what = f"masks of sequence {name} have no frame"
    require_stems(dataset, images, what, sorted(mask_bytes), files, ".png")
    if not stems:
        raise layout_error(type(dataset), images, f"sequence {name} has no frames")
    return [
        _Frame(f"{name}/{stem}", f"{IMAGES}/{name}/{file}", size + mask_bytes[stem])
        for stem, (file, size) in sorted(files.items())
    ]


def _objects(dataset: Dataset, frames: Sequence[_Frame]) -> list[_Frame]:
    """A row for each object of a sequence; its key is the first frame's, '#' and the number."""
    assert dataset.annotations is not None
    assert dataset.annotations.objects is not None
    first, size = frames[0], sum(frame.size for frame in frames)
    labels = dataset.annotations.objects(dataset, "val", first.key)
    numbers = [int(number) for number in np.unique(labels) if number not in (0, VOID)]
    name = first.id.partition("/")[0]
    if not numbers:
        raise DataError(
            f"the mask of {first.key} in {dataset.root} has no object: the first frame of sequence "
            f"{name} says what to follow; restore it from the official release"
        )
    return [_Frame(f"{name}/{number}", f"{first.key}#{number}", size) for number in numbers]
