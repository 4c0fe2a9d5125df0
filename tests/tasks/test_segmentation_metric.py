"""mIoU and accuracies against brute force and scikit-learn."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, jaccard_score, recall_score

from bench.annotations import VOID
from tasks.segmentation_metric import (
    class_iou,
    image_iou,
    pixel_counts,
    segmentation_metrics,
)

CLASSES = 6


def maps(seed: int, n: int = 9, absent: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Truths and predictions (n, 8, 8), with void on both sides; class `absent` never occurs."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, (n, 8, 8)).astype(np.uint8)
    guess = np.where(rng.random(truth.shape) < 0.5, truth, rng.integers(0, CLASSES, truth.shape))
    truth[truth == absent] = 0
    guess[guess == absent] = 1
    truth[rng.random(truth.shape) < 0.2] = VOID
    guess[rng.random(truth.shape) < 0.1] = VOID
    return truth, guess.astype(np.uint8)


def columns_of(truth: np.ndarray, guess: np.ndarray) -> dict[str, Any]:
    counts = [pixel_counts(t, g, CLASSES) for t, g in zip(truth, guess, strict=True)]
    return {name: np.stack([row[name] for row in counts]) for name in counts[0]}


def brute_force(truth: np.ndarray, guess: np.ndarray) -> dict[int, float]:
    """IoU of each class that occurs on either side, pixel by pixel."""
    found: dict[int, float] = {}
    for c in range(CLASSES):
        both = either = 0
        for t, g in zip(truth.ravel().tolist(), guess.ravel().tolist(), strict=True):
            if t != VOID:
                both += t == c and g == c
                either += t == c or g == c
        if either:
            found[c] = both / either
    return found


@pytest.mark.parametrize("seed", range(3))
def test_miou_equals_brute_force_and_leaves_absent_classes_out(seed: int) -> None:
    truth, guess = maps(seed)
    metrics = segmentation_metrics(columns_of(truth, guess))
    expected = brute_force(truth, guess)
    assert 4 not in expected
    assert metrics["miou"].value == pytest.approx(np.mean(list(expected.values())), abs=1e-12)
    with_void = [*expected.values(), 0.0]
    assert metrics["miou_void"].value == pytest.approx(np.mean(with_void), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_equal_those_of_scikit_learn(seed: int) -> None:
    truth, guess = maps(seed)
    counts = truth != VOID
    t, g = truth[counts], guess[counts]
    metrics = segmentation_metrics(columns_of(truth, guess))
    # Its macro average is over all labels on either side, void among the predicted ones.
    assert metrics["miou_void"].value == pytest.approx(jaccard_score(t, g, average="macro"))
    known = np.unique(t)
    assert metrics["macc"].value == pytest.approx(
        recall_score(t, g, labels=known, average="macro", zero_division=0)
    )
    assert metrics["aacc"].value == pytest.approx(accuracy_score(t, g))
    never_void = np.where(guess == VOID, 0, guess).astype(np.uint8)
    plain = segmentation_metrics(columns_of(truth, never_void))
    expected = jaccard_score(t, never_void[counts], average="macro")
    assert plain["miou"].value == pytest.approx(expected)
    assert plain["miou_void"].value == plain["miou"].value


def test_class_ious_equal_those_of_scikit_learn() -> None:
    truth, guess = maps(7)
    guess[guess == VOID] = 0
    total = {name: column.sum(0) for name, column in columns_of(truth, guess).items()}
    ious = class_iou(total["intersection"], total["predicted"], total["labelled"])
    counts = truth != VOID
    known = np.flatnonzero(~np.isnan(ious))
    assert len(known) == CLASSES - 1
    expected = jaccard_score(truth[counts], guess[counts], labels=known, average=None)
    np.testing.assert_allclose(ious[known], expected, atol=1e-12)


def test_pixels_predicted_as_no_class_are_missed_but_no_false_alarm() -> None:
    truth = np.array([[0, 0, 1, VOID]], np.uint8)
    guess = np.array([[0, VOID, 1, 1]], np.uint8)
    counts = pixel_counts(truth, guess, 2)
    assert counts["intersection"].tolist() == [1, 1]
    assert counts["predicted"].tolist() == [1, 1]  # the last pixel does not count
    assert counts["labelled"].tolist() == [2, 1]
    assert (counts["missed"], counts["pixels"]) == (1, 3)


def test_the_miou_is_not_the_mean_over_images() -> None:
    truth = np.array([[[0, 0, 0, 1]], [[1, 1, 1, 1]]], np.uint8)
    guess = np.array([[[0, 0, 0, 0]], [[1, 1, 1, 1]]], np.uint8)
    columns = columns_of(truth, guess)
    np.testing.assert_allclose(image_iou(columns), [0.75 / 2, 1.0])
    assert segmentation_metrics(columns)["miou"].value == pytest.approx((3 / 4 + 4 / 5) / 2)


def test_images_without_a_pixel_that_counts_have_no_iou_and_no_weight() -> None:
    truth, guess = maps(0, n=5)
    truth[2] = VOID
    columns = columns_of(truth, guess)
    assert np.isnan(image_iou(columns)).tolist() == [False, False, True, False, False]
    kept = columns_of(np.delete(truth, 2, 0), np.delete(guess, 2, 0))
    assert segmentation_metrics(columns) == segmentation_metrics(kept)


def test_intervals_are_a_bootstrap_over_images() -> None:
    truth, guess = maps(1, n=30)
    truth[1:][truth[1:] == 5] = 0  # class 5 is true in one image, and predicted in no other
    guess[1:][guess[1:] == 5] = 1
    columns = columns_of(truth, guess)
    metric = segmentation_metrics(columns)["miou"]
    whole = brute_ious(columns, np.arange(30))
    rng, found, absent = np.random.default_rng(0), [], 0
    for _ in range(1000):
        ious = brute_ious(columns, rng.integers(0, 30, 30))
        absent += 5 not in ious
        found.append(np.mean(list((whole | ious).values())))
    low, high = np.quantile(found, [0.025, 0.975])
    assert 5 in whole
    assert absent > 200
    assert (metric.low, metric.high) == (pytest.approx(low), pytest.approx(high))
    assert low < metric.value < high
    assert metric.n == 30


def brute_ious(columns: dict[str, Any], images: np.ndarray) -> dict[int, float]:
    found = {}
    for c in range(CLASSES):
        both = sum(int(columns["intersection"][i, c]) for i in images)
        sides = sum(int(columns["predicted"][i, c] + columns["labelled"][i, c]) for i in images)
        if sides:
            found[c] = both / (sides - both)
    return found
