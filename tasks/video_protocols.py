"""Published ways to carry masks through videos with frozen patches, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.errors import SpecError
from tasks.frozen import Positions

Normalise = Literal["davis", "model"]


@dataclass(frozen=True, kw_only=True)
class Propagation:
    """The rule: the first frame and up to `context` frames before the one that is asked for.

    `radius` 0 makes all patches candidates.
    """

    context: int = 7
    radius: int = 12
    topk: int = 5
    temperature: float = 0.1

    def __post_init__(self) -> None:
        for name, least in (("context", 0), ("radius", 0), ("topk", 1)):
            if getattr(self, name) < least:
                raise SpecError(f"{name}={getattr(self, name)} must be at least {least}")
        if not self.temperature > 0:
            raise SpecError(f"temperature={self.temperature} must be above 0")


@dataclass(frozen=True, kw_only=True)
class VideoProtocol:
    """What the network sees of a frame, and how labels are carried on."""

    size_px: int
    multiple: int
    positions: Positions
    normalise: Normalise
    propagation: Propagation = Propagation()

    def __post_init__(self) -> None:
        if self.size_px < 1 or self.multiple < 1:
            raise SpecError(
                f"size_px={self.size_px} and multiple={self.multiple} must be at least 1"
            )


PROTOCOLS = {
    # facebookresearch/dino, eval_video_segmentation.py; iBOT's and SOVE's numbers are of the same
    "davis_dino": VideoProtocol(size_px=480, multiple=64, positions="dino", normalise="davis"),
}
