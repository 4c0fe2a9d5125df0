"""What a model takes for objects: its masks and its box over photographs, beside the true ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from bench import registry
from bench.errors import SpecError
from bench.figure import Figure, Photos
from bench.figures._truth import Truth, truth_of
from bench.progress import track
from bench.records import ModelRecord

if TYPE_CHECKING:
    from PIL import Image

    from bench.checkpoint import LoadedModel
    from bench.photos import Photo

Protocol = Literal["auto", "jacc_dino", "jacc_ipvit", "jacc_slotmim"]
MOST = 10_000  # patches of an image of which LOST compares all pairs


@dataclass(frozen=True, eq=False)
class Scene:
    """One image with what was found in it and what is known of it.

    Attributes:
        name: of the image.
        image: the photograph.
        masks: (n, s, s) candidates on the photograph squeezed to a square.
        box: left, top, right, bottom in the photograph's pixels.
        truth: annotations.
        regions: the labels of the true regions.
        ious: (n, r) overlap of each candidate with each of them.
        box_ious: overlap of the box with each true box; None where boxes are unknown.
    """

    name: str
    image: Image.Image
    masks: npt.NDArray[np.bool_]
    box: npt.NDArray[np.float64]
    truth: Truth
    regions: list[int]
    ious: npt.NDArray[np.float64]
    box_ious: npt.NDArray[np.float64] | None

    @property
    def best(self) -> list[int]:
        """The best candidate of each region; empty without candidates."""
        return [int(mask) for mask in self.ious.argmax(0)] if len(self.ious) else []

    @property
    def jaccard(self) -> float | None:
        """The mean of the best overlaps; None without a region."""
        if not self.regions:
            return None
        return float(self.ious.max(0).mean()) if len(self.ious) else 0.0

    @property
    def box_iou(self) -> float | None:
        """The best overlap of the box; None where there is no true one."""
        none = self.box_ious is None or not len(self.box_ious)
        return None if none else float(np.max(self.box_ious))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Found:
    """All images of one model, and the rules by which they were looked at.

    Attributes:
        model: whose masks.
        protocol: of the task `discovery`.
        size_px: side of the square of the masks.
        maps: what the masks are cut from: `attn_cls` or `proto`.
        iou: from which overlap on a box is right.
        scenes: the images.
    """

    model: ModelRecord
    protocol: str
    size_px: int
    maps: str
    iou: float
    scenes: tuple[Scene, ...]


@dataclass(frozen=True, kw_only=True)
class Discovery(Figure):
    """Rows of a photograph, masks, the box of LOST, and the annotations where there are any.

    Masks are the candidates of the task `discovery`, attention heads or prototypes; the box is that
    of the task `corloc`. Where the data set knows the regions of an image, the best mask of each
    is drawn in its colour, and the numbers are the tasks' for this image. Elsewhere all masks are
    drawn, the smallest on top.

    Attributes:
        images: images drawn of each folder or data set, at most.
        size_px: side of the square that the masks lie on; 0 is that of the protocol. The box is
            that of the image in its own size.
        protocol: of the task `discovery`; `auto` is `jacc_slotmim` for models with prototypes and
            `jacc_dino` for others.
        objects: whether regions are all pixels of a class or those of one object; `auto` is
            classes, where the data set has them.
    """

    endings: ClassVar[tuple[str, ...]] = (".png", ".json")
    mini: ClassVar[str] = "mini_voc"

    images: int = 6
    protocol: Protocol = "auto"
    objects: Literal["auto", "semantic", "instance"] = "auto"

    def draw(self, models: Sequence[str], photos: Photos, device: str) -> dict[str, bytes]:
        """The rows of one model, and the numbers in them."""
        from bench.checkpoint import load_model
        from bench.figures._discovery_page import discovery_page
        from bench.page import png, style

        if len(models) > 1:
            raise SpecError(
                f"discovery draws one model, found {', '.join(models)}: leave out the others, and "
                "correct the paths of what should be images"
            )
        found = self.look(load_model(models[0]), photos, device)
        with style():
            return {".png": png(discovery_page(found)), ".json": self.numbers(found).encode()}

    def look(self, model: LoadedModel, photos: Photos, device: str) -> Found:
        """Masks and boxes of all images.

        SpecError: the model lacks the maps, or the data set the regions that are asked for.
        """
        if self.size_px:
            self.transform(model.backbone)  # refuses sides that the patch does not divide
        protocol = self.protocol
        if protocol == "auto":
            protocol = "jacc_slotmim" if model.backbone.available("proto") else "jacc_dino"
        masks = registry.load("task", "discovery")(protocol=protocol, size_px=self.size_px or None)
        boxes = registry.load("task", "corloc")()
        scenes = []
        for photo, image in track(list(photos.images()), label=f"discovery {model.record.name}"):
            small = shrunk(image, model.backbone.patch_size)
            scale = np.tile(np.divide(image.size, small.size), 2)  # (4,)
            box = scale * boxes.look(model, small, device)
            candidates = masks.look(model, image, device)
            scenes.append(self.scene(photo, image, candidates, box, model.backbone.patch_size))
        values = masks.values
        return Found(model.record, protocol, values.size_px, values.maps, boxes.iou, tuple(scenes))

    def scene(
        self,
        photo: Photo,
        image: Image.Image,
        masks: npt.NDArray[np.bool_],
        box: npt.NDArray[np.float64],
        patch: int,
    ) -> Scene:
        """Masks and box of an image held against its annotations."""
        from PIL import Image

        truth, side = truth_of(photo, self.objects), masks.shape[1]
        regions: list[int] = []
        ious, box_ious = np.zeros((len(masks), 0)), None
        if truth.labels is not None:
            nearest = Image.Resampling.NEAREST  # as the task squeezes annotations
            labels = np.asarray(Image.fromarray(truth.labels).resize((side, side), nearest))
            whole = side // patch * patch
            labels, cells = labels[:whole, :whole], masks[:, :whole:patch, :whole:patch]
            regions = truth.regions(labels)
            best = registry.attribute("tasks.jaccard:best_ious")
            rows = [best(cell[None], labels, patch, truth.background, True) for cell in cells]
            ious = np.array(rows, dtype=np.float64).reshape(len(masks), len(regions))
        if truth.boxes is not None:
            box_ious = registry.attribute("tasks.lost:box_ious")(box, truth.boxes)
        return Scene(photo.name, image, masks, box, truth, regions, ious, box_ious)

    def numbers(self, found: Found) -> str:
        """What the picture shows, as JSON."""
        values: dict[str, Any] = {
            "figure": "discovery",
            "options": asdict(self),
            "model": found.model.to_dict(),
            "protocol": found.protocol,
            "size_px": found.size_px,
            "images": [described(scene, found.iou) for scene in found.scenes],
        }
        return json.dumps(values) + "\n"


def shrunk(image: Image.Image, patch: int) -> Image.Image:
    """The image, or a smaller one of at most `MOST` patches."""
    factor = patch * MOST**0.5 / (image.width * image.height) ** 0.5
    if factor >= 1:
        return image
    return image.resize((max(1, int(image.width * factor)), max(1, int(image.height * factor))))


def described(scene: Scene, iou: float) -> dict[str, Any]:
    """The numbers of one image."""
    best: Sequence[int | None] = scene.best or [None] * len(scene.regions)
    regions = [
        {
            "region": scene.truth.name(region),
            "label": region,
            "mask": mask,
            "iou": 0.0 if mask is None else float(scene.ious[mask, place]),
        }
        for place, (region, mask) in enumerate(zip(scene.regions, best, strict=True))
    ]
    boxes = scene.truth.boxes
    return {
        "image": scene.name,
        "masks": len(scene.masks),
        "mask_shares": [float(mask.mean()) for mask in scene.masks],
        "jaccard": scene.jaccard,
        "regions": regions,
        "box": scene.box.tolist(),
        "true_boxes": None if boxes is None else boxes.tolist(),
        "box_iou": scene.box_iou,
        "box_right": None if scene.box_iou is None else scene.box_iou >= iou,
        "missing": list(scene.truth.missing),
    }
