"""The numbers of probes that read all tokens.

Annotation Bootstrapping (P3) publishes the lengths (10 epochs of ImageNet) and the decoder's four
layers; it names Beyer et al. (2023) for the rest of the decoder, and nothing for the attentive
probe. What is not published is our reading (protocols.md T6 and T7).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from bench.errors import DataError

Augmentation = Literal["off", "rrc_bilinear", "rrc_bicubic", "rrc_tf"]
Selection = Literal["holdout", "test"]

SMALL_SET = 50_000  # training images below which `small_batch` holds


@dataclass(frozen=True)
class Length:
    """Batches of a training: their size, how many make an epoch, and the epochs."""

    batch: int
    iterations: int
    epochs: int

    @property
    def steps(self) -> int:
        """Updates in all."""
        return self.iterations * self.epochs


@dataclass(frozen=True, kw_only=True)
class TokenProtocol:
    """AdamW on float32 weights, each learning rate with a head of its own.

    Attributes:
        lrs: peak learning rates, not scaled by the batch.
        batch: images of a step; `small_batch` for sets below 50,000 training images.
        epochs: passes over the training images; more where they make fewer than `min_steps` steps.
        weight_decay: on matrices only.
        warmup: share of the steps in which the rate rises; half a cosine down to 0 follows.
        clip: largest norm of the gradients of one head; 0 for none.
        augmentation: how training images are cut; `off` is the stored evaluation input.
    """

    lrs: tuple[float, ...]
    batch: int = 1024
    small_batch: int = 256
    epochs: int = 10
    min_steps: int = 0
    weight_decay: float
    warmup: float = 0.0
    clip: float = 0.0
    augmentation: Augmentation = "off"

    def length(self, images: int, whole: int | None = None) -> Length:
        """The length on so many training images; the batch is at most all of them.

        `whole` counts those that are held out too: by it a set is small or not.
        """
        if images < 2:
            raise DataError(f"{images} training images are too few for a probe; give 2 or more")
        batch = min(self.asked(whole or images), images)
        iterations = images // batch
        return Length(batch, iterations, max(self.epochs, math.ceil(self.min_steps / iterations)))

    def asked(self, images: int) -> int:
        """The batch before it is cut to the images there are."""
        return self.small_batch if images < SMALL_SET else self.batch

    def factor(self, step: int, steps: int) -> float:
        """Share of the learning rate at a step: linear warm-up from 0, half a cosine down to 0."""
        rising = self.warmup * steps
        if step < rising:
            return step / rising
        return 0.5 + 0.5 * math.cos(math.pi * (step - rising) / (steps - rising))


_ATTENTIVE = {"lrs": (1e-4, 3e-4, 1e-3, 3e-3), "weight_decay": 1e-2}
_DECODER = {"lrs": (3e-4, 1e-3, 3e-3), "weight_decay": 1e-4, "warmup": 0.05, "clip": 1.0}

#: Ours, on the stored tokens of the centre crops; at least 300 steps on small sets.
ATTENTIVE = {
    "attentive_cached": TokenProtocol(**_ATTENTIVE, min_steps=300),
    "attentive_ab": TokenProtocol(**_ATTENTIVE, small_batch=1024, augmentation="rrc_bilinear"),
}

DECODER = {
    "decoder_cached": TokenProtocol(**_DECODER, min_steps=300),
    "decoder_ab": TokenProtocol(**_DECODER, min_steps=10_000, augmentation="rrc_bilinear"),
}

#: Whole images, so no crops.
CLEVR = {"clevr_ab": TokenProtocol(**_DECODER, min_steps=10_000)}
