"""SUN397: photographs of 397 kinds of places; ten official partitions of 19,850 + 19,850."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from PIL import Image

from bench.dataset import Dataset, Table, layout_error
from bench.errors import DataError, SpecError
from bench.images import decode
from bench.listed import first_folder, listed_table
from bench.split_files import given_split_file
from bench.subsets import read_lines


class Sun397(Dataset):
    """SUN397 in partition 1, `sun397[partition=2]`..10, or the split of a file.

    `sun397[split_file=FOLDER]` reads TFDS's and VTAB's lists (`sun397_tfds_{tr,va,te}.txt`: 76,128,
    10,875 and 21,750 images); "val" is what tasks evaluate on, the test part, and "valid" the part
    held out for choices, which the official partitions do not have.

    Classes are the folders of images, nested ones too (`a/apse/indoor`), sorted by name.
    """

    title: ClassVar[str] = "SUN397"
    folders: ClassVar[tuple[str, ...]] = ("SUN397", "sun397", "SUN-397", "sun-397")
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "valid")
    modifiers: ClassVar[tuple[str, ...]] = ("partition", "split_file")
    counts: ClassVar[dict[str, int]] = {"train": 19_850, "val": 19_850}
    tree: ClassVar[str] = """
        SUN397/                 images here, or in a folder SUN397/ inside
          <a>/<abbey>/sun_*.jpg
          <a>/<apse>/<indoor>/sun_*.jpg
          Partitions/Training_01.txt ... Testing_10.txt
          ClassName.txt         optional
    """

    @property
    def split_id(self) -> str:
        """`partition1`, or the file that holds the split."""
        given = given_split_file(self)
        return given.split_id if given else f"partition{self._partition()}"

    def scan(self, split: str) -> Table:
        """The images of the partition's or the split file's list."""
        given = given_split_file(self)
        if given is not None:
            if "partition" in self.options:
                raise SpecError("partition and split_file both say the split: drop one of them")
            lists = [images for images in given.images.values() if images]
            names, listing = given.of(split), str(given.path)
        else:
            places = {role: self._list(role) for role in ("train", "val")}
            if split not in places:
                raise DataError(
                    "SUN397's partitions have no split 'valid': give one by split_file=FILE"
                )
            by_role = {role: _image_names(path) for role, path in places.items()}
            lists, names = list(by_role.values()), by_role[split]
            listing = places[split].name
        classes = self._classes(lists)
        number = {name: index for index, name in enumerate(classes)}
        strange = sorted({_class_of(name) for name in names} - number.keys())
        if strange:
            raise layout_error(
                type(self),
                self.root,
                f"{listing} has {len(strange)} classes that ClassName.txt does not name "
                f"({', '.join(strange[:5])})",
            )
        rows = [(name, number[_class_of(name)]) for name in names]
        tops = (self.root / "SUN397", self.root)
        folder = first_folder(tops, names[0].partition("/")[0]) or self.root
        return listed_table(self, folder, rows, classes, listing)

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

    def _partition(self) -> int:
        text = self.options.get("partition", "1")
        if not text.isdecimal() or not 1 <= int(text) <= 10:
            raise SpecError(f"partition={text}: SUN397 has the partitions 1 to 10")
        return int(text)

    def _list(self, role: str) -> Path:
        """The partition's list: in `Partitions/` or right in the root or the folder inside it."""
        file = f"{'Training' if role == 'train' else 'Testing'}_{self._partition():02d}.txt"
        tops = (self.root, self.root / "SUN397")
        place = first_folder([p for top in tops for p in (top / "Partitions", top)], file)
        if place is None:
            raise layout_error(type(self), self.root, f"no file Partitions/{file}")
        return place / file

    def _classes(self, lists: list[tuple[str, ...]]) -> list[str]:
        tops = (self.root, self.root / "Partitions", self.root / "SUN397")
        place = first_folder(tops, "ClassName.txt")
        if place is not None:
            return sorted(line.strip("/") for line in read_lines(place / "ClassName.txt"))
        return sorted({_class_of(name) for names in lists for name in names})


def _image_names(path: Path) -> tuple[str, ...]:
    return tuple(line.lstrip("/") for line in read_lines(path))


def _class_of(name: str) -> str:
    return name.rpartition("/")[0]
