"""The slice of train on which a probe is chosen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.errors import DataError

Rows = npt.NDArray[np.int64]


def held_out_slice(targets: npt.NDArray[np.int64], share: float, seed: int) -> tuple[Rows, Rows]:
    """(rows to train on, rows held out), both rising: a stratified, seeded share of the samples.

    Samples are shuffled within their class, laid out class after class, and every 1/share-th one
    is held out from a random start. So the total is right to one sample and each class is within
    one of its share, however small the classes are; a class's only sample stays in training.
    """
    if not 0 < share <= 0.5:
        raise DataError(f"holdout={share} must lie above 0 and at most 0.5; 0.1 is usual")
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(targets))
    by_class = shuffled[np.argsort(targets[shuffled], kind="stable")]
    places = ((np.arange(int(len(targets) * share) + 1) + rng.random()) / share).astype(np.int64)
    held = by_class[places[places < len(targets)]]
    sizes = np.bincount(targets)
    held = np.sort(held[sizes[targets[held]] > 1])
    if len(targets) * share < 1 or not len(held):
        raise DataError(
            f"{len(targets)} training images are too few to hold out {share:g} of them; raise "
            "holdout, or take selection=test and say so"
        )
    return np.setdiff1d(np.arange(len(targets)), held), held
