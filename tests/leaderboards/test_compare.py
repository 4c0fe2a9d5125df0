"""Two models compared: the right test on the same samples, and all that is told of it."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from bench import cli
from bench.dataset import open_split
from bench.errors import DataError, SpecError, StoreError
from bench.paired_stats import detectable_rate, mcnemar_mid, tango
from bench.records import Metric, Outcome, Result
from bench.resampling import studentised
from bench.store import Store
from leaderboards.compare import Comparison, compare
from leaderboards.compare_formats import FORMATS, render
from leaderboards.differing import write
from leaderboards.pixel_sums import Contrast, MeanIoU

Make = Callable[..., Result]
Put = Callable[..., Store]

RNG = np.random.default_rng(0)
HITS_A = np.repeat([1.0, 1.0, 0.0, 0.0], [90, 30, 12, 68])  # A alone has 30 right, B 12
HITS_B = np.repeat([1.0, 0.0, 1.0, 0.0], [90, 30, 12, 68])


def ids(count: int) -> np.ndarray:
    return np.array([f"val/{index:05d}.jpg" for index in range(count)])


@pytest.fixture
def put(tmp_path: Path, result: Make) -> Put:
    """Writes a cell whose headline is the mean of the values, unless a score is given."""
    store = Store(tmp_path / "results")

    def cell(
        model: str,
        values: np.ndarray,
        spec: str = "knn@imagenet1k",
        *,
        score: float | None = None,
        columns: dict[str, np.ndarray] | None = None,
        extras: dict[str, np.ndarray] | None = None,
        **others: Any,
    ) -> Store:
        columns = {"id": ids(len(values)), "value": values, **(columns or {})}
        score = float(np.nanmean(values)) if score is None else score
        made = {"metric": Metric(score, score - 0.1, score + 0.1, len(values)), **others}
        store.write(result(model, score, spec=spec, **made), Outcome(columns, extras or {}))
        return store

    return cell


@pytest.fixture
def hits(put: Put) -> Store:
    """A and B with the hits above."""
    put("A", HITS_A)
    return put("B", HITS_B)


# the test that fits


def test_hits_are_compared_by_mcnemar(hits: Store) -> None:
    (line,) = compare(hits, "A", "B").lines
    assert (line.first, line.second) == (0.6, 0.51)
    assert (line.gain.method, line.gain.n, line.gain.discordant) == ("mcnemar", 200, (30, 12))
    assert line.gain.value == pytest.approx(0.09)
    assert (line.gain.low, line.gain.high) == tango(30, 12, 200)
    assert line.gain.p == line.adjusted_p == mcnemar_mid(30, 12)
    assert line.gain.exact_p == pytest.approx(mcnemar([[90, 30], [12, 68]], exact=True).pvalue)
    assert line.detectable == detectable_rate(42, 200)
    assert (line.verdict, line.notes, line.spread) == ("A", (), None)


def test_who_is_named_first_only_turns_the_signs(hits: Store) -> None:
    one, other = (compare(hits, *names).lines[0] for names in (("A", "B"), ("B", "A")))
    assert other.gain.value == -one.gain.value
    assert (other.gain.low, other.gain.high) == pytest.approx((-one.gain.high, -one.gain.low))
    assert (other.gain.p, other.verdict) == (one.gain.p, "B")


def test_samples_are_matched_by_id_in_any_order(put: Put, hits: Store) -> None:
    order = np.random.default_rng(1).permutation(200)
    store = put("shuffled", HITS_B[order], columns={"id": ids(200)[order]})
    assert compare(store, "A", "shuffled").lines[0].gain == compare(hits, "A", "B").lines[0].gain


def test_graded_scores_are_compared_sample_by_sample(put: Put) -> None:
    rng = np.random.default_rng(2)
    shared = rng.random(80)
    first, second = np.clip(shared + 0.03 * rng.standard_normal((2, 80)), 0, 1)
    put("A", first, "retrieval@roxford5k", headline="map_medium")
    store = put("B", second, "retrieval@roxford5k", headline="map_medium")
    gain = compare(store, "A", "B").lines[0].gain
    student = stats.ttest_rel(first, second)
    assert (gain.method, gain.n, gain.exact_p) == ("bootstrap-t", 80, None)
    assert gain.p == pytest.approx(student.pvalue, abs=0.02)
    interval = student.confidence_interval(0.95)
    assert (gain.low, gain.high) == pytest.approx((interval.low, interval.high), abs=0.002)
    # unpaired, 80 uniform scores would be known to about 0.09
    assert gain.high - gain.low < 0.03


def test_a_smaller_error_is_the_better_one(put: Put) -> None:
    rng = np.random.default_rng(3)
    errors = rng.random(60)
    put("A", errors, "depth@nyu", headline="rmse")
    store = put("B", errors + 0.1 + 0.02 * rng.random(60), "depth@nyu", headline="rmse")
    (line,) = compare(store, "A", "B").lines
    assert line.first < line.second
    assert line.gain.value == pytest.approx(line.second - line.first)
    assert 0 < (line.gain.low or 0) < line.gain.value < (line.gain.high or 0)
    assert line.verdict == "A"
    assert line.seeds[0][1] == pytest.approx(line.gain.value)


def test_samples_without_a_value_do_not_count(put: Put, hits: Store) -> None:
    def padded(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values, np.full(50, np.nan)])

    put("A+", padded(HITS_A))
    store = put("B+", padded(HITS_B))
    assert compare(store, "A+", "B+").lines[0].gain == compare(hits, "A", "B").lines[0].gain


def test_a_headline_that_samples_do_not_tell_is_compared_by_its_intervals(put: Put) -> None:
    put("A", RNG.random(50), "detection@coco", score=0.5, headline="ap_box")
    store = put("B", RNG.random(50), "detection@coco", score=0.2, headline="ap_box")
    (line,) = compare(store, "A", "B").lines
    assert line.gain.method == "unpaired"
    assert line.gain.value == pytest.approx(0.3)
    half = np.hypot(0.1, 0.1)  # both intervals are 0.1 to each side
    assert (line.gain.low, line.gain.high) == pytest.approx((0.3 - half, 0.3 + half))
    assert line.verdict == "A"
    assert "not paired" in line.notes[0]


def test_scores_without_intervals_are_told_but_not_tested(put: Put) -> None:
    for name, score in (("A", 0.5), ("B", 0.2)):
        store = put(name, RNG.random(9), "odd@coco", score=score, metric=Metric(score))
    (line,) = compare(store, "A", "B").lines
    assert line.gain.value == pytest.approx(0.3)
    assert (line.gain.p, line.adjusted_p, line.verdict) == (None, None, "unknown")
    assert "no test" in line.notes[0]
    assert "not tested" in render(compare(store, "A", "B"))


# mIoU


def pixels(seed: int, shift: float = 0.0, images: int = 40, classes: int = 5) -> dict[str, Any]:
    """Counts of pixels of images; a larger shift finds more of them."""
    shared, own = np.random.default_rng(7), np.random.default_rng(seed)
    labelled = shared.multinomial(400, shared.dirichlet(np.full(classes, 0.4), images))
    share = np.clip(shared.beta(4, 3, (images, 1)) + shift, 0, 1)
    hit = own.binomial(labelled, share)
    missed = (labelled - hit).sum(axis=1)
    extra = np.stack([own.multinomial(count, np.full(classes, 1 / classes)) for count in missed])
    return {"intersection": hit, "predicted": hit + extra, "labelled": labelled}


def miou(columns: dict[str, Any]) -> float:
    hit, predicted, labelled = (columns[name].sum(axis=0) for name in columns)
    return float(np.mean(hit / (predicted + labelled - hit)))


def test_miou_is_compared_image_by_image(put: Put) -> None:
    for name, found in (("A", pixels(1, 0.05)), ("B", pixels(2))):
        value = np.random.default_rng(0).random(40)
        store = put(name, value, "segknn@ade20k", score=miou(found), columns=found, headline="miou")
    gain = compare(store, "A", "B").lines[0].gain
    one, other = pixels(1, 0.05), pixels(2)
    assert gain.value == pytest.approx(miou(one) - miou(other))
    assert (gain.method, gain.n) == ("bootstrap-t", 40)
    # the jackknife of the difference, image by image
    left = [
        miou({k: np.delete(v, i, axis=0) for k, v in one.items()})
        - miou({k: np.delete(v, i, axis=0) for k, v in other.items()})
        for i in range(40)
    ]
    error = np.sqrt(39 / 40 * ((np.array(left) - np.mean(left)) ** 2).sum())
    assert gain.error == pytest.approx(error, rel=0.05)


def test_derivatives_of_miou_are_those_of_small_steps() -> None:
    parts = [np.concatenate([*pixels(seed).values()], axis=1).astype(float) for seed in (1, 2)]
    statistic = Contrast([MeanIoU.of(part) for part in parts])
    total = np.concatenate(parts, axis=1).sum(axis=0)
    steps = np.diag(1e-3 * total)
    slopes = (statistic.value(total + steps) - statistic.value(total - steps)) / (2e-3 * total)
    assert statistic.gradient(total) == pytest.approx(slopes, rel=1e-4, abs=1e-9)


def test_a_class_that_was_not_drawn_keeps_its_value_in_all_images() -> None:
    rows = np.concatenate([*pixels(1, classes=3).values()], axis=1).astype(float)
    rows[1:, [2, 5, 8]] = 0  # the last class is in the first image only
    statistic = MeanIoU.of(rows)
    drawn = rows[1:].sum(axis=0)
    mean = float(statistic.value(drawn))
    assert mean == pytest.approx((2 * MeanIoU.of(rows[1:]).value(drawn) + statistic.whole[2]) / 3)
    assert statistic.gradient(drawn)[[2, 5, 8]].tolist() == [0, 0, 0]


def test_interval_of_a_difference_of_mious_covers_the_truth() -> None:
    images = 20_000
    parts = [
        np.concatenate([*pixels(seed, shift, images).values()], axis=1).astype(float)
        for seed, shift in ((1, 0.05), (2, 0.0))
    ]
    everything = np.concatenate(parts, axis=1)

    def contrast(rows: np.ndarray) -> Contrast:
        return Contrast([MeanIoU.of(part) for part in np.split(rows, 2, axis=1)])

    truth = float(contrast(everything).value(everything.sum(axis=0)))
    rng, inside = np.random.default_rng(8), 0
    for trial in range(1000):
        rows = everything[rng.integers(0, images, 40)]
        found = studentised(rows, contrast(rows), seed=trial, resamples=199)
        inside += (found.low or 0) <= truth <= (found.high or 0)
    assert 0.93 <= inside / 1000 <= 0.97  # the simulation's own error is 0.7 points


# samples that are drawn together


def test_objects_of_one_video_are_drawn_together(put: Put) -> None:
    rng = np.random.default_rng(4)
    names = np.array([f"video{video:02d}/{number}" for video in range(15) for number in range(4)])
    base = rng.random(60)
    moved = base + np.repeat(rng.standard_normal(15) * 0.1, 4)  # a video's objects move together
    for name, values in (("A", moved), ("B", base)):
        put(name, values, "davis@davis2017", columns={"id": names}, headline="jf_mean")
        store = put(name, values, "other@davis2017", columns={"id": names}, headline="jf_mean")
    together, alone = compare(store, "A", "B").lines
    assert (together.column.task, together.gain.n, together.gain.groups) == ("davis", 60, 15)
    assert (alone.gain.n, alone.gain.groups) == (60, 0)
    assert together.gain.value == pytest.approx(alone.gain.value)
    assert together.gain.error == pytest.approx(2 * alone.gain.error, rel=0.1)
    assert "in 15 groups" in together.notes[0]


def test_a_column_may_say_which_samples_are_drawn_together(put: Put) -> None:
    group = {"group": np.repeat(np.arange(20), 10)}
    put("A", HITS_A, columns=group)
    gain = compare(put("B", HITS_B, columns=group), "A", "B").lines[0].gain
    assert (gain.groups, gain.method, gain.discordant) == (20, "t", None)


# what cannot be compared


def test_other_samples_are_refused_with_their_counts(put: Put, hits: Store) -> None:
    store = put("fewer", HITS_B[:150])
    found = compare(store, "A", "fewer")
    assert not found.lines
    ((task, why),) = found.refused
    assert task == "knn@imagenet1k"
    assert "A has 200 and B 150, of which 150 are the same" in why


def test_other_targets_are_refused(put: Put) -> None:
    put("A", HITS_A, columns={"target": np.zeros(200, int)})
    store = put("B", HITS_B, columns={"target": np.arange(200) // 199})
    assert "labels were changed" in compare(store, "A", "B").refused[0][1]


def test_other_samples_that_count_are_refused(put: Put, hits: Store) -> None:
    store = put("B?", np.where(np.arange(200) < 3, np.nan, HITS_B))
    assert "197 in one and 200" in compare(store, "A", "B?").refused[0][1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 2}, "other versions of the task: A 1, B 2"),
        ({"manifest": "ab" * 32}, "other data"),
        ({"fields": {"k": 10}}, 'other protocols: A {}, B {"k": 10}'),
    ],
)
def test_what_was_not_measured_alike_is_not_compared(
    change: dict[str, Any], why: str, put: Put, hits: Store
) -> None:
    store = put("other", HITS_B, **change)
    found = compare(store, "A", "other")
    assert not found.lines
    assert why in found.refused[0][1]
    assert found.alone == ((), ())


def test_a_damaged_outcome_is_named_and_the_rest_compared(put: Put, hits: Store) -> None:
    put("A", HITS_A, "linear@imagenet1k")
    store = put("B", HITS_B, "linear@imagenet1k")
    damaged = next(store.root.glob("B/linear/*/outcome.npz"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    found = compare(store, "A", "B")
    assert [line.column.task for line in found.lines] == ["knn"]
    assert "outcome.npz cannot be read" in found.refused[0][1]
    assert found.problems


# several tasks


def test_p_values_are_corrected_over_the_tasks(put: Put) -> None:
    plain = []
    for task, only in (("knn", (30, 12)), ("linear", (25, 14)), ("fewshot", (15, 14))):
        same = 100
        for name, mine in (("A", (1.0, 0.0)), ("B", (0.0, 1.0))):
            values = np.repeat([1.0, *mine], [same, *only])
            store = put(name, values, f"{task}@imagenet1k")
        plain.append(mcnemar_mid(*only))
    lines = {line.column.task: line for line in compare(store, "A", "B").lines}
    adjusted = multipletests(plain, method="holm")[1]
    for task, p in zip(("knn", "linear", "fewshot"), adjusted, strict=True):
        assert lines[task].adjusted_p == pytest.approx(p)
        assert lines[task].verdict == ("A" if p <= 0.05 else "none")
    assert lines["knn"].detectable == detectable_rate(42, 142, 0.05 / 3)
    only_knn = compare(store, "A", "B", ["knn"]).lines
    assert [line.adjusted_p for line in only_knn] == [pytest.approx(plain[0])]


def test_tasks_of_one_model_alone_are_named(put: Put, hits: Store) -> None:
    put("A", HITS_A, "linear@imagenet1k")
    store = put("B", HITS_A, "fewshot@imagenet1k")
    found = compare(store, "A", "B")
    assert found.alone == (("linear@imagenet1k",), ("fewshot@imagenet1k",))
    assert "only A has linear@imagenet1k" in render(found)


def test_a_choice_on_the_test_data_is_told(put: Put, hits: Store) -> None:
    store = put("best", HITS_B, warnings=("selection=test: chosen on the test split",))
    assert compare(store, "A", "best").lines[0].notes == (
        "B was chosen on the data that it is scored on",
    )


# seeds


def seeded(put: Put, model: str, seeds: range, shift: float = 0.0) -> Store:
    """A model with several seeds of the training, told by the names or (`spec`) by the specs."""
    for seed in seeds:
        draw = np.random.default_rng(100 + seed).random(400)
        values = (draw < 0.5 + shift + 0.02 * seed).astype(float)
        trained: dict[str, Any] = {"seed": seed}
        if model == "spec":
            trained["spec"] = f"simclr@imagenet1k?epochs=7&seed={seed}"
        name = f"{model}-seed{seed}" if model != "spec" else f"simclr-{seed:08x}"
        store = put(name, values, pretrain=trained)
    return store


def test_equal_seeds_are_paired_and_their_spread_told(put: Put) -> None:
    seeded(put, "mae", range(3))
    store = seeded(put, "dino", range(1, 4), 0.1)
    (line,) = compare(store, "dino", "mae").lines
    assert [label for label, _ in line.seeds] == ["1", "2"]
    gains = [gain for _, gain in line.seeds]
    assert line.gain.value == pytest.approx(np.mean(gains))
    assert line.spread is not None
    assert line.spread.std == pytest.approx(np.std(gains, ddof=1))
    assert line.gain.n == 400  # not 800: the seeds share the samples
    assert (line.gain.method, line.verdict) == ("bootstrap-t", "A")
    assert "seeds +" in render(compare(store, "dino", "mae"))


def test_a_model_without_seeds_goes_with_each_seed(put: Put) -> None:
    seeded(put, "mae", range(3))
    store = put("timm-vit", HITS_A.repeat(2), pretrain={"dataset": None})
    (line,) = compare(store, "timm-vit", "mae").lines
    assert [label for label, _ in line.seeds] == ["0", "1", "2"]


def test_two_seeds_of_one_model_can_be_compared(put: Put) -> None:
    store = seeded(put, "mae", range(2))
    found = compare(store, "mae-seed0", "mae-seed1")
    assert (found.first, found.second) == ("mae-seed0", "mae-seed1")
    assert [label for label, _ in found.lines[0].seeds] == ["0/1"]


def test_models_without_a_seed_in_common_are_refused(put: Put) -> None:
    seeded(put, "mae", range(2))
    store = seeded(put, "dino", range(2, 4))
    ((_, why),) = compare(store, "dino", "mae").refused
    assert why == "no seed in common: A has 2, 3 and B has 0, 1"


def test_seeds_of_the_evaluation_are_paired_too(put: Put) -> None:
    for name in "AB":
        for seed in range(2):
            store = put(name, np.random.default_rng(seed).random(30), seed=seed)
    labels = [label for label, _ in compare(store, "A", "B").lines[0].seeds]
    assert labels == ["0", "0 (eval 1)"]


def test_runs_are_found_by_the_spec_that_trained_them(put: Put, hits: Store) -> None:
    store = seeded(put, "spec", range(2))
    found = compare(store, "simclr@imagenet1k?epochs=7", "A")
    assert found.first == "simclr@imagenet1k?epochs=7"
    assert found.refused[0][1].startswith("not the same samples: A has 400 and B 200")
    one = compare(store, "simclr@imagenet1k?epochs=7&seed=1", "A")
    assert one.first == "simclr-00000001"


def test_a_verdict_that_seeds_alone_might_make_says_so(put: Put) -> None:
    rng = np.random.default_rng(5)
    base = rng.random(2000)
    for seed, shift in ((0, 0.002), (1, 0.4)):
        put(f"A-seed{seed}", base + shift + 0.01 * rng.random(2000), "x@y", pretrain={"seed": seed})
        store = put(f"B-seed{seed}", base, "x@y", pretrain={"seed": seed})
    found = compare(store, "A", "B")
    assert found.lines[0].verdict == "A"
    assert "seeds alone might make this difference" in render(found)


# which models


def test_models_are_named_as_elsewhere(hits: Store) -> None:
    assert compare(hits, "runs/A", "elsewhere/B/checkpoint").second == "B"
    with pytest.raises(StoreError, match=r"no model 'C'.*valid: A, B"):
        compare(hits, "A", "C")
    with pytest.raises(SpecError, match="both A"):
        compare(hits, "A", "runs/A")
    with pytest.raises(StoreError, match=r"no task 'knm'.*did you mean 'knn'"):
        compare(hits, "A", "B", ["knm"])


def test_a_name_that_fits_several_models_is_refused(put: Put, hits: Store) -> None:
    put("simclr", HITS_A)
    store = put("simsiam", HITS_A)
    with pytest.raises(StoreError, match="'sim' is several models, name one of simclr, simsiam"):
        compare(store, "sim", "A")


def test_an_empty_store_says_how_to_fill_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="sslbench eval"):
        compare(Store(tmp_path), "A", "B")


# formats


def strange(put: Put) -> Comparison:
    put("<b>50% & $x_1$|`\x1b[2J", HITS_A)
    return compare(put("B", HITS_B), "<b>50%", "B")


def test_names_are_escaped_in_every_format(put: Put) -> None:
    found = strange(put)
    markdown, latex = render(found, "md"), render(found, "latex")
    assert "\x1b" not in render(found)
    assert "<b>" not in markdown
    assert r"\|\`" in markdown
    assert r"\textless{}b\textgreater{}50\% \& \$x\_1\$" in latex
    assert next(csv.DictReader(io.StringIO(render(found, "csv"))))["A_name"] == found.first


def test_numbers_are_printed_for_people_and_kept_for_machines(hits: Store) -> None:
    found = compare(hits, "A", "B")
    p, exact = mcnemar_mid(30, 12), mcnemar([[90, 30], [12, 68]], exact=True).pvalue
    low, high = tango(30, 12, 200)
    text = render(found)
    words = ["60.0", "51.0", f"+9.0 [+{low * 100:.1f}, +{high * 100:.1f}]", "A better"]
    words += [f"{p:.4f}", f"{exact:.4f}", "McNemar", "4 of 5 cases"]
    assert all(word in text for word in words)
    row = next(csv.DictReader(io.StringIO(render(found, "csv"))))
    assert [float(row[name]) for name in ("gain", "p", "exact_p", "low")] == pytest.approx(
        [0.09, p, exact, low], rel=1e-15
    )
    assert json.loads(json.dumps(found.to_json()))["tasks"][0]["only_A_right"] == 30


def test_a_table_that_is_too_wide_is_printed_in_two(hits: Store) -> None:
    found = compare(hits, "A", "B")
    table = render(found, "text", 90).split("\n\n")
    assert table[1].startswith("task ")
    assert table[2].startswith("task ")
    assert max(map(len, "\n".join(table[1:3]).splitlines())) <= 90
    with pytest.raises(SpecError, match="--format tex: did you mean 'text'"):
        render(found, "tex")


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_tells_what_could_not_be_compared(form: str, put: Put, hits: Store) -> None:
    found = compare(put("fewer", HITS_B[:150]), "A", "fewer")
    assert "of which 150" in render(found, form)


# samples


def test_samples_that_differ_are_listed_with_their_classes(put: Put, tmp_path: Path) -> None:
    target = np.arange(200) % 3
    names = {"class_names": np.array(["grass", "fur, brown", "<i>"])}
    for name, values in (("A", HITS_A), ("B", HITS_B)):
        prediction = np.where(values == 1, target, (target + 1) % 3)
        columns = {"target": target, "prediction": prediction}
        store = put(name, values, columns=columns, extras=names)
    (path,) = write(store, "A", "B", "knn", tmp_path / "new" / "list")
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert path == tmp_path / "new" / "list.csv"
    assert [row["better"] for row in rows] == ["A"] * 30 + ["B"] * 12
    assert [row["id"] for row in rows] == ids(200)[90:132].tolist()
    for place, row in zip(range(90, 132), rows, strict=True):
        assert row["target_class"] == names["class_names"][target[place]]
        right, wrong = ("A", "B") if row["better"] == "A" else ("B", "A")
        assert row[f"{right}_prediction"] == row["target"] != row[f"{wrong}_prediction"]
        assert row[f"{wrong}_prediction_class"] == names["class_names"][(target[place] + 1) % 3]
        assert (row[f"{right}_value"], row[f"{wrong}_value"]) == ("1.0", "0.0")


def test_graded_samples_are_listed_by_how_much_they_differ(put: Put, tmp_path: Path) -> None:
    put("A", np.array([0.5, 0.2, 0.9, 0.4, np.nan]), "depth@nyu", headline="rmse")
    store = put("B", np.array([0.6, 0.8, 0.1, 0.4, np.nan]), "depth@nyu", headline="rmse")
    (path,) = write(store, "A", "B", "depth@nyu", tmp_path / "list")
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [(row["id"][-5], row["better"]) for row in rows] == [("1", "A"), ("0", "A"), ("2", "B")]


def test_a_list_takes_one_cell_of_one_seed_each(put: Put, hits: Store, tmp_path: Path) -> None:
    for name in "AB":
        put(name, HITS_A, "knn@coco", manifest="ab" * 32)
    with pytest.raises(SpecError, match=r"several cells, name one of knn@coco, knn@imagenet1k"):
        write(hits, "A", "B", "knn", tmp_path / "x")
    with pytest.raises(StoreError, match="no cell linear of both models; valid: knn@coco"):
        write(hits, "A", "B", "linear", tmp_path / "x")
    seeded(put, "mae", range(2))
    store = seeded(put, "dino", range(2))
    with pytest.raises(SpecError, match="2 pairs of seeds, name two of dino-seed0"):
        write(store, "dino", "mae", "knn", tmp_path / "x")
    assert not list(tmp_path.glob("x*"))


# the sheet


@pytest.fixture
def pictured(put: Put, mini: Path, result: Make) -> Store:
    """Two models on the mini benchmark's held-out images."""
    split = open_split("mini_objects", "val", mini)
    count = len(split)
    rng = np.random.default_rng(6)
    for name in "AB":
        hit = rng.random(count) < 0.5
        prediction = np.where(hit, split.targets, (split.targets + 1) % len(split.classes))
        columns = {"id": np.array(split.ids), "target": split.targets, "prediction": prediction}
        dataset = {"manifests": {"val": split.manifest}}
        extras = {"class_names": np.array(split.classes)}
        store = put(
            name,
            hit.astype(float),
            "knn@mini_objects",
            columns=columns,
            extras=extras,
            dataset=dataset,
        )
    return store


