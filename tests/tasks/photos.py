"""Small folders of coloured images, a small model and the data of a task on them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.backbone import Backbone
from bench.checkpoint import LoadedModel
from bench.features import FeatureCache
from bench.network import Network, seeded_network
from bench.records import KeyReport
from bench.spec import parse_dataset
from bench.task import TaskData
from bench.transforms import InputSpec

NAME = "mini_objects"
COLOURS = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40))


def write_photos(
    root: Path, classes: int = 4, images: int = 8, size_px: int = 64, mode: str = "RGB"
) -> Path:
    """A data root: images of noise around one colour a class, in the layout of `mini_objects`."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in range(classes):
            folder = root / NAME / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(images):
                noise = rng.integers(-40, 41, (size_px, size_px, 3))
                pixels = np.clip(np.array(COLOURS[label % 4]) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).convert(mode).save(folder / f"{number}.png")
    return root


def data_of(root: Path, cache: Path, **settings: Any) -> TaskData:
    """What a task is given of a folder that `write_photos` wrote."""
    return TaskData(
        parts=parse_dataset(NAME), data_root=root, cache=FeatureCache(cache), **settings
    )


def small_model(network: Network | None = None, size_px: int = 32, **extras: Any) -> LoadedModel:
    """A ViT of depth 2, or the network that is given, at 32 px."""
    if network is None:
        network = seeded_network(
            f"vit_mini_patch8_{size_px}", 0, depth=2, embed_dim=48, num_heads=3
        )
    backbone = Backbone(network, InputSpec.of_size(size_px), extras=extras)
    return LoadedModel.of(
        backbone, KeyReport(0, 0), name="small", source="memory", family="native", arch="small"
    )
