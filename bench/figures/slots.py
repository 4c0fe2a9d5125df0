"""What prototypes found: the prototype of each patch, and the best segments of each prototype."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench.errors import SpecError
from bench.figure import Figure, Photos
from bench.progress import track
from bench.records import ModelRecord

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel

BATCH = 16
Maps = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Segment:
    """The patches of one image that one prototype wins."""

    image: int
    patches: int


@dataclass(frozen=True)
class Found:
    """What a model's prototypes found in images.

    Attributes:
        model: whose prototypes.
        names: of the images.
        pixels: (n, s, s, 3) uint8, as the model saw them.
        maps: (n, h, w), the prototype with the largest score of each patch.
        count: number of prototypes K.
        order: prototypes that win a patch anywhere, the most used first.
        use: (K,) patches that each wins.
    """

    model: ModelRecord
    names: list[str]
    pixels: npt.NDArray[np.uint8]
    maps: Maps
    count: int

    @property
    def use(self) -> npt.NDArray[np.int64]:
        return np.bincount(self.maps.ravel(), minlength=self.count)

    @property
    def order(self) -> list[int]:
        ranked = np.argsort(-self.use, kind="stable")
        return [int(k) for k in ranked if self.use[k]]

    def segments(self, prototype: int, most: int) -> list[Segment]:
        """Images in which the prototype wins the most patches, at most `most`."""
        patches = (self.maps == prototype).sum((1, 2))  # (n,)
        ranked = np.argsort(-patches, kind="stable")[:most]
        return [Segment(int(i), int(patches[i])) for i in ranked if patches[i]]


@dataclass(frozen=True, kw_only=True)
class Slots(Figure):
    """After Figure 1 of "An Image Is Worth K Slots", for any model with prototypes of patches.

    Above are images and their assignment maps: each patch has the colour of the prototype with the
    largest score, the same in all images. Below is a column for each of the most used prototypes,
    with the images in which it wins the most patches, cropped to them, the other patches dimmed.
    Prototypes are ranked and their images searched over all images, shown or not.

    Attributes:
        shown: images above.
        prototypes: columns below.
        segments: images in a column.
    """

    endings: ClassVar[tuple[str, ...]] = (".png", ".json")
    least = {**Figure.least, "shown": 1, "prototypes": 1, "segments": 1}

    shown: int = 6
    prototypes: int = 8
    segments: int = 5

    def draw(self, models: Sequence[str], photos: Photos, device: str) -> dict[str, bytes]:
        """The picture of one model, and the maps and segments in it."""
        from bench.checkpoint import load_model
        from bench.figures._slots_page import slots_page
        from bench.page import png, style

        if len(models) > 1:
            raise SpecError(
                f"slots draws one model, found {', '.join(models)}: leave out the others, and "
                "correct the paths of what should be images"
            )
        found = self.look(load_model(models[0]), photos, device)
        with style():
            page = slots_page(found, self.shown, self.prototypes, self.segments)
            return {".png": png(page), ".json": self.numbers(found).encode()}

    def look(self, model: LoadedModel, photos: Photos, device: str) -> Found:
        """The prototype of each patch of each image.

        SpecError: the model has no prototypes.
        """
        import torch

        backbone, name = model.backbone.to(device), model.record.name
        if not backbone.available("proto"):
            raise SpecError(
                f"{name} has no prototypes of patches, which slots draws: take a run of slotmim, "
                "slotcon, sove, or ibot with norm_last_layer=true"
            )
        names, pixels = photos.pixels(self.transform(backbone))
        maps = []
        with torch.inference_mode():
            for batch in track(torch.split(pixels, BATCH), label=f"slots {name}"):
                images = backbone.input.normalise(batch.to(device))
                scores = backbone.features(images, ["proto"])["proto"]  # (b, h, w, K)
                maps.append(scores.argmax(-1).cpu())
        return Found(
            model.record,
            names,
            pixels.permute(0, 2, 3, 1).numpy(),
            torch.cat(maps).numpy(),
            scores.shape[-1],
        )

    def numbers(self, found: Found) -> str:
        """What the picture shows, as JSON."""
        total, use = found.maps.size, found.use
        columns = []
        for k in found.order[: self.prototypes]:
            images = [
                {"image": found.names[s.image], "patches": s.patches}
                for s in found.segments(k, self.segments)
            ]
            columns.append({"prototype": k, "share": int(use[k]) / total, "images": images})
        shown = zip(found.names[: self.shown], found.maps.tolist(), strict=False)
        values: dict[str, Any] = {
            "figure": "slots",
            "options": asdict(self),
            "model": found.model.to_dict(),
            "size_px": found.pixels.shape[1],
            "images": len(found.names),
            "prototypes": found.count,
            "patches_won": {k: int(use[k]) for k in found.order},
            "maps": [{"image": name, "prototype": rows} for name, rows in shown],
            "segments": columns,
        }
        return json.dumps(values) + "\n"
