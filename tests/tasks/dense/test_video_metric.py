"""J and F of DAVIS: the official code's numbers, and a reference that measures every distance."""

import math
import os
from pathlib import Path

import numpy as np
import pytest

from bench.label_maps import read_label_map
from tasks.video_metric import (
    contour,
    contour_accuracy,
    frame_scores,
    region_similarity,
    statistics,
)

ROOT = Path(
    os.environ.get("SSLBENCH_REAL_DATA", Path(__file__).resolve().parents[3] / "../shared/data")
)
SHAPE = (480, 854)


def box(top: int, bottom: int, left: int, right: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """A mask of the rows and columns in between, both ends included."""
    mask = np.zeros(shape, dtype=bool)
    mask[top : bottom + 1, left : right + 1] = True
    return mask


def disc(y: int, x: int, radius: float, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


TRUTH = box(100, 219, 200, 359)


# goldens: the official metrics.py and utils.py at commit ac7c43f, run on these masks


@pytest.mark.parametrize(
    ("mask", "truth", "j", "f"),
    [
        (box(104, 223, 204, 363), TRUTH, 0.891253, 1.0),
        (box(112, 231, 212, 371), TRUTH, 0.713062, 0.060714),
        (box(90, 229, 190, 369), TRUTH, 0.761905, 0.0),
        (np.zeros(SHAPE, dtype=bool), TRUTH, 0.0, 0.0),
        (disc(160, 280, 70), TRUTH, 0.714165, 0.302857),
        (box(0, 99, 5, 104), box(0, 99, 0, 99), 0.904762, 0.820513),
    ],
)
def test_masks_score_as_in_the_official_code(
    mask: np.ndarray, truth: np.ndarray, j: float, f: float
) -> None:
    assert round(region_similarity(mask, truth), 6) == j
    assert round(contour_accuracy(mask, truth), 6) == f


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], (0.55, 0.5, 0.7)),
        ([0.2, 0.6, 0.9], (0.566667, 0.666667, -0.5)),
    ],
)
def test_statistics_are_those_of_the_official_code(
    values: list[float], expected: tuple[float, ...]
) -> None:
    assert tuple(round(value, 6) for value in statistics(values)) == expected


#: Mean, recall and decay of J, then of F: evaluation.py at the same commit, on the four sequences
#: of the data that tests may use and OSVOS's results for them, which come with the official code.
OSVOS = {
    "blackswan": (0.944643437, 1, 0.004470669, 0.977779299, 1, 0.003511781),
    "car-shadow": (0.962256863, 1, 0.0073407, 0.962821436, 1, 0.031871956),
    "libby": (0.810955819, 0.944444444, -0.053756791, 0.886408809, 1, -0.008547827),
    "drift-chicane": (0.708452, 1, 0.184189589, 0.773448414, 1, 0.140822688),
}


@pytest.mark.parametrize("year", ["Annotations", "Annotations_2016"])
@pytest.mark.parametrize("sequence", OSVOS)
def test_real_results_score_as_in_the_official_evaluator(sequence: str, year: str) -> None:
    found, annotated = (
        sorted((ROOT / "DAVIS" / folder / sequence).glob("*.png"))
        for folder in ("results/semi-supervised/osvos", f"{year}/480p")
    )
    if not found or not annotated:
        pytest.skip(f"no DAVIS with results in {ROOT}: set SSLBENCH_REAL_DATA")
    scores = []
    for one, other in zip(found[1:-1], annotated[1:-1], strict=True):
        truth = np.minimum(read_label_map(other), 1)  # in 2016 the foreground is 255
        scores.append(np.concatenate(frame_scores(read_label_map(one), truth, [1])))
    j, f = np.array(scores).T  # (t,) each
    assert [*statistics(j), *statistics(f)] == pytest.approx(OSVOS[sequence], abs=1e-6)


# reference


def brute_contour(mask: np.ndarray) -> list[tuple[int, int]]:
    """Pixel by pixel, as the paper's code defines it."""
    height, width = mask.shape
    found = []
    for y in range(height):
        for x in range(width):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            inside = [(i, j) for i, j in neighbours if i < height and j < width]
            if any(mask[i, j] != mask[y, x] for i, j in inside):
                found.append((y, x))
    return found