def test_the_sheet_shows_the_pictures_of_both_halves(
    pictured: Store, mini: Path, tmp_path: Path
) -> None:
    path, sheet = write(pictured, "A", "B", "knn", tmp_path / "sheet", mini)
    assert (path.suffix, sheet.suffix) == (".csv", ".png")
    with Image.open(sheet) as page:
        drawn = np.asarray(page.convert("RGB"), dtype=float)
    # pictures are coloured, and letters are few: much of the page is neither white nor grey
    assert (np.ptp(drawn, axis=2) > 20).mean() > 0.1
    again = write(pictured, "A", "B", "knn", tmp_path / "again", mini)[1]
    assert again.read_bytes() == sheet.read_bytes()


def test_file_names_that_are_no_utf8_are_drawn(put: Put, mini: Path, tmp_path: Path) -> None:
    folder, name = tmp_path / "photos", b"\xff$.png"
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        Image.new("RGB", (8, 8), "red").save(folder / split / "a.png")
        os.rename(folder / split / "a.png", os.fsencode(folder / split) + b"/" + name)
    for model, value in (("A", 1.0), ("B", 0.0)):
        store = put(
            *(model, np.array([value]), f"knn@folder[path={folder}]"),
            columns={"id": np.array([os.fsdecode(name)])},
            metric=Metric(value),
            dataset={},
        )
    path, sheet = write(store, "A", "B", "knn", tmp_path / "sheet", mini)
    assert os.fsencode(name) in path.read_bytes()
    with Image.open(sheet) as drawn:
        assert (np.asarray(drawn.convert("RGB")) == (255, 0, 0)).all(axis=2).any()


