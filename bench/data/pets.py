"""Oxford-IIIT Pets: 3,680 + 3,669 photographs of 37 breeds; "train" is trainval, "val" test."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from PIL import Image

from bench.dataset import Dataset, Table, layout_error
from bench.errors import DataError
from bench.images import decode
from bench.listed import listed_table, require_paths
from bench.subsets import read_lines


class Pets(Dataset):
    """Pets by its lists, whose lines are `<breed>_<number> CLASS-ID SPECIES BREED-ID`.

    Classes are the breeds in the order of the class ids, which count from 1.
    """

    title: ClassVar[str] = "Oxford-IIIT Pets"
    folders: ClassVar[tuple[str, ...]] = (
        "oxford-iiit-pet",
        "oxford_iiit_pet",
        "oxford-iiit-pets",
        "OxfordIIITPet",
        "pets",
        "Pets",
    )
    counts: ClassVar[dict[str, int]] = {"train": 3680, "val": 3669}
    tree: ClassVar[str] = """
        oxford-iiit-pet/        or pets, OxfordIIITPet, ...
          images/<breed>_<number>.jpg
          annotations/trainval.txt
          annotations/test.txt
    """

    @property
    def split_id(self) -> str:
        """The two lists of the release."""
        return "trainval/test"

    def scan(self, split: str) -> Table:
        """The images of the split's list."""
        lists = {"train": "annotations/trainval.txt", "val": "annotations/test.txt"}
        require_paths(self, self.root, "images/", *lists.values())
        labels = {name: _labels(self.root / listing) for name, listing in lists.items()}
        breeds = {name: self._breeds(labels[name], lists[name]) for name in lists}
        strange = breeds["val"].items() - breeds["train"].items()
        if strange:
            id_, breed = min(strange)
            raise layout_error(
                type(self),
                self.root / "annotations",
                f"{lists['val']} has class {id_} = {breed}, {lists['train']} "
                f"{breeds['train'].get(id_, 'no such class')}",
            )
        number = {id_: index for index, id_ in enumerate(sorted(breeds["train"]))}
        rows = [(f"{name}.jpg", number[id_]) for name, id_ in labels[split]]
        classes = [breeds["train"][id_] for id_ in number]
        return listed_table(self, self.root / "images", rows, classes, lists[split])

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

    def _breeds(self, labels: list[tuple[str, int]], listing: str) -> dict[int, str]:
        """Class id -> breed, which is what stands before the number of the image."""
        breeds: dict[int, str] = {}
        for name, id_ in labels:
            breed = name.rpartition("_")[0]
            if breeds.setdefault(id_, breed) != breed:
                raise layout_error(
                    type(self),
                    self.root / "annotations",
                    f"{listing} gives class {id_} to {breeds[id_]} and to {breed}",
                )
        return breeds


def _labels(path: Path) -> list[tuple[str, int]]:
    """(image, class id) of each line."""
    labels = []
    for line in read_lines(path):
        name, *numbers = line.split()
        if not numbers or not numbers[0].isdecimal():
            raise DataError(
                f"{path}: {line!r} is not '<breed>_<number> CLASS-ID SPECIES BREED-ID': unpack "
                "annotations.tar.gz again"
            )
        labels.append((name, int(numbers[0])))
    return labels
