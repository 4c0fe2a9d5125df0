"""Overlaps of masks and regions counted by patch against pixel by pixel.

    python tests/speed/jaccard.py

The reference enlarges every mask to pixels and multiplies it with every region, as the public
scripts do; here pixels are counted once for each patch, and one product meets all masks and
regions. Both cut the same masks; processor seconds of one thread, in turns, medians; the values
must agree.
"""

import statistics
import time

import numpy as np

from tasks.jaccard import best_ious, kept_cells

# protocol, side in pixels, patch, maps, mass, regions
CASES = (
    ("jacc_dino", 480, 16, 6, 0.6, 2),
    ("jacc_ipvit", 512, 8, 12, 0.9, 2),
    ("jacc_slotmim", 224, 16, 10, 0.99, 2),
    ("instances", 480, 16, 6, 0.6, 12),
)
REPEATS = 9


def by_pixel(masks: np.ndarray, labels: np.ndarray, patch: int) -> np.ndarray:
    """(r,) best overlap of each region, void as background."""
    pixels = masks.repeat(patch, axis=1).repeat(patch, axis=2)  # (n, s, s)
    best = []
    for region in np.unique(labels):
        if region not in (0, 255):
            true = labels == region
            both, either = (pixels & true).sum((1, 2)), (pixels | true).sum((1, 2))
            best.append((both / either).max())
    return np.array(best)


def main() -> None:
    """Prints milliseconds an image of each way, and of cutting the masks."""
    for name, size, patch, maps, mass, regions in CASES:
        rng = np.random.default_rng(0)
        values = rng.random((maps, size // patch, size // patch)) ** 4
        few = np.array([0] * regions + list(range(1, regions + 1)) + [255], np.uint8)
        labels = rng.choice(few, (size // 16, size // 16)).repeat(16, 0).repeat(16, 1)
        masks = kept_cells(values, mass)
        times: dict[str, list[float]] = {"masks": [], "by patch": [], "by pixel": []}
        for _ in range(REPEATS):
            marks = [time.process_time()]
            kept_cells(values, mass)
            marks.append(time.process_time())
            found = best_ious(masks, labels, patch, 0, True)
            marks.append(time.process_time())
            expected = by_pixel(masks, labels, patch)
            marks.append(time.process_time())
            for key, seconds in zip(times, np.diff(marks), strict=True):
                times[key].append(1e3 * float(seconds))
        np.testing.assert_allclose(found, expected, atol=1e-12)
        mid = {key: statistics.median(taken) for key, taken in times.items()}
        told = ", ".join(f"{key} {taken:.2f} ms" for key, taken in mid.items())
        print(f"{name}, {size} px, patch {patch}, {maps} maps, {regions} regions: {told}")
        print(f"  {mid['by pixel'] / mid['by patch']:.1f} times as fast by patch; same values")


if __name__ == "__main__":
    main()
