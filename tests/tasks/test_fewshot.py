"""Few-shot ridge: against the normal equations, a loop that leaves out, and permuted labels."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from bench.errors import SpecError
from bench.records import Outcome
from bench.spec import bind, parse
from bench.task import warnings_of
from bench.values import non_default
from tasks.image.fewshot import DEFAULT_L2, DRAW_STEP, Fewshot, shots_of
from tasks.ridge import Ridge
from tests.tasks.fakes import FakeData, data_of, fake_model, one_hot


def clusters(
    seed: int = 0, n: int = 300, classes: int = 6, width: int = 24, noise: float = 1.5
) -> FakeData:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, width))
    y_train, y_val = np.arange(n) % classes, np.arange(n // 2) % classes
    x_train = centres[y_train] + noise * rng.normal(size=(len(y_train), width))
    x_val = centres[y_val] + noise * rng.normal(size=(len(y_val), width))
    return data_of(x_train, y_train, x_val, y_val)


def run(data: FakeData, **fields: Any) -> Outcome:
    return Fewshot(**fields).run(fake_model(), data)


def by_the_book(x: np.ndarray, y: np.ndarray, test: np.ndarray, classes: int, l2: float) -> Any:
    """Class regressions of `test` from the normal equations of the standardised shots."""
    mean, deviation = x.mean(0), x.std(0) + 1e-5
    design = np.column_stack([(x - mean) / deviation, np.full(len(x), 100.0)])
    targets = np.where(y[:, None] == np.arange(classes), 1.0, -1.0)
    weight = np.linalg.solve(
        design.T @ design + l2 * np.eye(design.shape[1]), design.T @ targets
    )  # (d + 1, c)
    return np.column_stack([(test - mean) / deviation, np.full(len(test), 100.0)]) @ weight


# ---------------------------------------------------------------------- the ridge


@pytest.mark.parametrize("n", [12, 24, 25, 90])  # fewer and more shots than features
@pytest.mark.parametrize("l2", [0.01, 1.0, 2.0**10, 2.0**20])
def test_ridge_equals_the_normal_equations(n: int, l2: float) -> None:
    rng = np.random.default_rng(n)
    x, test, y = rng.normal(size=(n, 24)), rng.normal(size=(200, 24)), np.arange(n) % 5
    scores = by_the_book(x, y, test, 5, l2)
    (found,) = Ridge.fit(x, y, 5).predict(test, (l2,))
    np.testing.assert_array_equal(found, scores.argmax(1))


@pytest.mark.parametrize("n", [12, 24, 25, 90])
@pytest.mark.parametrize("l2", [0.1, 1.0, 2.0**10, 2.0**20])
def test_leaving_one_out_in_closed_form_equals_leaving_each_out(n: int, l2: float) -> None:
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, 24)), np.arange(n) % 5
    mean, deviation = x.mean(0), x.std(0) + 1e-5  # those of all shots, as documented
    design = np.column_stack([(x - mean) / deviation, np.full(n, 100.0)])
    targets = np.where(y[:, None] == np.arange(5), 1.0, -1.0)
    expected = []
    for i in range(n):
        others = np.arange(n) != i
        gram = design[others].T @ design[others] + l2 * np.eye(25)
        expected.append(design[i] @ np.linalg.solve(gram, design[others].T @ targets[others]))
    np.testing.assert_allclose(Ridge.fit(x, y, 5).leave_one_out(l2), expected, atol=1e-7)


@pytest.mark.parametrize("n", [20, 90])  # fewer and more shots than features
def test_many_shots_are_judged_in_chunks_as_at_once(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(n)
    x, y, mask = rng.normal(size=(n, 24)), np.arange(n) % 5, np.arange(n) % 7 > 0
    scores = Ridge.fit(x, y, 5).leave_one_out(2.0)
    signs = np.where(y[:, None] == np.arange(5), 1.0, -1.0)
    monkeypatch.setattr("tasks.ridge.CHUNK", 8)
    ridge = Ridge.fit(x, y, 5)
    np.testing.assert_allclose(ridge.leave_one_out(2.0), scores, atol=1e-9)
    hits, error = ridge.judged(2.0, mask)
    assert hits == (scores.argmax(1) == y)[mask].sum()
    assert error == pytest.approx(((scores - signs)[mask] ** 2).sum())


def test_constant_features_do_no_harm() -> None:
    x = np.random.default_rng(0).normal(size=(20, 6))
    x[:, 2] = 3.0
    ridge = Ridge.fit(x, np.arange(20) % 2, 2)
    assert np.isfinite(ridge.leave_one_out(2.0**-10)).all()
    assert ridge.predict(x, (2.0**-10,)).shape == (1, 20)


def test_chunks_of_test_images_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    data = clusters()
    whole = run(data)
    monkeypatch.setattr("tasks.ridge.CHUNK", 7)
    np.testing.assert_array_equal(whole.columns["prediction"], run(data).columns["prediction"])


# ---------------------------------------------------------------------- the task


def test_one_hot_features_score_one() -> None:
    y = np.arange(120) % 6
    data = data_of(one_hot(y, 6), y, one_hot(y[:60], 6), y[:60])
    for shots in (1, 2, 10):
        metrics = Fewshot().score(run(data, shots=shots))
        assert {metric.value for metric in metrics.values()} == {1.0}
        assert metrics["top1"].n == 60
        assert metrics["top1"].interval == "wilson95"


def test_permuted_labels_score_chance_within_the_interval() -> None:
    data = clusters(n=2000, classes=4, noise=0.5)
    assert Fewshot().score(run(data))["top1"].value > 0.9
    data.train.targets = np.random.default_rng(0).permutation(data.train.targets)
    data.val.targets = np.random.default_rng(1).permutation(data.val.targets)
    metric = Fewshot().score(run(data))["top1"]
    assert metric.low < 0.25 < metric.high


def test_the_task_is_the_ridge_of_the_drawn_rows() -> None:
    data = clusters(noise=2.0)
    outcome = run(data, shots=5)
    rows = shots_of(data.train.ids, data.train.targets, 6, 5, seed=0)
    x, test = (split.values.astype(np.float16).astype(float) for split in (data.train, data.val))
    l2s = outcome.extras["l2"]
    assert l2s.tolist() == [2.0**power for power in range(-10, 21)]
    accuracy = []
    for l2 in l2s:
        scores = by_the_book(x[rows], data.train.targets[rows], test, 6, l2)
        accuracy.append((scores.argmax(1) == data.val.targets).mean())
    np.testing.assert_allclose(outcome.extras["test_accuracy"][0], accuracy)
    metrics = Fewshot().score(outcome)
    assert metrics["best_top1"].value == pytest.approx(max(accuracy))
    chosen = l2s.tolist().index(outcome.extras["reported_l2"][0])
    assert metrics["top1"].value == pytest.approx(accuracy[chosen])
    assert metrics["top1"].value == pytest.approx(outcome.columns["value"].mean())


def test_the_shots_choose_the_strength_and_test_images_have_no_part_in_it() -> None:
    data = clusters(noise=2.0)
    before = run(data, shots=5).extras["reported_l2"]
    data.val = data.val.take(np.arange(10), "val")
    np.testing.assert_array_equal(run(data, shots=5).extras["reported_l2"], before)
    rows = shots_of(data.train.ids, data.train.targets, 6, 5, seed=0)
    x, y = data.train.values.astype(np.float16)[rows], data.train.targets[rows]
    ridge = Ridge.fit(x, y, 6)
    hits = {l2: (ridge.leave_one_out(l2).argmax(1) == y).sum() for l2 in Fewshot().l2s}
    assert hits[float(before[0])] == max(hits.values())
    assert len(set(hits.values())) > 1


def test_of_equally_accurate_strengths_the_one_with_the_smallest_error_is_taken() -> None:
    data = clusters(noise=0.3)
    outcome = run(data, shots=5)
    rows = shots_of(data.train.ids, data.train.targets, 6, 5, seed=0)
    x, y = data.train.values.astype(np.float16)[rows], data.train.targets[rows]
    targets = np.where(np.arange(6) == y[:, None], 1, -1)
    found = [Ridge.fit(x, y, 6).leave_one_out(l2) for l2 in Fewshot().l2s]
    errors = {
        l2: ((scores - targets) ** 2).sum()
        for l2, scores in zip(Fewshot().l2s, found, strict=True)
        if (scores.argmax(1) == y).all()
    }
    assert len(errors) > 5
    assert outcome.extras["reported_l2"][0] == min(errors, key=errors.__getitem__)


def test_selection_on_test_reports_the_best_and_says_so() -> None:
    data = clusters(noise=2.5)
    outcome = run(data, shots=5, selection="test")
    metrics = Fewshot().score(outcome)
    assert metrics["top1"] == metrics["best_top1"]
    assert metrics["top1"].value == pytest.approx(outcome.extras["test_accuracy"].max())
    assert any("selection=test" in text for text in warnings_of(outcome))
    assert not any("selection=test" in text for text in warnings_of(run(data)))


def test_with_one_shot_a_class_big_vision_s_strength_is_taken_with_a_warning() -> None:
    outcome = run(clusters(), shots=1)
    assert outcome.extras["reported_l2"][0] == DEFAULT_L2 == 1024
    assert any("no class has two shots" in text for text in warnings_of(outcome))
    nearest = run(clusters(), shots=1, l2s=(1.0, 500.0, 1e6))
    assert nearest.extras["reported_l2"][0] == 500


def test_a_class_s_only_shot_is_not_judged() -> None:
    data = clusters(noise=2.0)
    keep = np.flatnonzero((data.train.targets != 5) | (np.arange(300) == 5))
    data.train = data.train.take(keep, "train")
    outcome = run(data, shots=8)
    notes = warnings_of(outcome)
    assert any("1 of 6 classes have fewer than 8 training images" in text for text in notes)
    assert not any("no class has two" in text for text in notes)
    rows = shots_of(data.train.ids, data.train.targets, 6, 8, seed=0)
    x, y = data.train.values.astype(np.float16)[rows], data.train.targets[rows]
    judged = y != 5
    ranked = []
    for l2 in Fewshot().l2s:
        scores = Ridge.fit(x, y, 6).leave_one_out(l2)[judged]
        error = ((scores - np.where(np.arange(6) == y[judged][:, None], 1, -1)) ** 2).sum()
        ranked.append((-(scores.argmax(1) == y[judged]).sum(), error, l2))
    assert outcome.extras["reported_l2"][0] == min(ranked)[-1]


def test_classes_without_training_images_are_never_predicted() -> None:
    data = clusters()
    data.train = data.train.take(np.flatnonzero(data.train.targets != 3), "train")
    outcome = run(data)
    assert 3 not in outcome.columns["prediction"]
    assert any("the least 0" in text for text in warnings_of(outcome))


def test_a_set_of_one_class_is_always_right() -> None:
    y = np.zeros(30, dtype=np.int64)
    rng = np.random.default_rng(0)
    data = data_of(rng.normal(size=(30, 4)), y, rng.normal(size=(20, 4)), y[:20])
    assert Fewshot().score(run(data))["top1"].value == 1.0


# ---------------------------------------------------------------------- draws


def test_draws_take_so_many_of_each_class_and_are_nested() -> None:
    targets = np.random.default_rng(0).integers(0, 7, 400)
    ids = [f"image{i}" for i in range(400)]
    ten, five = (set(shots_of(ids, targets, 7, shots, seed=3)) for shots in (10, 5))
    assert np.bincount(targets[list(ten)]).tolist() == [10] * 7
    assert five < ten
    assert ten != set(shots_of(ids, targets, 7, 10, seed=4))


def test_a_draw_does_not_depend_on_the_order_of_the_images() -> None:
    data = clusters(noise=2.0)
    forward = run(data)
    order = np.random.default_rng(0).permutation(len(data.train))
    data.train = data.train.take(order, "train")
    data.val = data.val.take(np.arange(len(data.val))[::-1], "val")
    backward = run(data)
    for name, column in forward.columns.items():
        np.testing.assert_array_equal(column, backward.columns[name][::-1])


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_shots(tmp_path: Any) -> None:
    data = clusters(noise=2.0)
    for name in ("first", "again"):
        run(data).save(tmp_path / f"{name}.npz")
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
    data.seed = 1
    assert not np.array_equal(
        run(data).extras["test_accuracy"],
        Outcome.load(tmp_path / "first.npz").extras["test_accuracy"],
    )


def test_several_draws_are_averaged_and_their_spread_is_told(tmp_path: Any) -> None:
    data = clusters(noise=2.5)
    outcome = run(data, shots=3, draws=4)
    metrics = Fewshot().score(outcome)
    alone = []
    for draw in range(4):
        data.seed = draw * DRAW_STEP
        alone.append(Fewshot().score(run(data, shots=3))["top1"].value)
    assert metrics["top1"].value == pytest.approx(np.mean(alone))
    assert metrics["top1"].interval == "bootstrap95"
    assert metrics["draw_std"].value == pytest.approx(np.std(alone, ddof=1))
    assert "draw_std" not in Fewshot().score(run(data))
    outcome.save(tmp_path / "outcome.npz")
    assert Fewshot().score(Outcome.load(tmp_path / "outcome.npz")) == metrics


# ---------------------------------------------------------------------- what it reads, and errors


def test_it_announces_the_passes_of_all_of_train_and_val_that_it_reads() -> None:
    data = clusters()
    announced = [found.split.name for found in Fewshot().passes(fake_model(), data)]
    run(data)
    assert announced == data.asked == ["train", "val"]


def test_token_auto_takes_cls_where_there_is_one() -> None:
    data = clusters()
    assert run(data).extras["token"] == "cls"
    assert Fewshot().run(fake_model(has_cls=False), data).extras["token"] == "avg"


@pytest.mark.parametrize("fields", [{"shots": 0}, {"draws": 0}, {"l2s": ()}, {"l2s": (1.0, 0.0)}])
def test_wrong_fields_are_refused_with_advice(fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="fewshot: "):
        Fewshot(**fields)


def test_fields_bind_from_a_spec_and_identity_holds_what_differs() -> None:
    spec = parse("fewshot@x?shots=5&l2s=1:1024&selection=test&draws=3&token=avg")
    task = bind(Fewshot, dict(spec.options))
    assert non_default(task) == {
        "shots": 5,
        "l2s": [1.0, 1024.0],
        "selection": "test",
        "draws": 3,
        "token": "avg",
    }
    assert dataclasses.replace(Fewshot(), shots=5) == Fewshot(shots=5)
