"""What a trained sweep of token heads says of the test images, and what is to be known of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.records import Outcome
from tasks.accuracy import columns_of
from tasks.token_probe import Pick, TokenWatch
from tasks.token_protocols import Selection


def reported(watch: TokenWatch, selection: Selection) -> Pick:
    """The head after the last epoch, chosen on held-out images; or the best seen on test."""
    pick = watch.best if selection == "test" else watch.final
    assert pick is not None
    return pick


def outcome_of(
    watch: TokenWatch, ids: Sequence[str], classes: int, selection: Selection
) -> Outcome:
    """Columns as `TokenTask.score` reads them; extras say how every head did."""
    told, final, best = reported(watch, selection), watch.final, watch.best
    assert final is not None
    assert best is not None
    columns = columns_of(
        *(ids, watch.tests.target, told.prediction, classes, told.top5),
        final=final.prediction,
        best=best.prediction,
    )
    extras = watch.extras() | {
        "reported_head": np.array(told.head),
        "reported_epoch": np.array(told.epoch),
    }
    return Outcome(columns=columns, extras=extras)


def remarks(watch: TokenWatch, selection: Selection) -> list[str]:
    """Heads that diverged, and a grid of learning rates that is too short."""
    lrs, notes = watch.sweep.lrs, []
    lost = [lr for lr, alive in zip(lrs, watch.sweep.alive, strict=True) if not alive]
    if lost:
        which = ", ".join(f"lr={lr:g}" for lr in lost)
        notes.append(f"{len(lost)} of {len(lrs)} heads diverged and were left out: {which}")
    lr = lrs[reported(watch, selection).head]
    if len(lrs) > 1 and lr in (min(lrs), max(lrs)):
        end = "smallest" if lr == min(lrs) else "largest"
        notes.append(f"the chosen learning rate {lr:g} is the {end} of the sweep: widen lrs")
    return notes
