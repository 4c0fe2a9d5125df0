"""Stanford Cars: 8,144 + 8,041 photographs of 196 models of cars; the test part is "val"."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy.typing as npt
from PIL import Image

from bench.dataset import Dataset, Table, layout_error
from bench.images import decode
from bench.listed import first_folder, listed_table, require_paths
from bench.mat_files import reading_mat

LABELLED_TEST = "cars_test_annos_withlabels.mat"


class Cars(Dataset):
    """Stanford Cars in either of its two releases.

    They number the same photographs differently, so that ids, and with them manifests, are those
    of the release.
    """

    title: ClassVar[str] = "Stanford Cars"
    folders: ClassVar[tuple[str, ...]] = (
        "cars",
        "stanford_cars",
        "StanfordCars",
        "stanford-cars",
        "Cars",
    )
    counts: ClassVar[dict[str, int]] = {"train": 8144, "val": 8041}
    tree: ClassVar[str] = """
        cars/                   or stanford_cars, StanfordCars, ...
          cars_train/*.jpg      the release with a devkit
          cars_test/*.jpg
          devkit/cars_train_annos.mat
          devkit/cars_test_annos_withlabels.mat
          devkit/cars_meta.mat  optional: names of the classes
                                the .mat files may also lie beside devkit/
        or
          car_ims/*.jpg         the older release
          cars_annos.mat
    """

    @property
    def split_id(self) -> str:
        """The release: both state the same parts."""
        return "cars_annos" if self._older() else "cars_train/cars_test"

    def scan(self, split: str) -> Table:
        """The images that the annotations list."""
        return self._older_table(split) if self._older() else self._devkit_table(split)

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the root."""
        return decode(self.root / key)

    def _older(self) -> bool:
        has_devkit = (self.root / "cars_train").is_dir() or (self.root / "cars_test").is_dir()
        return not has_devkit and first_folder([self.root], "car_ims", "cars_annos.mat") is not None

    def _older_table(self, split: str) -> Table:
        require_paths(self, self.root, "car_ims/", "cars_annos.mat")
        with reading_mat(self.root / "cars_annos.mat") as content:
            items, names = content["annotations"], [str(n) for n in content["class_names"]]
            wanted = items["test"].astype(int) == (split != "train")
            files = [Path(str(path)).name for path in items["relative_im_path"][wanted]]
            labels = [int(number) for number in items["class"][wanted]]
        return self._table("car_ims", files, labels, names, "cars_annos.mat")

    def _devkit_table(self, split: str) -> Table:
        folder = "cars_train" if split == "train" else "cars_test"
        require_paths(self, self.root, f"{folder}/")
        listing = "cars_train_annos.mat" if split == "train" else LABELLED_TEST
        place = first_folder((self.root / "devkit", self.root), listing)
        if place is None:
            unfit = " (cars_test_annos.mat has no labels)" if split != "train" else ""
            raise layout_error(type(self), self.root, f"no file devkit/{listing}{unfit}")
        with reading_mat(place / listing) as content:
            items: npt.NDArray[Any] = content["annotations"]
            files = [str(name) for name in items["fname"]]
            labels = [int(number) for number in items["class"]]
        return self._table(folder, files, labels, self._class_names(), listing)

    def _class_names(self) -> list[str]:
        """From `cars_meta.mat`; without it, numbers up to the largest label of the train part."""
        meta = first_folder((self.root / "devkit", self.root), "cars_meta.mat")
        if meta is not None:
            with reading_mat(meta / "cars_meta.mat") as content:
                return [str(name) for name in content["class_names"]]
        train = first_folder((self.root / "devkit", self.root), "cars_train_annos.mat")
        if train is None:
            raise layout_error(type(self), self.root, "no file devkit/cars_train_annos.mat")
        with reading_mat(train / "cars_train_annos.mat") as content:
            return [str(n) for n in range(1, int(content["annotations"]["class"].max()) + 1)]

    def _table(
        self, folder: str, files: list[str], labels: list[int], names: list[str], listing: str
    ) -> Table:
        if labels and not 1 <= min(labels) <= max(labels) <= len(names):
            raise layout_error(
                type(self),
                self.root,
                f"{listing} has classes {min(labels)}..{max(labels)}, expected 1..{len(names)}",
            )
        rows = [(file, label - 1) for file, label in zip(files, labels, strict=True)]
        return listed_table(self, self.root / folder, rows, names, listing)
