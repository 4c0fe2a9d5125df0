"""Image transforms: PIL images in, uint8 tensors out, each with an id for caches and results.

Normalisation is not here: uint8 travels to the device (a quarter of the bytes) and
`InputSpec.normalise` runs there. Resizing is PIL's, on purpose: a tensor resize differs from it by
0.1 to 0.3 points of k-NN.
"""

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.errors import SpecError, nearest

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_TRIES = 10  # of RandomResizedCrop before it falls back to the centre
Kind = Literal["rrc_bilinear", "rrc_bicubic", "rrc_tf"]


class Transform(Protocol):
    """What a frozen pass needs of a transform without randomness.

    `ragged` transforms give images of unequal size. Features are averaged over `scales`, factors by
    which the normalised image is resized before the forward.
    """

    @property
    def id(self) -> str:
        """Name of everything that can change a pixel."""

    @property
    def ragged(self) -> bool:
        """Whether images of one split come in several sizes."""

    @property
    def scales(self) -> tuple[float, ...]:
        """Sizes at which the network sees the image, as factors."""

    def __call__(self, image: Image.Image) -> Tensor:
        """uint8 tensor (3, h, w)."""


@dataclass(frozen=True)
class InputSpec:
    """The input contract that travels with weights (timm's vocabulary).

    `size_px` is the side of the square crop, `crop_pct` that side over the short side before the
    crop.
    """

    size_px: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: str = "bicubic"
    crop_pct: float = 0.875

    def __post_init__(self) -> None:
        if self.interpolation not in _RESAMPLING:
            raise SpecError(
                f"no interpolation '{self.interpolation}'; "
                f"{nearest(self.interpolation, _RESAMPLING)}"
            )
        if self.size_px < 1 or not 0 < self.crop_pct <= 1:
            raise SpecError(
                f"size_px {self.size_px} must be at least 1 and crop_pct {self.crop_pct} in (0, 1]"
            )

    @classmethod
    def of_size(cls, size_px: int) -> "InputSpec":
        """The usual contract at `size_px`: the crop of 224 / 256, or the whole image below 96 px.

        Small images (CIFAR, the mini benchmark) come at their final size: enlarging them only to
        cut the border away again loses what little there is.
        """
        return cls(size_px, crop_pct=0.875 if size_px >= 96 else 1.0)

    def normalise(self, images: Tensor) -> Tensor:
        """(images / 255 - mean) / std as float32, on the device of the uint8 (b, 3, h, w)."""
        scale, shift = _affine(self.mean, self.std, images.device)
        return torch.addcmul(shift, images.float(), scale)  # (b, 3, h, w)

    def to_json(self) -> dict[str, Any]:
        """Plain values, as stored in `checkpoint.json` and in model records."""
        values: dict[str, Any] = asdict(self)
        return values | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "InputSpec":
        """The spec that `to_json` wrote; SpecError names a key that is not a field."""
        for key in values:
            if key not in cls.__dataclass_fields__:
                raise SpecError(f"no input field '{key}'; {nearest(key, cls.__dataclass_fields__)}")
        triples: dict[str, Any] = {
            k: tuple(float(v) for v in values[k]) for k in ("mean", "std") if k in values
        }
        return cls(**(values | triples))