def test_pictures_of_other_data_are_refused(
    pictured: Store, put: Put, mini: Path, tmp_path: Path
) -> None:
    for name in "CD":
        values = np.random.default_rng(ord(name)).integers(0, 2, 50).astype(float)
        store = put(name, values, "knn@mini_objects")
    with pytest.raises(DataError, match="no split with the samples"):
        write(store, "C", "D", "knn", tmp_path / "sheet", mini)
    for name in "EF":
        hits = np.random.default_rng(ord(name)).integers(0, 2, 3).astype(float)
        own = {"id": np.array(open_split("mini_objects", "val", mini).ids[:3])}
        changed = {"manifests": {"val": "0" * 64}}
        store = put(name, hits, "knn@mini_objects", columns=own, dataset=changed)
    with pytest.raises(DataError, match="not what was evaluated"):
        write(store, "E", "F", "knn", tmp_path / "sheet", mini)
    assert not list(tmp_path.glob("sheet*"))


# the command


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sslbench", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0), *capsys.readouterr()

    return run


Call = Callable[..., tuple[int, str, str]]


def test_the_command_prints_the_comparison(call: Call, hits: Store, tmp_path: Path) -> None:
    where = ("--results", hits.root)
    code, out, _ = call("A", "B", *where)
    assert (code, "A better" in out) == (0, True)
    code, out, _ = call("A", "B", *where, "--json", "--differ", "knn", "--out", tmp_path / "d")
    values = json.loads(out)
    assert (code, values["tasks"][0]["verdict"]) == (0, "A")
    assert values["files"] == [str(tmp_path / "d.csv")]
    code, out, err = call("A", "B", *where, "--differ", "knn", "--out", tmp_path / "d")
    assert (code, "exists" in err) == (2, True)


