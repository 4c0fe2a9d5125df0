"""Any folder of images, `folder[path=DIR]`, searched through; labels=folders makes it classes."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.dataset import Dataset, Table
from bench.errors import SpecError, nearest
from bench.images import decode
from bench.layouts import folder_table


class Folder(Dataset):
    """All images below a folder; with `labels=folders` its sub-folders are the classes.

    A folder that holds `train/` and `val/` (or `test/`) has these splits; any other folder is
    "train" as a whole.
    """

    title: ClassVar[str] = "folder of images"
    folders: ClassVar[tuple[str, ...]] = ()  # it is given, not looked for
    modifiers: ClassVar[tuple[str, ...]] = ("path", "labels")
    tree: ClassVar[str] = """
        DIR/**/*.jpg                      folder[path=DIR]
        DIR/<class>/**/*.jpg              folder[path=DIR,labels=folders]
        DIR/{train,val}/...               either of them, with a held-out split
    """

    def scan(self, split: str) -> Table:
        """All images of the split."""
        labels = self.options.get("labels", "none")
        if labels not in ("none", "folders"):
            raise SpecError(f"labels={labels}: {nearest(labels, ('none', 'folders'))}")
        return folder_table(self, split, labelled=labels == "folders")

    def image(self, split: str, key: str) -> Image.Image:
        """The image file below the folder."""
        return decode(self.root / key)
