"""Official layouts of the datasets with lists, written with a few tiny images each."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from PIL import Image

MODES = ("RGB", "L", "CMYK", "RGBA", "P", "LA")


def write_image(path: Path, shade: int = 90, mode: str = "RGB") -> None:
    """A picture of one colour; as in the wild, the ending does not tell the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (8, 6), (shade, shade, shade))
    picture.convert(mode).save(path, "JPEG" if mode == "CMYK" else "PNG")


def write_lines(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


# iNaturalist

SPECIES = {7: ("Aves", "b7"), 2: ("Aves", "b2"), 30: ("Plantae", "p30")}


def write_inat(root: Path, year: int = 2018) -> None:
    """3 species; ids are not dense, and do not appear in their order."""
    number = 0
    for split, each in (("train", 2), ("val", 1)):
        images, annotations = [], []
        for category, (kingdom, _) in SPECIES.items():
            for _ in range(each):
                name = f"train_val{year}/{kingdom}/{category}/{number:04x}.jpg"
                write_image(root / name, number, MODES[number % len(MODES)])
                images.append({"id": number, "file_name": name, "width": 8, "license": 1})
                annotations.append({"image_id": number, "category_id": category})
                number += 1
        categories = [
            {"id": id_, "name": name, "supercategory": kingdom}
            for id_, (kingdom, name) in SPECIES.items()
        ]
        write_json(
            root / f"{split}{year}.json",
            {"images": images, "annotations": annotations, "categories": categories},
        )


# Flowers

FLOWER_LABELS = (2, 1, 3, 3, 1, 2, 2)
FLOWER_SETS = {"trnid": [1, 5], "valid": [3], "tstid": [7, 2, 4]}


def write_flowers(root: Path) -> None:
    for number in range(1, len(FLOWER_LABELS) + 1):
        write_image(root / f"jpg/image_{number:05d}.jpg", number, MODES[number % len(MODES)])
    save_mat(root / "imagelabels.mat", labels=np.array([FLOWER_LABELS], np.uint8))
    save_mat(root / "setid.mat", **{k: np.array([v], np.uint16) for k, v in FLOWER_SETS.items()})


def save_mat(path: Path, **content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, content)


# Cars

CAR_NAMES = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012")
CARS = {"train": (2, 1, 1), "val": (1, 2)}


def struct_rows(fields: Mapping[str, list[Any]]) -> np.ndarray:
    """A (1, n) struct array as MATLAB writes it."""
    rows = list(zip(*fields.values(), strict=True))
    return np.array([rows], dtype=[(name, object) for name in fields]).reshape(1, -1)


def write_cars_devkit(root: Path, test_labels: str = "devkit", meta: bool = True) -> None:
    for split, folder in (("train", "cars_train"), ("val", "cars_test")):
        names = [f"{n:05d}.jpg" for n in range(1, len(CARS[split]) + 1)]
        for number, name in enumerate(names):
            write_image(root / folder / name, 10 * number + len(folder), MODES[number])
        boxes = {"bbox_x1": [3] * len(names), "class": list(CARS[split]), "fname": names}
        file = "cars_train_annos.mat" if split == "train" else "cars_test_annos_withlabels.mat"
        place = root / ("devkit" if split == "train" else test_labels)
        save_mat(place / file, annotations=struct_rows(boxes))
    if meta:
        names_cell = np.array([CAR_NAMES], dtype=object)
        save_mat(root / "devkit/cars_meta.mat", class_names=names_cell)


def write_cars_older(root: Path) -> None:
    labels = (*CARS["train"], *CARS["val"])
    test = [0] * len(CARS["train"]) + [1] * len(CARS["val"])
    names = [f"car_ims/{n:06d}.jpg" for n in range(1, len(labels) + 1)]
    for number, name in enumerate(names):
        write_image(root / name, 10 * number)
    rows = {"relative_im_path": names, "bbox_x1": [3] * 5, "class": list(labels), "test": test}
    save_mat(
        root / "cars_annos.mat",
        annotations=struct_rows(rows),
        class_names=np.array([CAR_NAMES], dtype=object),
    )


# Food, Pets


def write_food(root: Path, classes_file: bool = True) -> None:
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for index, dish in enumerate(("apple_pie", "waffles", "baby_back_ribs")):
        for number in range(3):
            write_image(root / f"images/{dish}/{number}{index}.jpg", number, MODES[number])
            lists["test" if number == 2 else "train"].append(f"{dish}/{number}{index}")
    for name, lines in lists.items():
        write_lines(root / f"meta/{name}.txt", *lines)
    if classes_file:
        write_lines(root / "meta/classes.txt", "apple_pie", "baby_back_ribs", "waffles")


BREEDS = ("Abyssinian", "american_bulldog", "Bengal")


def write_pets(root: Path) -> None:
    """As in the release, lists begin with comments and breeds with capitals are cats."""
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    for id_, breed in enumerate(BREEDS, 1):
        for number in (1, 10, 100):
            write_image(root / f"images/{breed}_{number}.jpg", id_ + number, MODES[id_])
            line = f"{breed}_{number} {id_} {1 + breed.islower()} {id_}"
            lists["test" if number == 10 else "trainval"].append(line)
    for name, lines in lists.items():
        write_lines(root / f"annotations/{name}.txt", "#Image CLASS-ID SPECIES BREED ID", *lines)


# Retrieval and backgrounds


def write_photographs(root: Path, truth: Mapping[str, Any]) -> None:
    """A photograph for each name of a ground truth; each row and column has its own colour."""
    rng = np.random.default_rng(0)
    (root / "jpg").mkdir(parents=True, exist_ok=True)
    for name in (*truth["imlist"], *truth["qimlist"]):
        pixels = rng.integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"jpg/{name}.jpg", "PNG")


def write_backgrounds(root: Path, names: tuple[str, ...], variants: tuple[str, ...]) -> None:
    for v, variant in enumerate(variants):
        for c, name in enumerate(names):
            for number in range(2):
                path = root / variant / "val" / name / f"fg_n{c}_{number}.JPEG"
                write_image(path, 20 * v + c, MODES[number])
    (root / "fg_mask/val" / names[0]).mkdir(parents=True)
    np.save(root / "fg_mask/val" / names[0] / "fg_n0_0.npy", np.zeros((2, 2), bool))
