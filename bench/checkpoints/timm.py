"""`timm:NAME`: a ViT or Swin of timm with its pretrained weights, or with a file of weights.

timm:vit_small_patch16_224.dino                       weights from the hub (or its cache)
timm:vit_small_patch16_224.dino?file=weights.pth      the same architecture and input contract
timm:vit_small_patch16_224?pretrained=false&seed=1    random weights
"""

from pathlib import Path
from typing import Any

import timm

from bench.backbone import Backbone
from bench.checkpoint import (
    NOT_BACKBONE,
    Family,
    LoadedModel,
    find_tensors,
    load_tensors,
    safe_torch_load,
    split_source,
)
from bench.errors import CheckpointError, nearest
from bench.network import Network, empty_network, timm_network
from bench.records import KeyReport
from bench.transforms import InputSpec
from bench.vit import seeded

_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class TimmFamily(Family):
    """timm's ViTs and Swins; the tag in the name (`.dino`, `.ms_in1k`) decides mean, std, crop."""

    def claims(self, source: str) -> bool:
        """Only by prefix: a file of timm tensors does not say which architecture it is."""
        return source.startswith("timm:")

    def example(self, folder: Path) -> str:
        """A small ViT of timm with random weights: nothing is downloaded."""
        return "timm:vit_tiny_patch16_224?pretrained=false"

    def load(self, source: str) -> LoadedModel:
        """The model of NAME; options `pretrained` (default true), `file` and `seed`."""
        name, options = split_source(source, ("pretrained", "file", "seed"))
        if not timm.is_model(name.split(".")[0]):
            advice = nearest(name, timm.list_models(["vit_*", "swin_*"], pretrained="." in name))
            raise CheckpointError(f"{source}: timm has no model '{name}'; {advice}")
        wanted = options.get("pretrained", "true").lower()
        seed = options.get("seed", "0")
        if wanted not in _TRUTH or not seed.isdecimal():
            raise CheckpointError(f"{source}: expected pretrained=true|false and a whole seed")
        if "file" in options:
            vit, report = _from_file(name, options["file"], source)
        elif _TRUTH[wanted]:
            vit, report = _from_hub(name)
        else:
            with seeded(int(seed)):
                vit = timm_network(name)
            report = KeyReport(loaded=0, total=len(vit.state_dict()))
        return LoadedModel.of(
            Backbone(vit, _input_of(vit)),
            report,
            name=name,
            source=source,
            family="timm",
            arch=name,
        )


def _from_file(name: str, path: str, source: str) -> tuple[Network, KeyReport]:
    vit = empty_network(name, timm_network)
    state = find_tensors(safe_torch_load(path), source=path)
    return vit, load_tensors(vit, state, allow_unexpected=NOT_BACKBONE, source=source)


def _from_hub(name: str) -> tuple[Network, KeyReport]:
    empty_network(name, timm_network)  # what is neither is refused before anything is downloaded
    try:
        # With its own classes: timm then loads strictly. num_classes=0 would make it lenient.
        with seeded(0):
            vit: Any = timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub's clients raise whatever their HTTP library does
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise CheckpointError(
            f"timm:{name}: its pretrained weights could not be fetched ({reason}): check the "
            f"connection, or download them elsewhere and give timm:{name}?file=PATH"
        ) from error
    head = dict.fromkeys(dict(vit.head.named_parameters(prefix="head")), NOT_BACKBONE["head"])
    vit.reset_classifier(0)
    total = len(vit.state_dict())
    return vit, KeyReport(loaded=total, total=total, dropped=head)


def _input_of(vit: Any) -> InputSpec:
    """The input contract of the name in timm; `squash` and `border` crops become centred ones."""
    cfg = vit.pretrained_cfg
    return InputSpec(
        size_px=int(vit.patch_embed.img_size[0]),
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
        interpolation=cfg["interpolation"],
        crop_pct=float(cfg["crop_pct"]),
    )
