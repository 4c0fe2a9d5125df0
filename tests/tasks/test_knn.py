"""k-NN against an independent float64 loop, and the properties that must not break."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from bench.errors import SpecError
from bench.records import Outcome
from bench.spec import bind, parse
from bench.task import warnings_of
from bench.values import non_default
from tasks import neighbours
from tasks.image.knn import Knn, vote
from tasks.neighbours import nearest
from tests.tasks.fakes import FakeData, data_of, fake_model, one_hot


def loop_reference(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    classes: int,
    k: int,
    temperature: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and class orders (n, classes) of weighted k-NN, one test row at a time."""
    unit = train.astype(np.float64) / np.linalg.norm(train.astype(np.float64), axis=1)[:, None]
    orders = []
    for row in test.astype(np.float64):
        cosine = (unit @ (row / np.linalg.norm(row))).astype(np.float32)
        scores = np.zeros(classes)
        for i in np.argsort(-cosine, kind="stable")[:k]:  # stable: equal cosines by train index
            scores[labels[i]] += math.exp((float(cosine[i]) - 1) / temperature)
        orders.append(np.argsort(-scores, kind="stable"))  # stable: equal scores by class
    return np.array([order[0] for order in orders]), np.array(orders)


def clusters(seed: int, n: int, classes: int = 10, width: int = 64, noise: float = 2.0) -> FakeData:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, width))
    y_train, y_val = rng.integers(0, classes, n), rng.integers(0, classes, n)
    y_train[0] = classes - 1
    make = lambda y: (centres[y] + noise * rng.normal(size=(len(y), width))).astype(np.float16)  # noqa: E731
    return data_of(make(y_train), y_train, make(y_val), y_val)


def run(data: FakeData, **fields: object) -> Outcome:
    return Knn(**fields).run(fake_model(), data)


@pytest.mark.parametrize("k", [1, 10, 20, 100])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_knn_equals_a_float64_loop(k: int, temperature: float) -> None:
    data = clusters(seed=1, n=200)
    outcome = run(data, k=k, temperature=temperature)
    prediction, orders = loop_reference(
        data.train.values, data.train.targets, data.val.values, 10, k, temperature
    )
    np.testing.assert_array_equal(outcome.columns["prediction"], prediction)
    if k >= 5:
        hit = (orders[:, :5] == data.val.targets[:, None]).any(axis=1)
        np.testing.assert_array_equal(outcome.columns[f"top5_k{k}"], hit)
        assert hit.mean() > 0.5


def test_knn_equals_the_loop_where_neighbours_tie() -> None:
    rng = np.random.default_rng(2)
    # Few distinct rows, so most cosines are shared by many training images of several classes.
    train = rng.integers(-1, 2, size=(300, 4)).astype(np.float16) + np.float16(0.25)
    test = rng.integers(-1, 2, size=(90, 4)).astype(np.float16) + np.float16(0.25)
    labels = rng.integers(0, 7, 300)
    data = data_of(train, labels, test, rng.integers(0, 7, 90))
    for k in (1, 10, 20):
        outcome = run(data, k=k)
        expected, _ = loop_reference(train, labels, test, 7, k, 0.07)
        np.testing.assert_array_equal(outcome.columns["prediction"], expected)


def test_equal_cosines_are_ordered_by_the_lower_train_index() -> None:
    keys = np.repeat(np.eye(3, dtype=np.float16), 100, axis=0)[::-1].copy()
    ((_, cosine, index),) = nearest(np.eye(3, dtype=np.float16)[:1], keys, 5, key_chunk=37)
    np.testing.assert_array_equal(index.numpy(), [[200, 201, 202, 203, 204]])
    np.testing.assert_array_equal(cosine.numpy(), np.ones((1, 5)))


def test_equal_scores_go_to_the_lower_class() -> None:
    labels = np.array([[3, 1, 2]])
    found = vote(torch.full((1, 3), 0.5), labels, classes=5, ks=[3], temperature=0.07)
    assert found[3].argmax(axis=1) == [1]


def test_neighbours_equal_a_full_float64_sort_for_any_chunk_size() -> None:
    rng = np.random.default_rng(3)
    keys, queries = rng.normal(size=(500, 48)), rng.normal(size=(40, 48))
    keys, queries = keys.astype(np.float16), queries.astype(np.float16)
    keys[250:300] = keys[100]  # duplicates beyond the margin of candidates
    queries[7] = keys[100]
    unit = keys.astype(np.float64) / np.linalg.norm(keys.astype(np.float64), axis=1)[:, None]
    q = queries.astype(np.float64) / np.linalg.norm(queries.astype(np.float64), axis=1)[:, None]
    expected = np.argsort(-(q @ unit.T).astype(np.float32), axis=1, kind="stable")[:, :30]
    for query_chunk, key_chunk in [(256, 8192), (7, 33), (1, 500), (40, 64)]:
        found = nearest(queries, keys, 30, query_chunk=query_chunk, key_chunk=key_chunk)
        index = np.concatenate([index.numpy() for _, _, index in found])
        np.testing.assert_array_equal(index, expected)


