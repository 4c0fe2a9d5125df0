"""The regression gate: what is noise, what is not, and what a baseline file must be."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import NewerSchema, StoreError
from bench.records import Metric, Outcome, Result
from bench.stats import accuracy_metric
from bench.store import Store
from leaderboards.baseline import Recorded, dumps, loads, recorded
from leaderboards.models import seeds_of
from leaderboards.regress import Change, changes

Make = Callable[..., Result]
MATRIX = {
    "matrix": {"models": [{"train": "mae@mini_objects"}], "tasks": ["knn@mini_objects"]},
    "mini": 64,
}
IDS = np.array([f"image{i:04}" for i in range(400)])


@pytest.fixture
def cells(result: Make, tmp_path: Path) -> Callable[..., list[Recorded]]:
    """The recorded cells of one model and task, a list of correct answers for each seed."""
    stores = iter(range(1000))

    def make(
        *hits: Sequence[bool], train: str = "mae@mini_objects", shuffle: bool = False, **others: Any
    ) -> list[Recorded]:
        store = Store(tmp_path / f"store{next(stores)}")
        for seed, right in enumerate(hits):
            values = np.asarray(right, dtype=np.float64)
            order = np.random.default_rng(seed).permutation(len(values)) if shuffle else slice(None)
            trained = {"spec": f"{train}?seed={seed}" if seed else train, "seed": seed}
            one = result(
                f"run{seed}",
                metric=others.get("metric") or accuracy_metric(values == 1),
                weights=f"{seed:064}",
                pretrain=trained,
                spec=others.get("spec", "knn@mini_objects"),
                **{k: v for k, v in others.items() if k in ("version", "manifest", "headline")},
            )
            store.write(one, Outcome({"id": IDS[: len(values)][order], "value": values[order]}))
        return recorded(store, list(store.results()))

    return make


def only(found: list[Change]) -> Change:
    (change,) = found
    return change


def draw(rate: float, seed: int, n: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < rate


def test_the_same_cells_are_the_same(cells: Callable[..., list[Recorded]]) -> None:
    hits = draw(0.6, 0)
    change = only(changes(cells(hits), cells(hits, shuffle=True)))
    assert (change.verdict, change.p, change.fails) == ("same", 1.0, False)
    assert change.before == change.now == hits.mean()


def test_a_loss_beyond_noise_closes_the_gate_and_a_gain_does_not(
    cells: Callable[..., list[Recorded]],
) -> None:
    hits = draw(0.6, 0)
    broken = hits & draw(0.9, 1)
    worse = only(changes(cells(hits), cells(broken)))
    assert (worse.verdict, worse.fails) == ("worse", True)
    assert worse.low is not None
    assert worse.low < broken.mean() - hits.mean() < worse.high < 0
    better = only(changes(cells(broken), cells(hits)))
    assert (better.verdict, better.fails) == ("better", False)


def test_for_an_error_less_is_better(cells: Callable[..., list[Recorded]]) -> None:
    errors = draw(0.4, 0)
    more = errors | draw(0.2, 1)
    change = only(changes(cells(errors, headline="error"), cells(more, headline="error")))
    assert change.verdict == "worse"


def test_pairing_sees_what_intervals_do_not(cells: Callable[..., list[Recorded]]) -> None:
    hits = draw(0.6, 0)
    fewer = hits.copy()
    fewer[np.flatnonzero(hits)[:12]] = False  # 3 points, all lost and none won
    assert only(changes(cells(hits), cells(fewer))).verdict == "worse"
    # The same scores of other samples: the intervals of 400 are 10 points wide.
    other = only(changes(cells(hits), cells(fewer[:399])))
    assert (other.verdict, other.note[:10]) == ("same", "not paired")


def test_spread_of_seeds_is_noise(cells: Callable[..., list[Recorded]]) -> None:
    hits = draw(0.6, 0)
    lower = hits & draw(0.93, 1)
    assert only(changes(cells(hits), cells(lower))).verdict == "worse"
    assert "one seed" in only(changes(cells(hits), cells(lower))).note
    wide = [draw(rate, seed) for rate, seed in ((0.5, 3), (0.6, 4), (0.7, 5))]
    shifted = [one & draw(0.93, 9) for one in wide]
    change = only(changes(cells(*wide), cells(*shifted)))
    assert (change.verdict, change.note) == ("same", "")


@pytest.mark.parametrize("seeds", [1, 3])
def test_gate_stays_open_for_noise_alone(cells: Callable[..., list[Recorded]], seeds: int) -> None:
    """Both sides from one truth: closed in 5 % of the cases at most, two-sided 2.5 % worse."""
    from leaderboards import regress

    rng = np.random.default_rng(0)
    base = cells(*(draw(0.5, i) for i in range(seeds)))
    closed = 0
    for _ in range(300):
        sides = []
        for _side in range(2):
            rates = 0.6 + (rng.normal(0, 0.03, seeds) if seeds > 1 else np.zeros(1))
            hits = rng.random((seeds, 400)) < rates[:, None]
            sides.append([packed(cell, row) for cell, row in zip(base, hits, strict=True)])
        closed += only(regress.changes(*sides)).verdict != "same"
    assert 2 <= closed <= 27  # 15 +- 4


def packed(cell: Recorded, hits: np.ndarray) -> Recorded:
    import base64
    import dataclasses
    import zlib

    raw = base64.b64encode(zlib.compress(hits.astype("<f4").tobytes())).decode()
    return dataclasses.replace(cell, metric=accuracy_metric(hits), values=raw)


def test_many_cells_are_corrected_together(cells: Callable[..., list[Recorded]]) -> None:
    hits = draw(0.6, 0)
    fewer = hits.copy()
    fewer[np.flatnonzero(hits)[:7]] = False
    gained = np.flatnonzero(~hits)[:1]
    fewer[gained] = True  # p about 0.03 by itself
    before, now = cells(hits), cells(fewer)
    assert only(changes(before, now)).verdict == "worse"
    tasks = [f"knn@mini_objects?k={k}" for k in range(10)]
    before += [cell for task in tasks for cell in cells(hits, spec=task)]
    now += [cell for task in tasks for cell in cells(hits, spec=task)]
    assert {change.verdict for change in changes(before, now)} == {"same"}


def test_cells_that_cannot_be_judged_are_told(cells: Callable[..., list[Recorded]]) -> None:
    hits, again = draw(0.6, 0), draw(0.6, 1)
    gone = only(changes(cells(hits), []))
    assert (gone.verdict, gone.fails, gone.now) == ("gone", True, None)
    half = only(changes(cells(hits, again), cells(hits)))
    assert (half.verdict, half.note) == ("gone", "not measured now: seed 1")
    for other in ({"version": 2}, {"manifest": "f" * 64}):
        changed = only(changes(cells(hits), cells(hits, **other)))
        assert (changed.verdict, changed.fails) == ("changed", True)
        assert "--update" in changed.note
    new = only(changes([], cells(hits)))
    assert (new.verdict, new.fails) == ("new", False)


def test_a_metric_that_is_no_mean_is_not_paired(cells: Callable[..., list[Recorded]]) -> None:
    hits = draw(0.6, 0)
    (cell,) = cells(hits, metric=Metric(0.3, 0.25, 0.35, 400, "bootstrap95"))
    assert cell.values == ""
    assert cell.samples().size == 0
    (low,) = cells(hits, metric=Metric(0.2, 0.16, 0.24, 400, "bootstrap95"))
    assert only(changes([cell], [low])).verdict == "worse"
    (bare,) = cells(hits, metric=Metric(0.3))
    (lower,) = cells(hits, metric=Metric(0.299))
    assert only(changes([bare], [lower])).verdict == "worse"
    assert "any difference counts" in only(changes([bare], [lower])).note


def test_samples_without_a_value_do_not_count(result: Make, tmp_path: Path) -> None:
    """As of objects that nobody labelled: the mean leaves them out, and so does the pairing."""
    hits = draw(0.6, 0).astype(np.float64)
    fewer = hits.copy()
    fewer[np.flatnonzero(hits)[:12]] = 0.0
    labelled = np.arange(len(hits)) % 4 > 0

    def cells(values: np.ndarray, counts: np.ndarray, name: str) -> list[Recorded]:
        store = Store(tmp_path / name)
        one = result(metric=accuracy_metric(values[counts] == 1) if counts.any() else Metric(0.0))
        store.write(one, Outcome({"id": IDS, "value": np.where(counts, values, np.nan)}))
        return recorded(store, list(store.results()))

    before, now = cells(hits, labelled, "before"), cells(fewer, labelled, "now")
    np.testing.assert_array_equal(before[0].samples(), hits[labelled])
    change = only(changes(before, now))
    assert (change.verdict, "not paired" in change.note) == ("worse", False)
    other = cells(fewer, np.arange(len(hits)) % 4 < 3, "other")
    assert "not paired" in only(changes(before, other)).note
    (nothing,) = cells(hits, np.zeros(len(hits), dtype=bool), "nothing")
    assert (nothing.ids, nothing.samples().size) == ("", 0)


@pytest.mark.parametrize("end", ["-seed", "-s", "_s", "?seed="])
def test_the_seed_of_a_model_without_a_record_is_in_its_source(
    end: str, result: Make, tmp_path: Path
) -> None:
    hits = draw(0.6, 0)
    store = Store(tmp_path / "results")
    for seed in (3, 12):
        one = result(f"run{end}{seed}", metric=accuracy_metric(hits), pretrain={"dataset": None})
        store.write(one, Outcome({"id": IDS, "value": hits.astype(np.float64)}))
    cells = recorded(store, list(store.results()))
    assert [cell.seeds for cell in cells] == [(12, 0), (3, 0)]
    assert {cell.model for cell in cells} == {"runs/run"}


def test_a_renamed_model_keeps_the_seed_of_its_source(result: Make) -> None:
    one = result("mine", pretrain={"dataset": None}, seed=4)
    one.model["source"] = "random:vit_mini_patch4_32?seed=7"
    assert seeds_of(one) == (7, 4)
    one.model["name"] = "mine-seed2"
    assert seeds_of(one) == (2, 4)
    one.model.update(name="mine", source="runs/mae-1000")
    assert seeds_of(one) == (None, 4)


def test_a_baseline_reads_back(cells: Callable[..., list[Recorded]]) -> None:
    made = cells(draw(0.6, 0), draw(0.5, 1), shuffle=True)
    matrix, back = loads(dumps(MATRIX, made, {"torch": "2.15"}), "baseline.json")
    assert (matrix, back) == (MATRIX, made)
    np.testing.assert_array_equal(back[0].samples(), draw(0.6, 0))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 1, "mini": 0, "cells": [{}], "matrix": {}}']
)
def test_what_is_no_baseline_is_said(text: str) -> None:
    with pytest.raises(StoreError, match=r"b\.json is no baseline .*--update"):
        loads(text, "b.json")


def test_broken_samples_and_newer_baselines_are_refused(
    cells: Callable[..., list[Recorded]],
) -> None:
    values = json.loads(dumps(MATRIX, cells(draw(0.6, 0)), {}))
    with pytest.raises(NewerSchema, match="upgrade"):
        loads(json.dumps(values | {"schema": 2}), "b.json")
    values["cells"][0]["values"] = "AAAA"
    with pytest.raises(StoreError, match="no baseline"):
        loads(json.dumps(values), "b.json")