def test_exit_status_says_what_went_wrong(call: Call, put: Put, hits: Store) -> None:
    where = ("--results", hits.root)
    put("C", HITS_A, "linear@imagenet1k")
    code, out, _ = call("A", "C", *where)
    assert (code, "only C" in out or "only B has linear" in out) == (1, True)
    code, _, err = call("A", "D", *where)
    assert (code, "no model 'D'" in err) == (2, True)
    assert call("A", "B", *where, "--format", "html")[0] == 2


def test_damaged_results_are_named_and_fail_the_command(call: Call, hits: Store) -> None:
    broken = hits.root / "B" / "knn" / ("0" * 20)
    broken.mkdir()
    (broken / "result.json").write_text("{")
    code, out, _ = call("A", "B", "--results", hits.root)
    assert code == 1
    assert "A better" in out
    assert "not readable: B/knn/00000000000000000000" in out


def test_comparing_and_drawing_need_no_torch(pictured: Store, mini: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from bench.cli import app\n"
        f"arguments = ['compare', 'A', 'B', '--results', {str(pictured.root)!r}, '--differ', 'knn',"
        f" '--data', {str(mini)!r}, '--out', {str(tmp_path / 'd')!r}]\n"
        "app(arguments, standalone_mode=False)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "d.png").stat().st_size > 10_000