def test_coarse_products_do_not_change_the_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    keys = (rng.normal(size=(8000, 4)) + 5).astype(np.float16)
    queries = (rng.normal(size=(50, 4)) + 5).astype(np.float16)
    ((_, _, exact),) = nearest(queries, keys, 10)
    unit = neighbours._unit

    def as_on_a_tensor_core(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return unit(x, dtype).bfloat16().float() if dtype == torch.float32 else unit(x, dtype)

    monkeypatch.setattr(neighbours, "_unit", as_on_a_tensor_core)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        ((_, _, coarse),) = nearest(queries, keys, 10)
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(exact, coarse)


def test_negative_and_zero_cosines_keep_their_order() -> None:
    keys = np.array([[-1, 0], [0, 1], [0, 0], [-1, 1], [1, 0]], dtype=np.float16)
    ((_, cosine, index),) = nearest(np.array([[1, 0]], dtype=np.float16), keys, 5)
    np.testing.assert_array_equal(index.numpy(), [[4, 1, 2, 3, 0]])
    np.testing.assert_allclose(cosine.numpy(), [[1, 0, 0, -math.sqrt(0.5), -1]], rtol=1e-6)
    tiny = np.array([[-1e-60, 1.0], [0.0, 1.0]])  # as float32 both are zero, the first with a sign
    ((_, _, index),) = nearest(np.array([[1.0, 0.0]]), tiny, 2)
    np.testing.assert_array_equal(index.numpy(), [[0, 1]])


def test_one_hot_features_score_one() -> None:
    y = np.arange(120) % 6
    data = data_of(one_hot(y, 6), y, one_hot(y[:60], 6), y[:60])
    task = Knn(ks=(1, 10))
    metrics = task.score(task.run(fake_model(), data))
    assert {m.value for name, m in metrics.items() if not name.startswith("knn_k1_")} == {1.0}
    assert metrics["top1"].n == 60
    assert metrics["top1"].low < 1.0


def test_permuted_labels_score_chance_within_the_interval() -> None:
    data = clusters(seed=4, n=1500, classes=4)
    task = Knn()
    assert task.score(task.run(fake_model(), data))["top1"].value > 0.9
    rng = np.random.default_rng(0)
    data.train.targets = rng.permutation(data.train.targets)
    metric = task.score(task.run(fake_model(), data))["top1"]
    assert metric.low < 0.25 < metric.high


def test_a_k_beyond_the_train_set_is_clipped_with_a_warning() -> None:
    data = clusters(seed=5, n=30)
    outcome = run(data, k=20)
    columns = outcome.columns
    np.testing.assert_array_equal(columns["prediction_k100"], columns["prediction_k200"])
    expected, _ = loop_reference(
        data.train.values, data.train.targets, data.val.values, 10, 30, 0.07
    )
    np.testing.assert_array_equal(columns["prediction_k100"], expected)
    assert warnings_of(outcome) == ["k=100, 200: there are only 30 training images; used 30"]
    assert warnings_of(run(clusters(seed=5, n=30), k=20, ks=(20,))) == []


def test_fewer_than_a_hundred_test_images_work() -> None:
    data = clusters(seed=6, n=50)
    data.val = data.val.take(np.arange(3), "val")
    assert Knn().score(run(data))["top1"].n == 3


def test_every_k_of_one_pass_equals_its_own_pass() -> None:
    data = clusters(seed=7, n=400)
    together = run(data, ks=(1, 3, 10, 20, 100))
    for k in (1, 3, 10, 20, 100):
        alone = run(data, k=k, ks=(k,))
        np.testing.assert_array_equal(
            together.columns[f"prediction_k{k}"], alone.columns["prediction"]
        )
    assert "top5_k3" not in together.columns
    assert "top5_k10" in together.columns


def test_the_order_of_the_test_images_does_not_matter() -> None:
    data = clusters(seed=8, n=300)
    forward = run(data)
    data.val = data.val.take(np.arange(300)[::-1], "val")
    backward = run(data)
    for name, column in forward.columns.items():
        np.testing.assert_array_equal(column, backward.columns[name][::-1])


def test_a_tiny_temperature_does_not_sink_all_votes() -> None:
    data = clusters(seed=9, n=100)
    nearest_label = run(data, k=1).columns["prediction"]
    np.testing.assert_array_equal(run(data, temperature=1e-4).columns["prediction"], nearest_label)


def test_token_auto_takes_cls_where_there_is_one() -> None:
    data = clusters(seed=10, n=40)
    with_cls = Knn().run(fake_model(has_cls=True), data)
    without = Knn().run(fake_model(has_cls=False), data)
    assert with_cls.extras["token"] == "cls"
    assert without.extras["token"] == "avg"


def test_value_is_each_sample_s_share_of_the_headline(tmp_path) -> None:
    task = Knn(k=10)
    outcome = task.run(fake_model(), clusters(seed=11, n=80))
    outcome.save(tmp_path / "outcome.npz")
    metrics = task.score(Outcome.load(tmp_path / "outcome.npz"))
    assert metrics[task.headline].value == pytest.approx(outcome.columns["value"].mean())
    assert metrics["top1"] == metrics["knn_k10"]
    assert metrics["top5"] == metrics["knn_k10_top5"]


def test_best_top1_is_the_best_of_all_k() -> None:
    task = Knn(k=3, ks=(1, 10))
    metrics = task.score(task.run(fake_model(), clusters(seed=12, n=400, noise=4.0)))
    each = [metrics[f"knn_k{k}"].value for k in (1, 3, 10)]
    assert len(set(each)) == 3
    assert metrics["best_top1"].value == max(each)


def test_fields_bind_from_a_spec_and_identity_holds_what_differs() -> None:
    spec = parse("knn@x?k=10&ks=10:50&temperature=0.1&token=avg")
    task = bind(Knn, dict(spec.options))
    assert non_default(task) == {"k": 10, "ks": [10, 50], "temperature": 0.1, "token": "avg"}
    assert dataclasses.replace(Knn(), k=10) == Knn(k=10)


@pytest.mark.parametrize("fields", [{"k": 0}, {"ks": (10, -1)}, {"temperature": 0.0}])
def test_wrong_fields_are_refused_with_advice(fields: dict) -> None:
    with pytest.raises(SpecError, match="knn: "):
        Knn(**fields)
