"""The cells of a whole board against the same cells made one at a time."""

import random
from collections.abc import Callable

import numpy as np
import pytest

from bench.records import Metric, Result
from bench.summary import Summary
from leaderboards.aggregation import aggregate
from leaderboards.cells import lower_is_better
from leaderboards.columns import columns_of
from leaderboards.grid import grid_of
from leaderboards.places import places

Make = Callable[..., Result]
SPECS = ("knn@coco", "linear@coco", "depth@nyu", "davis@davis2017")

NUMBERS = (
    *("value", "seed_low", "seed_high", "seeds", "selected_on_test"),
    *("trainings", "evaluations", "training_low", "training_high"),
)


def models(result: Make, seed: int) -> list[list[Summary]]:
    """Models with any number of trainings and seeds, some without intervals, in any order."""
    dice = random.Random(seed)

    def one(model: int, training: int, spec: str, number: int) -> Result:
        value = dice.choice([dice.random(), 0.5])
        half = dice.choice([None, 0.0, 0.1])
        ends = (None, None) if half is None else (value - half, value + half)
        return result(
            f"m{model}-s{training}",
            spec=spec,
            seed=dice.choice([number, 10**30 + number]),
            headline="rmse" if spec.startswith("depth") else "top1",
            metric=Metric(value, *ends),
            warnings=("selected on test",) if dice.random() < 0.1 else (),
        )

    found = [
        [
            Summary.of(one(model, training, spec, number))
            for spec in SPECS
            for training in range(dice.choice([0, 1, 1, 3]))
            for number in range(dice.randrange(1, 4))
        ]
        for model in range(dice.randrange(1, 8))
    ]
    for results in found:
        dice.shuffle(results)
    return [results for results in found if results] or models(result, seed + 1000)


@pytest.mark.parametrize("seed", range(40))
def test_all_cells_at_once_are_the_cells_made_one_at_a_time(result: Make, seed: int) -> None:
    given = models(result, seed)
    columns = columns_of([one for results in given for one in results])
    grid = grid_of(given, columns)
    for j, (key, column) in enumerate(columns.items()):
        expected, rows = [], []
        for i, results in enumerate(given):
            own = [one for one in results if one.setting.measurement == key]
            if not own:
                assert grid.cells[i][j] is None
                assert grid.rank[i, j] == grid.first[i, j] == grid.last[i, j] == len(given)
                assert np.isnan(grid.relative[i, j])
                continue
            expected.append(aggregate(own))
            rows.append(i)
        value, low, high = (
            np.array([getter(cell) for cell in expected])
            for getter in (lambda c: c.value, lambda c: c.band[0], lambda c: c.band[1])
        )
        assert column.lower_is_better is lower_is_better(key.headline)
        place = places(value, low, high, column.lower_is_better)
        for k, (i, cell) in enumerate(zip(rows, expected, strict=True)):
            found = grid.cells[i][j]
            assert found is not None
            assert set(found.results) == set(cell.results)
            for name in ("low", "high"):
                ours, theirs = getattr(found, name), getattr(cell, name)
                assert (ours is None) == (theirs is None)
                assert theirs is None or ours == pytest.approx(theirs, rel=1e-12)
            for name in NUMBERS:
                assert getattr(found, name) == pytest.approx(getattr(cell, name), rel=1e-12)
            assert (found.tied_with_best, found.group) == (place.tied[k], place.group[k])
            assert grid.rank[i, j] == place.rank[k]
            assert (grid.first[i, j], grid.last[i, j]) == (place.first[k], place.last[k])
            assert type(found.value) is float
            assert type(found.seeds) is int
            assert type(found.selected_on_test) is bool