@lru_cache(maxsize=32)
def _affine(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """1/(255 std) and -mean/std, each (1, 3, 1, 1): normalising is one multiply-add.

    Kept per device, since a copy to a GPU waits for all that was queued there before.
    """
    middle = torch.tensor(mean, dtype=torch.float64).view(1, 3, 1, 1)
    spread = torch.tensor(std, dtype=torch.float64).view(1, 3, 1, 1)
    with torch.inference_mode(False):  # kept tensors must also serve training
        return (1 / (255 * spread)).float().to(device), (-middle / spread).float().to(device)


def to_uint8(image: Image.Image) -> Tensor:
    """uint8 tensor (3, h, w) of an image, converted to RGB when it is not."""
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    # PIL's buffer is read-only, so it is copied once, straight into channels first.
    return torch.from_numpy(np.ascontiguousarray(np.array(rgb).transpose(2, 0, 1)))


@dataclass(frozen=True)
class EvalTransform:
    """`ev224` for any size: short side to round(size / crop_pct), centre crop.

    The long side and the crop's corner are rounded as torchvision does, so the pixels equal its
    Resize + CenterCrop.
    """

    ragged: ClassVar[bool] = False
    scales: ClassVar[tuple[float, ...]] = (1.0,)

    spec: InputSpec = InputSpec()

    @property
    def id(self) -> str:
        """For example `ev224-bicubic-0.875`."""
        return f"ev{self.spec.size_px}-{self.spec.interpolation}-{self.spec.crop_pct:g}"

    def __call__(self, image: Image.Image) -> Tensor:
        """uint8 tensor (3, size, size)."""
        size = self.spec.size_px
        short = round(size / self.spec.crop_pct)
        width, height = image.size
        if width <= height:
            resized = (short, int(short * height / width))
        else:
            resized = (int(short * width / height), short)
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        if resized != rgb.size:
            rgb = rgb.resize(resized, _RESAMPLING[self.spec.interpolation])
        left, top = round((resized[0] - size) / 2), round((resized[1] - size) / 2)
        return to_uint8(rgb.crop((left, top, left + size, top + size)))


@dataclass(frozen=True)
class SquareTransform:
    """`sq224` for any size: the whole image squeezed (SlotMIM on VOC, CLEVR)."""

    ragged: ClassVar[bool] = False
    scales: ClassVar[tuple[float, ...]] = (1.0,)

    spec: InputSpec = InputSpec()

    @property
    def id(self) -> str:
        """For example `sq224-bicubic`."""
        return f"sq{self.spec.size_px}-{self.spec.interpolation}"

    def __call__(self, image: Image.Image) -> Tensor:
        """uint8 tensor (3, size, size)."""
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        size = (self.spec.size_px, self.spec.size_px)
        return to_uint8(rgb.resize(size, _RESAMPLING[self.spec.interpolation]))


@dataclass(frozen=True)
class ThumbnailTransform:
    """The whole image in its own aspect, its longest side at most `longest_px` (retrieval).

    PIL's `thumbnail` with Lanczos, as DINO and iBOT do: smaller images are not enlarged. Features
    are averaged over `scales`, factors by which the normalised image is resized.
    """

    ragged: ClassVar[bool] = True

    longest_px: int
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.longest_px < 1 or not self.scales or min(self.scales) <= 0 or max(self.scales) > 1:
            raise SpecError(
                f"longest_px {self.longest_px} must be 1 or more and scales {self.scales} in (0, 1]"
            )

    @property
    def id(self) -> str:
        """For example `thumb512-lanczos-1:0.707107:0.5`."""
        factors = ":".join(f"{scale:g}" for scale in self.scales)
        return f"thumb{self.longest_px}-lanczos-{factors}"

    def __call__(self, image: Image.Image) -> Tensor:
        """uint8 tensor (3, h, w)."""
        small = image.copy() if image.mode == "RGB" else image.convert("RGB")
        small.thumbnail((self.longest_px, self.longest_px), Image.Resampling.LANCZOS)
        return to_uint8(small)


@dataclass(frozen=True)
class NativeTransform:
    """The whole image at its own size (LOST)."""

    ragged: ClassVar[bool] = True
    scales: ClassVar[tuple[float, ...]] = (1.0,)
    id: ClassVar[str] = "native"

    def __call__(self, image: Image.Image) -> Tensor:
        """uint8 tensor (3, h, w)."""
        return to_uint8(image)


def image_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of one image in one epoch: results do not depend on workers or world size."""
    return np.random.default_rng((seed, epoch, index))


def crop_box(
    size: tuple[int, int],
    rng: np.random.Generator,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    tries: int = _TRIES,
) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of RandomResizedCrop on an image of `size` (width, height).

    The area is uniform in `scale`, the aspect log-uniform in `ratio`; a draw that does not fit is
    redrawn up to `tries` times, then the largest centred box of allowed aspect is taken. `tries=1`
    is TF's variant as in MAE: one draw, sides clipped to the image.
    """
    width, height = size
    for _ in range(tries):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if tries == 1:
            w, h = min(max(w, 1), width), min(max(h, 1), height)
        if 0 < w <= width and 0 < h <= height:
            left = int(rng.integers(0, width - w + 1))
            top = int(rng.integers(0, height - h + 1))
            return left, top, left + w, top + h
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w, h = min(width, max(1, round(height * aspect))), min(height, max(1, round(width / aspect)))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


@dataclass(frozen=True)
class TrainTransform:
    """Random resized crop and flip of the linear-probe recipes, drawn from an explicit generator.

    `rrc_bilinear` is DINO's and iBOT's, `rrc_bicubic` DINOv2's, `rrc_tf` MAE's (bicubic, one draw
    without the retry loop). Example: `TrainTransform("rrc_tf")(image, image_rng(seed=0, epoch=3,
    index=17))`.
    """

    kind: Kind
    size_px: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    def __post_init__(self) -> None:
        kinds = ("rrc_bilinear", "rrc_bicubic", "rrc_tf")
        if self.kind not in kinds:
            raise SpecError(f"no train transform '{self.kind}'; {nearest(self.kind, kinds)}")

    @property
    def id(self) -> str:
        """For example `rrc224_tf`; values that differ from A3's are appended."""
        name = f"rrc{self.size_px}_{self.kind.removeprefix('rrc_')}"
        default = TrainTransform(self.kind, self.size_px)
        for key in ("scale", "ratio"):
            low, high = getattr(self, key)
            if (low, high) != getattr(default, key):
                name += f"-{key}{low:g}:{high:g}"
        return name if self.flip == default.flip else f"{name}-flip{self.flip:g}"

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Tensor:
        """uint8 tensor (3, size, size)."""
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        tries = 1 if self.kind == "rrc_tf" else _TRIES
        # Cropped before resizing: PIL's resize(box=...) would let the filter see pixels outside of
        # the box.
        crop = rgb.crop(crop_box(rgb.size, rng, self.scale, self.ratio, tries))
        filter_name = "bilinear" if self.kind == "rrc_bilinear" else "bicubic"
        crop = crop.resize((self.size_px, self.size_px), _RESAMPLING[filter_name])
        pixels = to_uint8(crop)  # (3, size, size)
        return pixels.flip(2) if rng.random() < self.flip else pixels
