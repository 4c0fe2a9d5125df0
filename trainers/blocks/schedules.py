"""Schedules, each a pure function of the step."""

import math
from typing import Literal


def cosine(step: float, start: float, end: float, total: float) -> float:
    """``end + (start - end) * (1 + cos(pi * step / total)) / 2``: from ``start`` to ``end``."""
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * min(step / max(total, 1), 1.0)))


def warmup_cosine(
    step: int,
    peak: float,
    end: float,
    total: int,
    warmup: int,
    style: Literal["dino", "mae"] = "dino",
) -> float:
    """Linear warm-up from 0, then half a cosine to ``end``.

    Args:
        step: 0-based optimiser step.
        peak: value at the end of the warm-up.
        end: value at the end of training.
        total: steps of the whole training.
        warmup: steps of the warm-up.
        style: ``dino`` reaches the peak on the warm-up's last step (``linspace(0, peak, warmup)``),
            ``mae`` on the step after it (``peak * step / warmup``).
    """
    if step < warmup:
        return peak * step / max(warmup - (style == "dino"), 1)
    return cosine(step - warmup, peak, end, total - warmup)


def linear_warmup(step: int, start: float, end: float, steps: float) -> float:
    """``linspace(start, end, steps)``, then ``end``: teacher temperatures by epoch or by step."""
    return end if step >= steps else start + (end - start) * min(step / max(steps - 1, 1), 1.0)
