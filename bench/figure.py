"""The contract of a figure: a picture of what models have learned, with the numbers behind it."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bench import registry
from bench.disk import whole_file
from bench.errors import SpecError, StoreError, nearest
from bench.photos import Photos, sort_out
from bench.spec import bind, parse

if TYPE_CHECKING:
    from bench.backbone import Backbone
    from bench.transforms import EvalTransform

__all__ = ["Figure", "Photos", "draw", "publish"]


@dataclass(frozen=True, kw_only=True)
class Figure(ABC):
    """One kind of picture, one file in `bench/figures/`; its fields are its options.

    What is heavy (torch, matplotlib) is imported inside `draw`.

    Attributes:
        images: images looked at of each folder or data set, at most.
        size_px: side of the centre square that models see; 0 is each model's own.
        seed: of all that is drawn at random.

    Raises:
        SpecError: a number is below what makes sense.
    """

    endings: ClassVar[tuple[str, ...]]  # of the files that `draw` gives, the picture first
    mini: ClassVar[str] = "mini_scenes"  # the part of the mini benchmark that tests draw
    any_image: ClassVar[bool] = True  # whether images of no data set will do
    least: ClassVar[Mapping[str, int]] = {"images": 1, "size_px": 0, "seed": 0}

    images: int = 200
    size_px: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in self.least.items():
            if getattr(self, name) < least:
                raise SpecError(f"{name}={getattr(self, name)}: expected at least {least}")

    @abstractmethod
    def draw(self, models: Sequence[str], photos: Photos, device: str) -> dict[str, bytes]:
        """The content of each file by its ending; the same input gives the same bytes.

        Args:
            models: one source or several, as `load_model` takes them.
            photos: one image or several.
            device: `cpu` or `cuda`.
        """

    def transform(self, backbone: Backbone) -> EvalTransform:
        """The centre square of an image as the model sees it, nothing cut off its short side.

        SpecError: the size is no multiple of the patch, so that a border would be lost.
        """
        from bench.transforms import EvalTransform

        size, patch = self.size_px or backbone.input.size_px, backbone.patch_size
        if size % patch:
            near = max(1, round(size / patch)) * patch
            raise SpecError(f"size_px={size} for patches of {patch} px: choose {near}")
        return EvalTransform(replace(backbone.input, size_px=size, crop_pct=1.0))


def draw(
    spec: str,
    things: Sequence[str],
    out: Path | None = None,
    *,
    data: Path | None = None,
    device: str = "",
    skip_bad: int = 0,
) -> list[Path]:
    """Draw one figure; the paths of its files, the picture first.

    Args:
        spec: `KIND?key=value&...`; keys are the figure's fields.
        things: models, image files, folders of images and data sets (`bench.photos.sort_out`);
            without any image, held-out ones of the data that the first model was trained on.
        out: path without ending; by default the kind's name in the working folder.
        data: data root; by default the environment's.
        device: `cpu` or `cuda`; by default the best there is.
        skip_bad: unreadable images to leave out instead of stopping.

    Raises:
        SpecError: unknown kind or option, no model, no image, or a model that lacks what it needs.
        DataError: images are missing or unreadable.
        StoreError: a file is there already, or cannot be written.
    """
    asked = parse(spec)
    cls: type[Figure] = registry.load("figure", asked.name)
    figure = bind(cls, dict(asked.options))
    paths = files_of(out or Path(asked.name), cls.endings)
    if device not in ("", "cpu", "cuda"):
        raise SpecError(f"--device {device}: {nearest(device, ('cpu', 'cuda'))}")
    data_set = [asked.dataset_text] if asked.dataset else []  # slots@mini_scenes
    models, photos = sort_out([*things, *data_set], figure.images, figure.seed, data)
    if not models:
        raise SpecError("no model to draw: name a run folder, timm:NAME or random:ARCH")
    if not photos and (own := trained_on(models[0])):
        _, photos = sort_out([own], figure.images, figure.seed, data)
    if not photos:
        raise SpecError(
            "no images to draw: name image files, folders of images, or a data set such as "
            "mini_scenes"
        )
    from bench.engine import best_device

    found = figure.draw(models, Photos(photos, skip_bad, data), best_device(device))
    publish({paths[ending]: content for ending, content in found.items()})
    return list(paths.values())


def trained_on(model: str) -> str:
    """The data set on which a model was pre-trained, as its checkpoint names it; else empty."""
    from bench.checkpoint import load_model

    return str((load_model(model).record.pretrain or {}).get("dataset", ""))


def files_of(out: Path, endings: Sequence[str], other: str = "another --out") -> dict[str, Path]:
    """The path of each file; StoreError when one is there, before anything is computed.

    `other` is what the advice asks for.
    """
    # Not with_suffix: a stem such as "slots.v2" would lose its end.
    stem = out.stem if out.suffix in endings else out.name
    paths = {ending: out.parent / f"{stem}{ending}" for ending in endings}
    for path in paths.values():
        if path.exists():
            raise StoreError(f"{path} exists: choose {other}, or delete it")
    return paths


def publish(files: Mapping[Path, bytes], other: str = "another --out") -> None:
    """Write all files or none; `other` is what the advice asks for when that fails."""
    named: list[Path] = []
    path = Path()
    try:
        with contextlib.ExitStack() as waiting:  # no file gets its name before all are written
            for path, content in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                waiting.enter_context(whole_file(path)).write(content)
                named.append(path)
    except OSError as error:
        for done in named:
            done.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path} ({error.strerror}): give {other}") from error
