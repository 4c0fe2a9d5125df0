"""The studentised bootstrap agrees with theory where there is one, and is honest where it fails."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.errors import SSLBenchError
from bench.resampling import FEW, Estimate, Ratio, studentised


def mean(values: np.ndarray, **options: int) -> Estimate:
    """The mean of values (n,)."""
    return studentised(np.stack([values, np.ones(len(values))], axis=1), Ratio(), **options)


def test_error_of_a_mean_is_that_of_the_textbook() -> None:
    values = np.random.default_rng(0).standard_normal(41)
    found = mean(values)
    assert found.value == pytest.approx(values.mean())
    assert found.error == pytest.approx(stats.sem(values))
    assert found.n == 41


def test_interval_and_p_of_normal_samples_agree_with_students() -> None:
    values = np.random.default_rng(1).standard_normal(400) + 0.1
    found, student = mean(values), stats.ttest_1samp(values, 0.0)
    assert found.method == "bootstrap-t"
    theirs = student.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(theirs), abs=0.1 * found.error)
    assert found.p == pytest.approx(student.pvalue, abs=0.01)


def test_error_of_a_mean_over_clusters_is_that_of_a_ratio() -> None:
    rng = np.random.default_rng(2)
    sizes = rng.integers(1, 6, 30)
    totals = rng.standard_normal(30) * sizes
    found = studentised(np.stack([totals, sizes], axis=1), Ratio())
    # Cochran (1977), equation 6.4, without the finite population's correction
    ratio = totals.sum() / sizes.sum()
    residual = ((totals - ratio * sizes) ** 2).sum() / 29
    assert found.value == pytest.approx(ratio)
    assert found.error == pytest.approx(np.sqrt(30 * residual) / sizes.sum())


def test_p_is_below_the_level_exactly_where_the_interval_leaves_out_zero() -> None:
    rng = np.random.default_rng(3)
    sure = []
    for shift in np.linspace(0, 0.6, 60):
        found = mean(rng.exponential(1.0, 40) - 1 + shift, resamples=199)
        assert found.low is not None
        assert found.high is not None
        assert found.p is not None
        sure.append(found.p <= 0.05)
        assert sure[-1] == (not found.low <= 0 <= found.high)
    assert 5 < sum(sure) < 55


def test_first_and_second_may_change_places() -> None:
    rows = np.random.default_rng(4).exponential(1.0, (50, 1)) - 0.8
    one, other = (studentised(np.c_[sign * rows, np.ones(50)], Ratio()) for sign in (1, -1))
    assert (other.value, other.error, other.p) == pytest.approx((-one.value, one.error, one.p))
    assert one.low is not None
    assert one.high is not None
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low))


def test_result_depends_on_the_seed_alone() -> None:
    values = np.random.default_rng(5).standard_normal(60)
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    assert mean(values) == mean(values)
    assert mean(values, seed=1).low != mean(values, seed=2).low
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # type: ignore[index]


def test_resamples_drawn_in_blocks_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(6).standard_normal(60)
    whole = mean(values, resamples=999)
    monkeypatch.setattr("bench.resampling.BLOCK", 60 * 7)
    assert mean(values, resamples=999) == whole


def test_few_samples_that_differ_get_students_interval() -> None:
    values = np.zeros(200)
    values[: FEW - 1] = np.linspace(0.5, 1.0, FEW - 1)
    found, student = mean(values), stats.ttest_1samp(values, 0.0)
    assert found.method == "t"
    assert found.p == pytest.approx(student.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(student.confidence_interval(0.95)))
    values[FEW] = 0.3
    assert mean(values).method == "bootstrap-t"


def test_equal_samples_leave_nothing_to_say_but_that_zero_is_zero() -> None:
    nothing = mean(np.zeros(30))
    assert (nothing.value, nothing.low, nothing.high, nothing.p) == (0.0, 0.0, 0.0, 1.0)
    for values in (np.full(30, 0.25), np.array([0.5])):
        found = mean(values)
        assert found.value == values[0]
        assert (found.low, found.high, found.p, found.method) == (None, None, None, "")


def test_many_samples_of_few_values_agree_with_the_normal_interval() -> None:
    values = np.repeat([-1.0, 0.0, 1.0], [300, 4000, 420])
    found = mean(values)
    assert found.low == pytest.approx(found.value - 1.96 * stats.sem(values), rel=0.1)


def test_rows_must_be_a_table() -> None:
    for wrong in ([1.0, 2.0], np.empty((0, 2))):
        with pytest.raises(SSLBenchError, match="rows of numbers"):
            studentised(wrong, Ratio())
