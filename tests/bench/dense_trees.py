"""Official layouts of the data sets with masks, written with a few tiny images each."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.label_maps import index_png
from tests.bench.trees import write_image, write_lines

SIZE = (8, 6)  # of trees.write_image
Corners = tuple[str, tuple[float, float, float, float]]


def voc_xml(*objects: Corners, size: tuple[int, int] = SIZE, inside: str = "") -> str:
    """An annotation as in the release; `inside` goes into each object, before its box."""
    found = "".join(
        f"""
    <object>
        <name>{name}</name>{inside}
        <truncated>1</truncated>
        <difficult>1</difficult>
        <bndbox><xmax>{box[2]}</xmax><xmin>{box[0]}</xmin><ymax>{box[3]}</ymax><ymin>{box[1]}</ymin></bndbox>
    </object>"""
        for name, box in objects
    )
    size_text = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation>\n    <folder>VOC2012</folder>{size_text}{found}\n</annotation>"


def write_mask(path: Path, labels: Sequence[Sequence[int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(index_png(np.array(labels)))


def rectangle(value: int, left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    """Labels with a rectangle in a border of void, as the release draws objects."""
    labels = np.zeros((SIZE[1], SIZE[0]), int)
    labels[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1] = 255
    labels[top:bottom, left:right] = value
    return [list(map(int, row)) for row in labels]


#: stem -> (segmentation list, class of its one object)
SEGMENTED = {
    "2007_000032": ("train", 1),
    "2007_000039": ("train", 20),
    "2007_000033": ("val", 15),
}
BOXES: dict[str, list[Corners]] = {
    "2007_000032": [("aeroplane", (2, 2, 5, 4)), ("dog", (1, 1, 8, 6))],
    "2007_000039": [("tvmonitor", (3, 2, 6, 5)), ("cat", (2, 1, 5, 4))],  # of one size
    "2007_000033": [("person", (1, 1, 8, 6))],
    "2008_000002": [("bottle", (1, 1, 1, 1))],
    "2008_000003": [],
}


def write_voc(root: Path, annotations: bool = True, main: bool = True) -> Path:
    """Five photographs, three with masks; another one that no list names."""
    for number, stem in enumerate((*BOXES, "2012_000009")):
        write_image(root / f"JPEGImages/{stem}.jpg", 10 * number)
    for stem, (_, value) in SEGMENTED.items():
        write_mask(root / f"SegmentationClass/{stem}.png", rectangle(value, 2, 2, 5, 4))
        write_mask(root / f"SegmentationObject/{stem}.png", rectangle(1, 2, 2, 5, 4))
    for split in ("train", "val"):
        stems = [stem for stem, (part, _) in SEGMENTED.items() if part == split]
        write_lines(root / f"ImageSets/Segmentation/{split}.txt", *stems)
    if main:
        write_lines(root / "ImageSets/Main/trainval.txt", *BOXES)
    if annotations:
        (root / "Annotations").mkdir()
        for stem, boxes in BOXES.items():
            (root / f"Annotations/{stem}.xml").write_text(voc_xml(*boxes))
    return root
