"""Logistic regression: against scikit-learn and the gradient, and how the strength is chosen."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from bench.errors import SpecError
from bench.records import Outcome
from bench.spec import bind, parse
from bench.task import warnings_of
from bench.values import non_default
from tasks import logistic
from tasks.feature_batches import held_out_slice
from tasks.image.semi_logreg import DEFAULT_L2, SemiLogreg, judging_slices
from tasks.logistic import UnitRows, fit_path
from tests.tasks.fakes import FakeData, data_of, fake_model, one_hot


def clusters(
    seed: int = 0, n: int = 300, classes: int = 6, width: int = 16, noise: float = 1.5
) -> FakeData:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, width))
    y_train, y_val = np.arange(n) % classes, np.arange(max(n // 2, classes)) % classes
    x_train = centres[y_train] + noise * rng.normal(size=(len(y_train), width))
    x_val = centres[y_val] + noise * rng.normal(size=(len(y_val), width))
    return data_of(x_train, y_train, x_val, y_val)


def unit(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float16).astype(np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def run(data: FakeData, **fields: Any) -> Outcome:
    return SemiLogreg(**fields).run(fake_model(), data)


# ---------------------------------------------------------------------- the regression


@pytest.mark.parametrize("l2", [1.0, 0.01, 1e-4])
def test_it_equals_scikit_learn(l2: float) -> None:
    data = clusters()
    x, y = data.train.values, data.train.targets
    (fit,) = fit_path(UnitRows(x.astype(np.float16)), y, [l2])
    book = LogisticRegression(C=1 / (l2 * len(y)), fit_intercept=False, tol=1e-9, max_iter=5000)
    book.fit(unit(x), y)
    np.testing.assert_allclose(fit.weight.numpy(), book.coef_, atol=2e-4 * np.abs(book.coef_).max())
    assert fit.converged
    test = UnitRows(data.val.values.astype(np.float16))
    expected = book.predict(unit(data.val.values))
    np.testing.assert_array_equal(fit.scores(test, 6).argmax(1), expected)


def test_two_classes_are_two_columns_as_with_more() -> None:
    data = clusters(classes=2)
    x, y = unit(data.train.values), data.train.targets
    (fit,) = fit_path(UnitRows(data.train.values.astype(np.float16)), y, [0.01])
    weight = fit.weight.numpy()
    np.testing.assert_allclose(weight[0], -weight[1], atol=1e-6)
    logits = x @ weight.T
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    gradient = (p - np.eye(2)[y]).T @ x / len(x) + 0.01 * weight  # of the documented objective
    assert np.abs(gradient).max() < 1e-7


@pytest.mark.parametrize("l2", [1.0, 1e-3, 1e-6])
def test_the_gradient_of_the_objective_is_zero_at_every_strength(l2: float) -> None:
    data = clusters(n=200, classes=5)
    x, y = unit(data.train.values), data.train.targets
    fit = fit_path(UnitRows(data.train.values.astype(np.float16)), y, [l2, 1.0])[0]
    logits = x @ fit.weight.numpy().T
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    gradient = (p - np.eye(5)[y]).T @ x / len(x) + l2 * fit.weight.numpy()
    assert np.abs(gradient).max() < 1e-6


def test_neither_chunks_nor_the_path_nor_the_order_change_the_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = clusters(n=200)
    x, y = data.train.values.astype(np.float16), data.train.targets
    (alone,) = fit_path(UnitRows(x), y, [1e-3])
    on_path = fit_path(UnitRows(x), y, [1e-4, 1e-3, 1.0])[1]
    torch.testing.assert_close(alone.weight, on_path.weight, rtol=1e-3, atol=1e-4)
    order = np.random.default_rng(0).permutation(200)
    (shuffled,) = fit_path(UnitRows(x, order), y[order], [1e-3])
    torch.testing.assert_close(alone.weight, shuffled.weight, rtol=1e-3, atol=1e-4)
    monkeypatch.setattr(logistic, "CHUNK", 17)
    for kept in (2**26, 0):
        monkeypatch.setattr(logistic, "KEPT_ELEMENTS", kept)
        (chunked,) = fit_path(UnitRows(x), y, [1e-3])
        torch.testing.assert_close(alone.weight, chunked.weight, rtol=1e-3, atol=1e-4)


def test_a_fit_that_is_cut_short_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "MAX_ITERATIONS", 2)
    outcome = run(clusters(), l2s=(1e-5,))
    assert any("did not converge" in text for text in warnings_of(outcome))


# ---------------------------------------------------------------------- the task


def test_one_hot_features_score_one() -> None:
    y = np.arange(120) % 6
    data = data_of(one_hot(y, 6), y, one_hot(y[:60], 6), y[:60])
    metrics = SemiLogreg().score(run(data))
    assert {name: metric.value for name, metric in metrics.items()} == {"top1": 1.0, "top5": 1.0}
    assert metrics["top1"].n == 60
    assert metrics["top1"].interval == "wilson95"


def test_permuted_labels_score_chance_within_the_interval() -> None:
    data = clusters(n=1200, classes=4, noise=0.5)
    assert SemiLogreg().score(run(data))["top1"].value > 0.9
    data.train.targets = np.random.default_rng(0).permutation(data.train.targets)
    data.val.targets = np.random.default_rng(1).permutation(data.val.targets)
    metric = SemiLogreg().score(run(data))["top1"]
    assert metric.low < 0.25 < metric.high


def test_the_strength_follows_the_held_out_slice_and_the_fit_is_of_all_of_train() -> None:
    data = clusters(noise=2.0)
    outcome = run(data)
    x, y = unit(data.train.values), data.train.targets
    rows, held = held_out_slice(y, 0.1, seed=0)
    judged = []
    for l2 in outcome.extras["l2"]:
        book = LogisticRegression(
            C=1 / (l2 * len(rows)), fit_intercept=False, tol=1e-8, max_iter=5000
        )
        judged.append(book.fit(x[rows], y[rows]).score(x[held], y[held]))
    np.testing.assert_allclose(outcome.extras["judged_accuracy"], judged)
    best = max(range(len(judged)), key=lambda i: (judged[i], outcome.extras["l2"][i]))
    l2 = float(outcome.extras["l2"][best])
    assert outcome.extras["reported_l2"] == l2
    book = LogisticRegression(C=1 / (l2 * len(y)), fit_intercept=False, tol=1e-9, max_iter=5000)
    expected = book.fit(x, y).predict(unit(data.val.values))
    np.testing.assert_array_equal(outcome.columns["prediction"], expected)
    scores = np.argsort(-book.decision_function(unit(data.val.values)), axis=1)[:, :5]
    np.testing.assert_array_equal(
        outcome.columns["top5"], (scores == data.val.targets[:, None]).any(axis=1)
    )


def test_selection_on_test_reports_the_best_and_says_so() -> None:
    data = clusters(noise=2.0)
    outcome = run(data, selection="test")
    top1 = SemiLogreg().score(outcome)["top1"].value
    assert top1 == pytest.approx(outcome.extras["judged_accuracy"].max())
    assert len(set(outcome.extras["judged_accuracy"])) > 1
    assert any("selection=test" in text for text in warnings_of(outcome))
    assert not any("selection=test" in text for text in warnings_of(run(data)))


def test_the_stored_weights_give_the_stored_predictions() -> None:
    data = clusters(noise=2.0)
    outcome = run(data)
    logits = unit(data.val.values) @ outcome.extras["weight"].T
    found = outcome.extras["weight_classes"][logits.argmax(axis=1)]
    np.testing.assert_array_equal(found, outcome.columns["prediction"])


def test_equal_seeds_give_equal_bytes(tmp_path: Any) -> None:
    data = clusters(noise=2.0)
    for name in ("first", "again"):
        run(data).save(tmp_path / f"{name}.npz")
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()


def test_the_order_of_the_test_images_does_not_matter() -> None:
    data = clusters(noise=2.0)
    forward = run(data)
    data.val = data.val.take(np.arange(len(data.val))[::-1], "val")
    backward = run(data)
    for name, column in forward.columns.items():
        np.testing.assert_array_equal(column, backward.columns[name][::-1])


def test_a_strength_at_the_end_of_the_grid_is_pointed_out() -> None:
    outcome = run(clusters(noise=2.0), l2s=(0.3, 1.0, 100.0), selection="test")
    chosen = float(outcome.extras["reported_l2"])
    assert chosen in (0.3, 100.0)
    assert any(f"l2={chosen:g} is the" in text for text in warnings_of(outcome))


# ---------------------------------------------------------------------- small sets


def test_where_a_slice_would_be_too_small_every_image_is_judged_once_in_five_folds() -> None:
    labels = np.repeat(np.arange(10), 4)
    slices = judging_slices(labels, 0.1, seed=0)
    assert len(slices) == 5
    assert sorted(np.concatenate([held for _, held in slices])) == list(range(40))
    for rows, held in slices:
        assert not set(rows) & set(held)
        assert set(labels[rows]) == set(range(10))
    ((rows, held),) = judging_slices(np.repeat(np.arange(10), 10), 0.1, seed=0)
    assert (len(rows), len(held)) == (90, 10)


def test_folds_judge_no_class_s_only_image() -> None:
    labels = np.array([0, 0, 1, 2, 3, 3, 3])
    slices = judging_slices(labels, 0.1, seed=0)
    held = np.concatenate([held for _, held in slices])
    assert sorted(held) == [0, 1, 4, 5, 6]
    assert all({0, 1, 2, 3} == set(labels[rows]) for rows, _ in slices)


def test_few_images_a_class_learn() -> None:
    data = clusters(n=24, noise=0.5)
    outcome = run(data)
    assert outcome.extras["judged_accuracy"].max() > 0.8
    assert SemiLogreg().score(outcome)["top1"].value > 0.8


def test_with_one_image_a_class_ibot_s_strength_is_taken_with_a_warning() -> None:
    data = clusters(n=6, noise=0.2)
    outcome = run(data)
    assert outcome.extras["reported_l2"] == DEFAULT_L2
    assert any("no class has two training images" in text for text in warnings_of(outcome))
    assert SemiLogreg().score(outcome)["top1"].value > 0.8


def test_a_set_of_one_class_is_always_right() -> None:
    y, rng = np.zeros(30, dtype=np.int64), np.random.default_rng(0)
    data = data_of(rng.normal(size=(30, 4)), y, rng.normal(size=(20, 4)), y[:20])
    for n in (30, 1):
        data.train = data.train.take(np.arange(n), "train")
        metrics = SemiLogreg().score(run(data))
        assert {name: metric.value for name, metric in metrics.items()} == {"top1": 1.0}


def test_classes_without_training_images_are_never_predicted() -> None:
    data = clusters()
    data.train = data.train.take(np.flatnonzero(data.train.targets != 3), "train")
    outcome = run(data)
    assert 3 not in outcome.columns["prediction"]
    assert outcome.extras["weight_classes"].tolist() == [0, 1, 2, 4, 5]
    metrics = SemiLogreg().score(outcome)
    assert 0.2 < metrics["top1"].value <= 5 / 6


# ---------------------------------------------------------------------- what it reads, and errors


def test_it_announces_the_passes_that_it_reads() -> None:
    data = clusters(n=60)
    announced = [found.split.name for found in SemiLogreg().passes(fake_model(), data)]
    run(data)
    assert announced == data.asked == ["train", "val"]


def test_token_auto_takes_cls_where_there_is_one() -> None:
    data = clusters(n=60)
    assert run(data).extras["token"] == "cls"
    assert SemiLogreg().run(fake_model(has_cls=False), data).extras["token"] == "avg"


@pytest.mark.parametrize(
    "fields", [{"l2s": ()}, {"l2s": (0.1, 0.0)}, {"holdout": 0.0}, {"holdout": 0.7}]
)
def test_wrong_fields_are_refused_with_advice(fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="semi_logreg: "):
        SemiLogreg(**fields)


def test_fields_bind_from_a_spec_and_identity_holds_what_differs() -> None:
    spec = parse("semi_logreg@x?l2s=0.01:0.1&selection=test&token=avg")
    task = bind(SemiLogreg, dict(spec.options))
    assert non_default(task) == {"l2s": [0.01, 0.1], "selection": "test", "token": "avg"}
    assert dataclasses.replace(SemiLogreg(), holdout=0.2) == SemiLogreg(holdout=0.2)
