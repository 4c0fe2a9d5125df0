"""Pictures that are given to the site: copied into it, each to the page where it belongs."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from bench.errors import StoreError
from leaderboards.site.folder import Folder

ENDINGS = (".svg", ".png")
FOLDER = "pictures"


@dataclass(frozen=True)
class Picture:
    """A picture in the site: `path` below its root, and its name in words."""

    path: str
    name: str


def add_pictures(
    folder: Folder, files: Sequence[Path], models: Sequence[str]
) -> dict[str, list[Picture]]:
    """Copies pictures into the site; returns them by model, those of no model under "".

    A picture belongs to the model with the longest name that its file's name starts with. Of two
    with one stem the SVG is taken, and other files (the data of a curve) are passed over, so what
    `curve()` returned can be given as it is. Pages show SVG as images, in which scripts are dead.

    Raises:
        StoreError: a file cannot be read.
    """
    chosen: dict[Path, Path] = {}
    for path in map(Path, files):
        stem = path.with_suffix("")
        if path.suffix == ".svg" or (path.suffix in ENDINGS and stem not in chosen):
            chosen[stem] = path
    by_length = sorted(models, key=len, reverse=True)
    shown: dict[str, list[Picture]] = {}
    for number, path in enumerate(chosen.values()):
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreError(
                f"{path}: no such picture ({error.strerror}); draw it with `sslbench curve`"
            ) from error
        place = f"{FOLDER}/{number}{path.suffix}"
        folder.write(place, data)
        model = next((name for name in by_length if path.stem.startswith(name)), "")
        shown.setdefault(model, []).append(Picture(place, path.stem.replace("_", " ")))
    return shown


def figures(pictures: Sequence[Picture]) -> str:
    """The pictures as HTML for a page at the site's root; nothing where there are none."""
    shown = "".join(
        f'<figure><img src="{picture.path}" alt="{escape(picture.name)}" loading="lazy">'
        f"<figcaption>{escape(picture.name)}</figcaption></figure>"
        for picture in pictures
    )
    return f'<section class="curves" aria-label="Pictures">{shown}</section>' if shown else ""
