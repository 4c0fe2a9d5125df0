"""Reader of the iNaturalist 2018 and 2019 challenges, whose JSON files hold splits and labels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from bench.dataset import Dataset, Table, layout_error
from bench.json_files import reading
from bench.listed import listed_table, require_paths

#: of each image and annotation, what a classification split does not need
_DROPPED = ("license", "rights_holder", "width", "height")


def inat_table(dataset: Dataset, split: str, year: int) -> Table:
    """A split as a table; ids are `<super>/<category id>/<file>`.

    Classes are the categories of the train file in the order of their ids (the official code
    numbers them as they first appear, which is a permutation). Their names come from
    `categories.json`, or, where it is absent, from the train file (2018's are obfuscated there);
    a name that several categories bear is followed by the id. Names are part of the manifest.
    """
    folder = f"train_val{year}/"
    listing = f"{split}{year}.json"
    require_paths(dataset, dataset.root, folder, *dict.fromkeys((f"train{year}.json", listing)))
    names = _category_names(dataset, f"train{year}.json")
    number = {id_: index for index, id_ in enumerate(names)}
    with reading(dataset.root / listing, "iNaturalist annotations", _DROPPED) as content:
        category_of = {item["image_id"]: item["category_id"] for item in content["annotations"]}
        files = {item["id"]: item["file_name"].removeprefix(folder) for item in content["images"]}
        unlabelled = sorted(files[id_] for id_ in files.keys() - category_of.keys())
        strange = sorted(set(category_of.values()) - number.keys())
    if unlabelled or strange:
        why = (
            f"{len(unlabelled)} images of {listing} have no annotation ({unlabelled[0]})"
            if unlabelled
            else f"{listing} labels images with categories that train{year}.json does not have "
            f"({', '.join(map(str, strange[:5]))})"
        )
        raise layout_error(type(dataset), dataset.root, why)
    rows = [(name, number[category_of[id_]]) for id_, name in files.items()]
    return listed_table(dataset, dataset.root / folder, rows, list(names.values()), listing)


def _category_names(dataset: Dataset, train: str) -> dict[int, str]:
    """Category id -> name, in the order of ids."""
    names = _names(dataset.root / train, "categories")
    better = dataset.root / "categories.json"
    if better.is_file():
        readable = _names(better)
        if missing := sorted(names.keys() - readable.keys()):
            raise layout_error(
                type(dataset),
                dataset.root,
                f"categories.json lacks {len(missing)} categories of {train} "
                f"({', '.join(map(str, missing[:5]))}): it is of another year",
            )
        names = {id_: readable[id_] for id_ in names}
    count = Counter(names.values())
    return {
        id_: name if count[name] == 1 else f"{name} ({id_})" for id_, name in sorted(names.items())
    }


def _names(path: Path, key: str = "") -> dict[int, str]:
    with reading(path, "iNaturalist categories", _DROPPED) as content:
        records: list[dict[str, Any]] = content[key] if key else content
        return {int(record["id"]): str(record["name"]) for record in records}
