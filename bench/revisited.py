"""Reader of Revisited Oxford and Paris (Radenovic et al., 2018): photographs and ground truth."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.dataset import Dataset, Table, layout_error
from bench.errors import DataError
from bench.images import decode
from bench.layouts import Files, file_table, list_folder
from bench.listed import require_paths
from bench.safe_pickle import load_plain_pickle

IntArray = npt.NDArray[np.int64]

SPLITS = ("database", "query", "query_crop")


@dataclass(frozen=True)
class Query:
    """One query: its region, and which database images are what to it.

    Attributes:
        bbx: left, upper, right and lower bound of the object, in pixels.
        easy: indices of database images that clearly show the object.
        hard: ... that show it from afar, in part or in another light.
        junk: ... that show so little of it that they are left out of the ranking.
    """

    bbx: tuple[float, float, float, float]
    easy: IntArray
    hard: IntArray
    junk: IntArray


@dataclass(frozen=True)
class GroundTruth:
    """What `gnd_<set>.pkl` says; indices of queries and images are those of the splits."""

    imlist: tuple[str, ...]  # database, names without extension
    qimlist: tuple[str, ...]
    queries: tuple[Query, ...]


def ground_truth(root: Path, name: str) -> GroundTruth:
    """The ground truth of a set (`roxford5k`), checked, from `root/gnd_<name>.pkl`.

    Raises:
        DataError: the pickle asks for more than plain data, or does not hold the official form.
    """
    path = root / f"gnd_{name}.pkl"
    content = load_plain_pickle(path)
    try:
        images, asked = (_image_names(content, key) for key in ("imlist", "qimlist"))
        if len(content["gnd"]) != len(asked):
            raise ValueError(f"{len(asked)} queries and gnd of {len(content['gnd'])}")
        queries = tuple(
            _query(entry, len(images), text)
            for entry, text in zip(content["gnd"], asked, strict=True)
        )
    except (TypeError, ValueError, LookupError) as error:
        raise DataError(
            f"{path} is not the revisited ground truth ({type(error).__name__}: {error}): expected "
            "{imlist, qimlist, gnd: [{bbx, easy, hard, junk}]}; take it from revisitop again"
        ) from error
    return GroundTruth(images, asked, queries)


def _image_names(content: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = tuple(content[key])
    for name in names:
        if not isinstance(name, str) or not name or "/" in name or "\\" in name:
            raise ValueError(f"{key} holds {name!r}, expected names of images")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{key} holds {len(names)} names, {len(set(names))} of them different")
    return names


def _query(entry: Mapping[str, Any], images: int, name: str) -> Query:
    left, upper, right, lower = (float(value) for value in entry["bbx"])
    if not (math.isfinite(left + upper + right + lower) and left < right and upper < lower):
        raise ValueError(f"query {name} has the region {left, upper, right, lower}")
    found: dict[str, IntArray] = {}
    for key in ("easy", "hard", "junk"):
        given = np.asarray(entry[key]).reshape(-1)
        indices = given.astype(np.int64)
        if not np.array_equal(indices, given) or not np.all((indices >= 0) & (indices < images)):
            raise ValueError(f"query {name} has {key} images outside 0..{images - 1}")
        found[key] = indices
    whole = np.concatenate(list(found.values()))
    if len(np.unique(whole)) < len(whole):
        raise ValueError(f"query {name} has an image twice in easy, hard and junk")
    return Query((left, upper, right, lower), **found)


def revisited_table(dataset: Dataset, split: str, name: str) -> Table:
    """A split in the order of the ground truth, whose indices count its rows; no labels.

    Ids are the names in the ground truth; those of `query_crop` also state the region, so that
    features of whole and of cropped queries are never taken for each other. What matches a query
    goes into its manifest.
    """
    require_paths(dataset, dataset.root, "jpg/", f"gnd_{name}.pkl")
    truth = ground_truth(dataset.root, name)
    names = truth.imlist if split == "database" else truth.qimlist
    sizes = dict(list_folder(dataset.root / "jpg")[0])
    missing = [text for text in names if f"{text}.jpg" not in sizes]
    if missing:
        raise layout_error(
            type(dataset),
            dataset.root / "jpg",
            f"{len(missing)} of the {len(names)} {split} images of gnd_{name}.pkl are not in jpg/ "
            f"({', '.join(f'{text}.jpg' for text in missing[:3])})",
        )
    regions = [""] * len(names)
    if split == "query_crop":
        # whole pixels, rounded as PIL's crop, and so revisitop, rounds them
        regions = ["#" + ",".join(str(round(side)) for side in q.bbx) for q in truth.queries]
    files: Files = [
        (f"{text}.jpg{region}", sizes[f"{text}.jpg"])
        for text, region in zip(names, regions, strict=True)
    ]
    ids = [text + region for text, region in zip(names, regions, strict=True)]
    table = file_table(dataset, dataset.root / "jpg", files, ids=ids)
    if split == "database":
        return table
    judged = zip(table.sizes.tolist(), truth.queries, strict=True)
    return replace(table, sizes=np.array([_digest(*pair, truth.imlist) for pair in judged]))


def _digest(size: int, query: Query, images: Sequence[str]) -> int:
    """A hash of the file's size and of what matches the query, in place of the size."""
    matches = {
        key: sorted(images[index] for index in getattr(query, key))
        for key in ("easy", "hard", "junk")
    }
    text = f"{size} {query.bbx} {matches}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest())


def revisited_image(dataset: Dataset, key: str) -> Image.Image:
    """The photograph of a key; that of `query_crop` cut to its region."""
    path, mark, region = key.partition("#")
    image = decode(dataset.root / path)
    if not mark:
        return image
    left, upper, right, lower = map(int, region.split(","))
    if left >= image.width or upper >= image.height or right <= 0 or lower <= 0:
        raise DataError(
            f"the region {region} lies outside {path} ({image.width} x {image.height} pixels): "
            "the photograph is not the one that the ground truth was made for"
        )
    return image.crop((left, upper, right, lower))
