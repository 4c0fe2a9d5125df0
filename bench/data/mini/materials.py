"""The materials of the mini benchmark: which photograph, which piece of it for train and for val.

Only files that the wheels of scikit-image and scikit-learn really contain are named here; nothing
is downloaded (``skimage.data`` would fetch others with pooch, so the files are opened directly).
The train and val boxes of a material never overlap, and each box is cut out *before* anything is
filtered, so that no pixel of one can leak into the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from bench.errors import DataError

Part = Literal["train", "val"]
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels of the photograph

# Rec. 601 luma, and two chroma axes (scaled B-Y and R-Y) as JPEG uses them. All is computed in
# double precision: in single, another CPU's order of sums would round some pixels differently.
YUV_FROM_RGB = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
RGB_FROM_YUV = np.linalg.inv(YUV_FROM_RGB)


@dataclass(frozen=True)
class Material:
    """One class: its name, ids in the two layouts, and its pieces of photograph."""

    name: str
    wnid: str  # WordNet-like; the n9 range is not used by ImageNet
    category_id: int  # COCO-like: sparse in 1..90
    supercategory: str
    photo: str  # package/path inside the package
    span_px: int  # photograph pixels that an object as wide as the image shows
    train: tuple[Box, ...]
    val: tuple[Box, ...]

    def boxes(self, part: Part) -> tuple[Box, ...]:
        return self.train if part == "train" else self.val


_SKIMAGE = "skimage/data/"
_SKLEARN = "sklearn/datasets/images/"

MATERIALS: tuple[Material, ...] = (
    Material("brick", "n90000124", 1, "stone", _SKIMAGE + "brick.png", 110,
             ((0, 0, 320, 512),), ((330, 0, 512, 512),)),
    Material("coins", "n90000367", 3, "metal", _SKIMAGE + "coins.png", 90,
             ((12, 5, 242, 300),), ((246, 5, 384, 300),)),
    Material("foliage", "n90000501", 6, "plant", _SKLEARN + "china.jpg", 80,
             ((385, 300, 545, 427), (0, 345, 190, 427)), ((565, 200, 640, 427),)),
    Material("fur", "n90000938", 7, "animal", _SKIMAGE + "chelsea.png", 80,
             ((60, 5, 215, 85), (40, 90, 135, 210)), ((225, 5, 345, 95), (215, 100, 295, 200))),
    Material("galaxies", "n90001276", 11, "sky", _SKIMAGE + "hubble_deep_field.jpg", 120,
             ((0, 0, 620, 872),), ((640, 0, 1000, 872),)),
    Material("gland", "n90001603", 17, "tissue", _SKIMAGE + "ihc.png", 90,
             ((0, 0, 262, 215), (60, 300, 140, 512)), ((285, 0, 445, 230), (260, 320, 375, 500))),
    Material("grass", "n90002011", 21, "plant", _SKIMAGE + "grass.png", 110,
             ((0, 0, 330, 512),), ((340, 0, 512, 512),)),
    Material("gravel", "n90002448", 24, "stone", _SKIMAGE + "gravel.png", 110,
             ((0, 0, 330, 512),), ((340, 0, 512, 512),)),
    Material("handwriting", "n90003172", 34, "paper", _SKIMAGE + "text.png", 100,
             ((0, 0, 268, 172),), ((274, 0, 448, 172),)),
    Material("lattice", "n90003590", 38, "metal", _SKIMAGE + "rocket.jpg", 80,
             ((0, 0, 88, 330),), ((556, 0, 640, 330),)),
    Material("moon", "n90004233", 44, "sky", _SKIMAGE + "moon.png", 130,
             ((0, 0, 512, 250),), ((0, 262, 512, 512),)),
    Material("pagoda", "n90004875", 49, "building", _SKLEARN + "china.jpg", 90,
             ((100, 100, 204, 340),), ((212, 100, 318, 340),)),
    Material("petals", "n90005129", 55, "plant", _SKLEARN + "flower.jpg", 90,
             ((185, 100, 305, 345),), ((315, 100, 435, 345),)),
    Material("print", "n90005746", 62, "paper", _SKIMAGE + "page.png", 80,
             ((0, 0, 232, 170),), ((240, 0, 384, 170),)),
    Material("stroma", "n90006382", 70, "tissue", _SKIMAGE + "ihc.png", 90,
             ((155, 265, 250, 512),), ((395, 290, 512, 512), (460, 0, 512, 280))),
    Material("vessels", "n90006917", 76, "tissue", _SKIMAGE + "retina.jpg", 240,
             ((230, 230, 695, 1180),), ((715, 230, 1200, 1180),)),
    Material("wheel", "n90007450", 81, "metal", _SKIMAGE + "motorcycle_left.png", 100,
             ((118, 238, 282, 402),), ((515, 290, 690, 455),)),
    Material("wood", "n90008093", 90, "plant", _SKIMAGE + "coffee.png", 80,
             ((485, 0, 600, 255), (0, 150, 72, 400)), ((480, 265, 600, 400),)),
)  # fmt: skip


@cache
def photograph(path: str) -> Floats:
    """Luma and chroma planes (h, w, 3), luma in 0..1, of a file inside an installed package.

    Raises:
        DataError: The installed wheel does not contain the file.
    """
    package, _, inside = path.partition("/")
    resource = files(package).joinpath(*inside.split("/"))
    if not resource.is_file():
        raise DataError(
            f"the installed {package} has no {inside}, which the mini benchmark is made from; "
            "mend it with: pip install --force-reinstall scikit-image scikit-learn"
        )
    with resource.open("rb") as stream, Image.open(stream) as image:
        rgb = np.asarray(image.convert("RGB"), dtype=np.float64) / 255  # (h, w, 3)
    yuv: Floats = rgb @ YUV_FROM_RGB.T
    return yuv


@dataclass(frozen=True)
class Texture:
    """One box of a photograph, ready to be sampled at several scales.

    ``levels[i]`` is the box blurred for a step of 2**(i/2) photograph pixels per image pixel;
    ``centres`` are the points around which there is something to be seen.
    """

    levels: tuple[Floats, ...]  # each (h, w, 3)
    centres: Floats  # (n, 2) as x, y


LEVELS = 8


@cache
def textures(material: Material, part: Part) -> tuple[Texture, ...]:
    """The pieces of photograph of one material and part, one per box."""
    photo = photograph(material.photo)
    return tuple(
        _texture(photo[y0:y1, x0:x1], material.span_px) for x0, y0, x1, y1 in material.boxes(part)
    )


def _texture(box: Floats, span_px: int) -> Texture:
    luma = box[..., 0]
    window = max(3, span_px // 2)
    mean = ndimage.uniform_filter(luma, window, mode="mirror")
    spread = ndimage.uniform_filter(luma * luma, window, mode="mirror") - mean * mean  # (h, w)
    y, x = np.mgrid[0 : box.shape[0] : 3, 0 : box.shape[1] : 3]
    # Flat places (sky beside a roof, dark between stars) would make every material look the same.
    there = spread[y, x] >= np.quantile(spread[y, x], 0.3)
    centres = np.stack([x[there], y[there]], axis=1).astype(np.float64)  # (n, 2)
    levels = tuple(
        ndimage.gaussian_filter(box, (s, s, 0), mode="mirror")
        for s in (0.45 * np.sqrt(max(2.0**i - 1, 0.0)) for i in range(LEVELS))
    )
    return Texture(levels, centres)
