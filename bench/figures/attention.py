"""Where the CLS token attends in the last block: a map for each head, and their mean."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench import registry
from bench.errors import CheckpointError, SpecError
from bench.figure import Figure, Photos
from bench.progress import track
from bench.records import ModelRecord

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel

BATCH = 8
Maps = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Found:
    """What the heads of one model attend to.

    Attributes:
        model: whose heads.
        names: of the images.
        labels: their classes; empty where there is none.
        pixels: (n, s, s, 3) uint8, as the model saw them.
        maps: (n, 1 + heads, h, w) attention from CLS to the patches, the mean of the heads first;
            what is missing to 1 went to CLS itself and to registers.
        masks: (n, 1 + heads, h, w), the fewest patches that hold `mass` of each map.
    """

    model: ModelRecord
    names: list[str]
    labels: list[str]
    pixels: npt.NDArray[np.uint8]
    maps: Maps
    masks: npt.NDArray[np.bool_]

    @property
    def heads(self) -> int:
        return int(self.maps.shape[1]) - 1


@dataclass(frozen=True, kw_only=True)
class Attention(Figure):
    """After Figure 1 of DINO: the attention of the CLS token in the last block, head by head.

    The recipe `attn_cls`. A row an image and a model: the photograph, the mean of the heads, the
    heads. Each map runs from black for no attention to yellow for its own largest value, which the
    file of numbers holds. The share under a map is that of the fewest patches that hold `mass` of
    its attention: small for a head that looks at one thing, near `mass` for one that looks
    everywhere.

    Attributes:
        images: images drawn of each folder or data set, at most.
        heads: heads drawn of each model, the first ones.
        masks: whether the patches that hold `mass` are drawn below each map.
        mass: share of a map that its mask holds, as in the task `discovery` (0.6 in DINO's).
    """

    endings: ClassVar[tuple[str, ...]] = (".png", ".json")
    least = {**Figure.least, "heads": 1}

    images: int = 6
    heads: int = 16
    masks: bool = False
    mass: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.mass <= 1:
            raise SpecError(f"mass={self.mass}: expected a share above 0 and up to 1, such as 0.6")

    def draw(self, models: Sequence[str], photos: Photos, device: str) -> dict[str, bytes]:
        """Rows of maps in the order of the images, and the maps with their numbers."""
        from bench.checkpoint import load_model
        from bench.figures._attention_page import attention_page
        from bench.page import png, style

        found = [self.look(load_model(source), photos, device) for source in models]
        with style():
            page = attention_page(found, self)
            return {".png": png(page), ".json": self.numbers(found).encode()}

    def look(self, model: LoadedModel, photos: Photos, device: str) -> Found:
        """The attention of one model on each image.

        SpecError: it has no CLS token, or an attention of another kind. CheckpointError: its
        attention is not finite.
        """
        import torch

        backbone, name = model.backbone.to(device), model.record.name
        seen, pixels = photos.read(self.transform(backbone))
        found = []
        with torch.inference_mode():
            for batch in track(torch.split(pixels, BATCH), label=f"attention {name}"):
                images = backbone.input.normalise(batch.to(device))
                try:
                    attention = backbone.features(images, ["attn_cls"])["attn_cls"]
                except SpecError as error:
                    raise SpecError(f"attention cannot draw {name}: {error}") from None
                if not torch.isfinite(attention).all():
                    raise CheckpointError(f"attn_cls of {name} is not finite: look for NaN in it")
                heads = attention.double().cpu()  # (b, heads, h, w)
                found.append(torch.cat([heads.mean(1, keepdim=True), heads], dim=1))
        maps, kept = torch.cat(found).numpy(), registry.attribute("tasks.jaccard:kept_cells")
        return Found(
            model.record,
            [photo.name for photo in seen],
            [photo.label for photo in seen],
            pixels.permute(0, 2, 3, 1).numpy(),
            maps,
            np.stack([kept(image, self.mass) for image in maps]),
        )

    def numbers(self, found: Sequence[Found]) -> str:
        """What the picture shows, and all heads, as JSON."""
        values: dict[str, Any] = {
            "figure": "attention",
            "options": asdict(self),
            "models": [
                {
                    "model": model.model.to_dict(),
                    "size_px": model.pixels.shape[1],
                    "images": [described(model, image) for image in range(len(model.names))],
                }
                for model in found
            ],
        }
        return json.dumps(values) + "\n"


def described(found: Found, image: int) -> dict[str, Any]:
    """The numbers of the maps of one image, and the maps to six digits."""
    maps = [
        {
            "on_patches": float(attention.sum()),
            "entropy": entropy(attention),
            "largest": float(attention.max()),
            "mask_share": float(mask.mean()),
            "map": [[float(f"{value:.6g}") for value in row] for row in attention.tolist()],
        }
        for attention, mask in zip(found.maps[image], found.masks[image], strict=True)
    ]
    name, label = found.names[image], found.labels[image]
    return {"image": name, "class": label, "mean": maps[0], "heads": maps[1:]}


def entropy(attention: Maps) -> float:
    """Entropy in nats over that of an even attention: 1 where all patches have the same."""
    p = attention[attention > 0] / attention.sum()
    return float(-(p * np.log(p)).sum() / math.log(attention.size)) if attention.size > 1 else 1.0
