"""RESISC45: 31,500 aerial images of 45 kinds of land, which come without a split (60/20/20)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from bench import subsets
from bench.dataset import Dataset, Table, layout_error
from bench.errors import DataError
from bench.images import decode
from bench.layouts import class_folder_table
from bench.split_files import given_split_file

LEAST = 3  # images of a class, so that each of the three parts gets one


class Resisc45(Dataset):
    """RESISC45 with a split of our own, or that of `resisc45[split_file=FILE]`.

    Of each class, file names are ordered by a keyed hash; the first 60 % are "train", the next 20 %
    "valid" (held out for choices), the last 20 % "val", which tasks evaluate on: 18,900, 6,300 and
    6,300 images. The split of VTAB follows the storage order of TFDS and cannot be rebuilt without
    it. `bench.split_files` says how a split file is written.
    """

    title: ClassVar[str] = "RESISC45"
    folders: ClassVar[tuple[str, ...]] = (
        "NWPU-RESISC45",
        "resisc45",
        "RESISC45",
        "nwpu-resisc45",
        "NWPU_RESISC45",
    )
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "valid")
    modifiers: ClassVar[tuple[str, ...]] = ("split_file",)
    counts: ClassVar[dict[str, int]] = {"train": 18_900, "val": 6300, "valid": 6300}
    tree: ClassVar[str] = """
        NWPU-RESISC45/          or resisc45, RESISC45, ...
          <class>/<class>_001.jpg ...
    """

    @classmethod
    def locate(cls, data_root: Path) -> Path:
        """As for every data set; its archive holds the folder in a folder of the same name."""
        found = super().locate(data_root)
        nested = found / found.name
        return nested if nested.is_dir() else found

    @property
    def split_id(self) -> str:
        """`hash60-20-20`, or the file that holds the split."""
        given = given_split_file(self)
        return given.split_id if given else "hash60-20-20"

    def scan(self, split: str) -> Table:
        """The images of the split, by class folders."""
        whole = class_folder_table(self, self.root, None)
        given = given_split_file(self)
        if given is None:
            chosen = self._drawn(whole, split)
        else:
            chosen = self._listed(whole, given.of(split), str(given.path))
        return replace(
            whole,
            ids=tuple(whole.ids[index] for index in chosen),
            keys=tuple(whole.keys[index] for index in chosen),
            targets=whole.targets[chosen],
            sizes=whole.sizes[chosen],
        )

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

    def _drawn(self, whole: Table, split: str) -> list[int]:
        """Rows of the split: draws of one seed are nested, so two of them cut a class in three."""
        chosen: set[int] = set()
        for target, name in enumerate(whole.classes):
            rows = np.flatnonzero(whole.targets == target)
            files = [whole.ids[row].rpartition("/")[2] for row in rows]
            if len(rows) < LEAST:
                raise layout_error(
                    type(self),
                    self.root / name,
                    f"{len(rows)} images, too few for a split in three",
                )
            train = set(subsets.uniform(files, 3 * len(rows) // 5, 0).tolist())
            rest = set(subsets.uniform(files, 4 * len(rows) // 5, 0).tolist()) - train
            parts = {"train": train, "valid": rest}
            parts["val"] = set(range(len(rows))) - train - rest
            chosen |= {int(rows[index]) for index in parts[split]}
        return sorted(chosen)

    def _listed(self, whole: Table, names: tuple[str, ...], path: str) -> list[int]:
        """Rows of the images that the split file names, whole or by their bare file name."""
        by_name: dict[str, list[int]] = defaultdict(list)
        for row, id_ in enumerate(whole.ids):
            by_name[id_].append(row)
            by_name[id_.rpartition("/")[2]].append(row)
        unfit = [name for name in names if len(by_name.get(name, ())) != 1]
        if unfit:
            raise DataError(
                f"split file {path}: {len(unfit)} of its images are not, or not only once, in "
                f"{self.root} ({', '.join(unfit[:3])}); ids here look like {whole.ids[0]}"
            )
        return sorted(by_name[name][0] for name in names)
