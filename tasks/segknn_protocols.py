"""The numbers of the two published ways to segment by nearest patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Vote = Literal["pixels", "soft"]
Distance = Literal["cosine", "l2", "both"]
Void = Literal["vote", "first", "skip", "zero"]

MOST = 255  # neighbours that a vote by pixels can count

#: Label sets whose files have void as 0, before all classes: there CAPI's ties go to it.
VOID_FIRST = ("ade20k-150",)


@dataclass(frozen=True, kw_only=True)
class SegknnProtocol:
    """What is remembered of train, what is looked for, and how neighbours vote.

    Attributes:
        size_px: side of the squeezed image, cut down to a multiple of the patch.
        interpolation: of the images; labels are always resized to the nearest.
        k: neighbours of a patch; of several numbers one is chosen on held-out images.
        distance: between patches; of `both` one is chosen on held-out images.
        standardize: whether features get mean 0 and variance 1 over the training patches.
        augmentations: passes over train with random crops and colours; 0: each image as it is.
        memory: most patches that are remembered; 0 for all.
        vote: `pixels`: at each pixel of a patch, the label that most of its neighbours have at
            that place; `soft`: shares of classes, averaged with softmax(cosine / temperature).
        temperature: of the soft vote.
        void: what pixels without a class do in the memory: `vote` for no class, which has no tie,
            or wins every tie (`first`); `skip` the vote; or count as class `zero`.
    """

    size_px: int
    interpolation: str
    k: tuple[int, ...]
    distance: Distance
    standardize: bool
    augmentations: int
    memory: int
    vote: Vote
    temperature: float
    void: Void

    def side(self, patch: int) -> int:
        """The side of the input: the largest multiple of the patch up to `size_px`, or one patch.

        DINOv2's patch of 14 makes 504 of 512, as Hummingbird's published numbers have it.
        """
        return max(self.size_px // patch, 1) * patch

    @property
    def distances(self) -> tuple[str, ...]:
        """Those to look under."""
        return ("cosine", "l2") if self.distance == "both" else (self.distance,)

    @property
    def chooses(self) -> bool:
        """Whether held-out images decide between several k or distances."""
        return len(self.k) * len(self.distances) > 1


SEGKNN: dict[str, SegknnProtocol] = {
    # Darcet et al. (2025), facebookresearch/capi: eval_segmentation.py; on ADE20K void is `first`
    "segknn_capi": SegknnProtocol(
        size_px=224,
        interpolation="bicubic",
        k=(1, 3, 10, 30),
        distance="both",
        standardize=True,
        augmentations=0,
        memory=0,
        vote="pixels",
        temperature=0.0,
        void="vote",
    ),
    # Balazevic et al. (2023) as measured by vpariza/open-hummingbird-eval: its table has two
    # augmentation epochs, 512 px (504 for DINOv2) and 1024 * 10^4 patches
    "segknn_hummingbird": SegknnProtocol(
        size_px=512,
        interpolation="bilinear",
        k=(30,),
        distance="cosine",
        standardize=False,
        augmentations=2,
        memory=10_240_000,
        vote="soft",
        temperature=0.02,
        void="skip",
    ),
}