def brute_f(mask: np.ndarray, truth: np.ndarray) -> float:
    """Every distance between two contours, in float64."""
    radius = math.ceil(0.008 * math.hypot(*mask.shape))
    ours, theirs = (
        np.array(brute_contour(m), dtype=np.float64).reshape(-1, 2) for m in (mask, truth)
    )
    if not len(ours) or not len(theirs):
        return float(len(ours) == len(theirs))
    distance = np.linalg.norm(ours[:, None] - theirs[None], axis=2)  # (n, m)
    precision = float((distance.min(1) <= radius).mean())
    recall = float((distance.min(0) <= radius).mean())
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def blobs(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    for _ in range(int(rng.integers(1, 5))):
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        mask |= disc(int(y), int(x), rng.uniform(0, 1 + 0.4 * min(shape)), shape)
    return mask


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (7, 9), (61, 90), (64, 150)])
@pytest.mark.parametrize("seed", range(2))
def test_contour_accuracy_equals_a_measure_of_all_distances(
    shape: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    truth = blobs(rng, shape)
    nearby = np.roll(truth, rng.integers(-4, 5, 2), (0, 1))
    for mask in (nearby, blobs(rng, shape), rng.random(shape) < 0.01, ~truth, truth):
        assert set(zip(*np.nonzero(contour(mask)), strict=True)) == set(brute_contour(mask))
        assert contour_accuracy(mask, truth) == pytest.approx(brute_f(mask, truth), abs=1e-12)


def test_contours_match_up_to_the_tolerance_in_all_directions() -> None:
    for away, expected in ((8, 1.0), (9, 0.0)):
        assert contour_accuracy(box(0, 479, 0, 99), box(0, 479, 0, 99 + away)) == expected
    pixel = box(100, 100, 100, 100)  # has a contour of 2 x 2 pixels
    for y, x, expected in ((5, 6, 1.0), (6, 6, 0.75), (-5, -6, 1.0), (6, -6, 0.75), (9, 0, 0.5)):
        other = box(100 + y, 100 + y, 100 + x, 100 + x)
        assert contour_accuracy(pixel, other) == expected, (y, x)


def test_an_empty_truth_is_met_by_an_empty_mask_alone() -> None:
    none, some = np.zeros((20, 30), dtype=bool), box(3, 5, 4, 9, (20, 30))
    for measure in (region_similarity, contour_accuracy):
        assert measure(none, none) == 1
        assert measure(some, none) == 0
        assert measure(none, some) == 0
        assert measure(some, some) == 1


def test_a_mask_of_the_whole_image_has_no_contour() -> None:
    whole = np.ones((20, 30), dtype=bool)
    assert contour_accuracy(whole, whole) == 1
    assert contour_accuracy(whole, box(3, 5, 4, 9, (20, 30))) == 0


# frames and videos


def test_objects_are_scored_apart_and_void_counts_as_background() -> None:
    truth = np.zeros((40, 60), dtype=np.uint8)
    truth[5:15, 5:15], truth[20:35, 30:50], truth[0:3] = 1, 2, 255
    prediction = np.where(truth == 255, 1, truth).astype(np.uint8)
    prediction[truth == 2] = 3
    j, f = frame_scores(prediction, truth, [1, 2, 3, 7])
    assert j.tolist() == [100 / (100 + 3 * 60), 0, 0, 1]
    assert f.tolist() == [contour_accuracy(prediction == 1, truth == 1), 0, 0, 1]
    with pytest.raises(ValueError, match="255 void"):
        frame_scores(prediction, truth, [1, 255])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 18, 102])
def test_decay_is_the_first_quarter_less_the_last(count: int) -> None:
    values = np.random.default_rng(count).random(count)
    edges = [math.floor(1 + quarter * (count - 1) / 4 + 0.5) for quarter in range(5)]  # halves up
    first, last = values[edges[0] - 1 : edges[1]], values[edges[3] - 1 : edges[4]]
    found = statistics(values)
    assert found.decay == pytest.approx(first.mean() - last.mean(), abs=1e-12)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert found.recall == np.mean(values > 0.5)


def test_long_videos_have_their_own_last_quarter() -> None:
    values = np.r_[np.ones(300), np.zeros(300)]
    assert statistics(values).decay == 1
