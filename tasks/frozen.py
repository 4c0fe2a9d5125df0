"""What tasks on whole-image features share: which token they read, and of which images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from bench.task import FrozenPass

if TYPE_CHECKING:
    from bench.backbone import Backbone
    from bench.checkpoint import LoadedModel
    from bench.feature_table import FeatureTable
    from bench.task import TaskData

Token = Literal["auto", "cls", "avg", "avg_fcnorm"]
Positions = Literal["dino", "size", "model"]  # `bench.maps.placed`


def token_of(token: Token, backbone: Backbone) -> str:
    """The recipe; `auto` is the CLS token or, without one, the average of patches."""
    if token == "auto":
        return "cls" if backbone.has_cls else "avg"
    return token


def pair_passes(
    model: LoadedModel, data: TaskData, size_px: int | None, crop_pct: float | None
) -> list[FrozenPass]:
    """The passes over labelled train and val; side and crop override the model's own."""
    transform = data.eval_transform(model, size_px, crop_pct)
    return [FrozenPass(split, transform) for split in data.pair()]


def pair_features(
    model: LoadedModel, data: TaskData, size_px: int | None, crop_pct: float | None
) -> tuple[FeatureTable, FeatureTable]:
    """Features of labelled train and val."""
    transform = data.eval_transform(model, size_px, crop_pct)
    train, test = (data.features(model, split, transform) for split in data.pair())
    return train, test
