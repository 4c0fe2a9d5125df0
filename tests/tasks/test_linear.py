"""Linear probing: chosen on a held-out slice, equal to the book, and the same every time."""

import dataclasses

import numpy as np
import pytest
import torch

from bench.errors import DataError, SpecError, TrainingError
from bench.records import Outcome
from bench.spec import bind, parse
from bench.streams import StoredBatches, epoch_order
from bench.task import warnings_of
from bench.values import non_default
from tasks import sweep
from tasks.feature_batches import held_out_slice
from tasks.image.linear import Linear
from tasks.linear_protocols import PROTOCOLS
from tests.tasks.fakes import FakeData, data_of, fake_model, one_hot

SHORT = {"tokens": ("avg",), "epochs": 20, "batch": 64, "lrs": (0.03, 0.3)}


def noisy(seed: int = 0, n: int = 400, classes: int = 8, noise: float = 0.7) -> FakeData:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, 16))
    y_train, y_val = np.arange(n) % classes, np.arange(n // 2) % classes
    x_train = centres[y_train] + noise * rng.normal(size=(n, 16))
    x_val = centres[y_val] + noise * rng.normal(size=(n // 2, 16))
    return data_of(x_train, y_train, x_val, y_val)


def run(data: FakeData, **fields: object) -> Outcome:
    return Linear(**{**SHORT, **fields}).run(fake_model(), data)


def top1(outcome: Outcome) -> float:
    return Linear().score(outcome)["top1"].value


def test_one_hot_features_score_one() -> None:
    y = np.arange(300) % 6
    metrics = Linear().score(run(data_of(one_hot(y, 6), y, one_hot(y[:90], 6), y[:90])))
    assert {metric.value for metric in metrics.values()} == {1.0}
    assert metrics["top1"].n == 90
    assert metrics["top1"].interval == "wilson95"
    assert metrics["top1"].low < 1.0


def test_permuted_labels_score_chance_within_the_interval() -> None:
    data = noisy(n=2000, classes=4)
    assert top1(run(data)) > 0.8
    data.train.targets = np.random.default_rng(1).permutation(data.train.targets)
    metric = Linear().score(run(data))["top1"]
    assert metric.low < 0.25 < metric.high


def test_the_probe_equals_an_ordinary_training_loop() -> None:
    data = noisy()
    outcome = run(data, lrs=(0.3,), selection="test", batch_norm="off", init_std=0.01)
    x = torch.from_numpy(data.train.values.astype(np.float16)).float()
    y = torch.from_numpy(data.train.targets)
    linear = torch.nn.Linear(16, 8)
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(linear.weight, std=0.01, generator=generator)
    torch.nn.init.zeros_(linear.bias)
    optimiser = torch.optim.SGD(linear.parameters(), lr=0.3 * 64 / 256, momentum=0.9)
    steps = 400 // 64
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 20 * steps)
    for epoch in range(20):
        for places in epoch_order(400, 64, steps, seed=0, epoch=epoch)[..., 1]:
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(linear(x[places]), y[places]).backward()
            optimiser.step()
            schedule.step()
    test = torch.from_numpy(data.val.values.astype(np.float16)).float()
    expected = linear(test).argmax(dim=1).numpy()
    np.testing.assert_array_equal(outcome.columns["prediction_final"], expected)
    np.testing.assert_allclose(
        outcome.extras["test_accuracy"][-1, 0], (expected == data.val.targets).mean()
    )


def test_the_held_out_slice_is_never_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    data = noisy()
    data.train.values[:, 0] = np.arange(400)  # each row carries its own number
    _, held = held_out_slice(data.train.targets, 0.1, data.seed)
    seen: set[int] = set()
    epoch = StoredBatches.epoch

    def spying(self: StoredBatches, number: int):
        for features, target in epoch(self, number):
            seen.update(features["avg"][:, 0].int().tolist())
            yield features, target

    monkeypatch.setattr(StoredBatches, "epoch", spying)
    run(data)
    assert len(held) == 40
    assert seen == set(range(400)) - set(held.tolist())


def test_the_report_follows_the_held_out_slice_not_the_test_images() -> None:
    outcome = run(noisy(noise=2.0), lrs=(0.001, 0.01, 0.1, 1.0, 10.0))
    held = outcome.extras["held_out_accuracy"][-1]
    test = outcome.extras["test_accuracy"]
    head = int(outcome.extras["reported_head"])
    metrics = Linear().score(outcome)
    assert head == held.argmax()
    assert metrics["top1"].value == metrics["final_top1"].value == pytest.approx(test[-1, head])
    assert metrics["best_top1"].value == pytest.approx(test.max())


def test_selection_on_test_reports_the_best_head_and_epoch_and_says_so() -> None:
    outcome = run(noisy(noise=2.0), selection="test", eval_every=3, lrs=(0.01, 0.1, 1.0))
    accuracy = outcome.extras["test_accuracy"]
    metrics = Linear().score(outcome)
    assert outcome.extras["evaluated_epochs"].tolist() == [3, 6, 9, 12, 15, 18, 20]
    assert "held_out_accuracy" not in outcome.extras
    assert metrics["top1"] == metrics["best_top1"]
    assert metrics["top1"].value == pytest.approx(accuracy.max())
    assert metrics["final_top1"].value == pytest.approx(accuracy[-1].max())
    assert any("selection=test" in text for text in warnings_of(outcome))
    assert not any("selection=test" in text for text in warnings_of(run(noisy())))


def test_of_equally_good_epochs_the_first_is_the_best() -> None:
    y = np.arange(300) % 6
    data = data_of(one_hot(y, 6), y, one_hot(y[:90], 6), y[:90])
    outcome = run(data, selection="test", eval_every=5)
    assert outcome.extras["test_accuracy"][:, 1].tolist() == [1.0] * 4
    assert outcome.extras["reported_epoch"] == 5


def test_the_stored_head_gives_the_stored_predictions() -> None:
    data = noisy()
    outcome = run(data, batch_norm="on")
    logits = data.val.values.astype(np.float16) @ outcome.extras["weight"].T
    prediction = (logits + outcome.extras["bias"]).argmax(axis=1)
    np.testing.assert_array_equal(prediction, outcome.columns["prediction"])


def test_equal_seeds_give_equal_bytes_and_other_seeds_do_not(tmp_path) -> None:
    data = noisy(noise=2.0)
    for name in ("first", "again"):
        run(data).save(tmp_path / f"{name}.npz")
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
    data.seed = 1
    run(data).save(tmp_path / "other.npz")
    assert (tmp_path / "first.npz").read_bytes() != (tmp_path / "other.npz").read_bytes()


def test_the_size_of_evaluation_slices_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    data = noisy(noise=2.0)
    whole = run(data)
    monkeypatch.setattr(sweep, "EVAL_ELEMENTS", 7 * 16)
    sliced = run(data)
    np.testing.assert_array_equal(whole.columns["prediction"], sliced.columns["prediction"])
    np.testing.assert_array_equal(whole.extras["test_accuracy"], sliced.extras["test_accuracy"])


def test_a_head_s_score_does_not_depend_on_the_rest_of_the_sweep() -> None:
    data = noisy(noise=2.0)
    wide = run(data, lrs=(0.01, 0.1, 1.0), batch_norm="both")
    narrow = run(data, lrs=(0.1,), batch_norm="on")
    column = np.flatnonzero((wide.extras["head_lr"] == 0.1) & wide.extras["head_batch_norm"])
    np.testing.assert_allclose(
        wide.extras["test_accuracy"][:, column], narrow.extras["test_accuracy"], atol=0.006
    )


def test_a_batch_beyond_the_train_set_is_clipped_with_a_warning() -> None:
    outcome = run(noisy(), batch=16384)
    assert any("16384 exceeds the 360 training images" in text for text in warnings_of(outcome))


def test_few_test_images_and_classes_work() -> None:
    y = np.arange(60) % 3
    data = data_of(one_hot(y, 3), y, one_hot(y[:3], 3), y[:3])
    metrics = Linear().score(run(data))
    assert metrics["top1"].n == 3
    assert "top5" not in metrics


def test_diverged_heads_are_left_out_with_a_warning_and_all_of_them_is_an_error() -> None:
    outcome = run(noisy(), lrs=(0.1, 3e38))
    assert np.isnan(outcome.extras["test_accuracy"][:, 1]).all()
    assert outcome.extras["reported_head"] == 0
    assert any("1 of 2 heads diverged" in text for text in warnings_of(outcome))
    with pytest.raises(TrainingError, match="all 1 heads diverged"):
        run(noisy(), lrs=(3e38,))


def test_a_best_rate_at_the_end_of_the_sweep_is_pointed_out() -> None:
    outcome = run(noisy(), lrs=(1e-7, 0.1), epochs=5)
    assert any("0.1 is the largest of the sweep" in text for text in warnings_of(outcome))


@pytest.mark.parametrize(
    ("protocol", "lr"),
    # LARS moves weights by a thousandth of their norm: few steps need a large rate.
    [("linear_mae", 30.0), ("linear_mae_sgd", 0.1), ("linear_dinov2", 0.1), ("linear_ab", 0.1)],
)
def test_every_protocol_trains_when_its_crops_are_replaced_by_stored_features(
    protocol: str, lr: float
) -> None:
    fields = {"augmentation": "off", "tokens": ("avg",), "epochs": 12, "epoch_iterations": 6}
    task = Linear(protocol=protocol, lrs=(lr,), **fields)
    assert top1(task.run(fake_model(), noisy(noise=0.2))) > 0.9


def test_fields_bind_from_a_spec_and_identity_holds_what_differs() -> None:
    spec = parse("linear@x?protocol=linear_dinov2&lrs=0.1:0.01&tokens=cls:cls+avg&selection=test")
    task = bind(Linear, dict(spec.options))
    assert non_default(task) == {
        "protocol": "linear_dinov2",
        "lrs": [0.1, 0.01],
        "tokens": ["cls", "cls+avg"],
        "selection": "test",
    }
    assert non_default(Linear()) == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"lrs": ()},
        {"lrs": (0.1, -1.0)},
        {"tokens": ()},
        {"tokens": ("clss",)},
        {"tokens": ("patch",)},
        {"batch": 1},
        {"epochs": 0},
        {"protocol": "linear_mae", "epochs": 10},
        {"holdout": 0.0},
        {"holdout": 0.7},
        {"eval_every": 0},
        {"epoch_iterations": -1},
    ],
)
def test_wrong_fields_are_refused_when_the_task_is_made(fields: dict) -> None:
    with pytest.raises(SpecError):
        Linear(**fields)


# ---------------------------------------------------------------------- tokens of a backbone


@pytest.mark.parametrize(
    ("protocol", "width", "has_cls", "tokens"),
    [
        ("linear_dino", 384, True, ["cls4"]),
        ("linear_dino", 768, True, ["cls+avg"]),
        ("linear_dino", 768, False, ["avg"]),
        ("linear_ab", 384, True, ["cls"]),
        ("linear_ab", 384, False, ["avg"]),
        ("linear_mae", 768, True, ["cls", "avg_fcnorm"]),
        ("linear_mae", 768, False, ["avg_fcnorm"]),
        ("linear_cached", 96, True, ["cls", "avg"]),
        ("linear_cached", 96, False, ["avg"]),
        ("linear_dinov2", 384, True, ["cls", "cls4", "cls+avg", "cls4+avg"]),
    ],
)
def test_each_protocol_reads_its_own_tokens(
    protocol: str, width: int, has_cls: bool, tokens: list[str]
) -> None:
    recipe, _ = PROTOCOLS[protocol].for_backbone(fake_model(has_cls, width).backbone)
    assert list(recipe.tokens) == tokens


def test_tokens_that_the_backbone_lacks_are_dropped_aloud_or_refused_when_asked_for() -> None:
    short = {"epochs": 12, "augmentation": "off"}
    outcome = Linear(protocol="linear_mae", **short).run(fake_model(has_cls=False), noisy())
    assert any("cannot give the tokens cls" in text for text in warnings_of(outcome))
    with pytest.raises(SpecError, match="ask for tokens=avg"):
        Linear(tokens=("cls", "avg")).run(fake_model(has_cls=False), noisy())


def test_large_backbones_train_shorter_under_mae_unless_told() -> None:
    protocol = PROTOCOLS["linear_mae"]
    assert protocol.for_backbone(fake_model(embed_dim=768).backbone)[0].epochs == 90
    assert protocol.for_backbone(fake_model(embed_dim=1024).backbone)[0].epochs == 50
    told = Linear(protocol="linear_mae", epochs=12, augmentation="off")
    outcome = told.run(fake_model(embed_dim=1024), noisy())
    assert outcome.extras["evaluated_epochs"].tolist() == [10, 12]


# ---------------------------------------------------------------------- schedules and slices


def test_protocols_hold_the_published_numbers() -> None:
    dino, mae, dinov2 = (PROTOCOLS[f"linear_{name}"] for name in ("dino", "mae", "dinov2"))
    assert len(dino.lrs) == 45
    assert (min(dino.lrs), max(dino.lrs)) == (1e-4, 9.0)
    assert (mae.batch, mae.epochs, mae.optimizer, mae.trust) == (16384, 90, "lars", 1e-3)
    assert len(dinov2.lrs) == 13
    assert dinov2.epochs * dinov2.epoch_iterations == 12_500


def test_schedules_of_the_protocols() -> None:
    dino = dataclasses.replace(PROTOCOLS["linear_dino"], epochs=4)
    assert [dino.factor(epoch, 7, 9) for epoch in range(4)] == pytest.approx(
        [1.0, 0.5 + 0.5 * 2**-0.5, 0.5, 0.5 - 0.5 * 2**-0.5]
    )
    mae = PROTOCOLS["linear_mae"]
    assert mae.factor(0, 0, 10) == 0.0
    assert mae.factor(2, 5, 10) == pytest.approx(0.25)
    assert mae.factor(10, 0, 10) == 1.0
    assert mae.factor(50, 0, 10) == pytest.approx(0.5)
    assert mae.factor(89, 9, 10) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("n", [10, 57, 1000])
@pytest.mark.parametrize("share", [0.1, 0.25])
def test_held_out_slices_are_stratified_disjoint_and_complete(n: int, share: float) -> None:
    targets = np.random.default_rng(n).integers(0, 5, n)
    fit, held = held_out_slice(targets, share, seed=0)
    assert sorted([*fit, *held]) == list(range(n))
    assert abs(len(held) - n * share) <= 1.5
    expected = np.bincount(targets, minlength=5) * share
    assert np.abs(np.bincount(targets[held], minlength=5) - expected).max() <= 1.0
    again = held_out_slice(targets, share, seed=0)[1]
    np.testing.assert_array_equal(held, again)


def test_other_seeds_hold_out_other_samples() -> None:
    targets = np.arange(500) % 5
    assert set(held_out_slice(targets, 0.1, 0)[1]) != set(held_out_slice(targets, 0.1, 1)[1])


def test_a_class_s_only_sample_stays_in_training() -> None:
    targets = np.concatenate([np.zeros(50, dtype=int), np.arange(1, 40)])
    for seed in range(20):
        fit, held = held_out_slice(targets, 0.2, seed)
        assert set(targets[fit]) == set(range(40))
        assert set(targets[held]) == {0}


@pytest.mark.parametrize("targets", [np.zeros(9, dtype=int), np.arange(30)])
def test_too_few_images_to_hold_out_is_advice(targets: np.ndarray) -> None:
    for seed in range(5):
        with pytest.raises(DataError, match="selection=test"):
            held_out_slice(targets, 0.1, seed)


def test_epochs_visit_every_sample_once_and_visits_never_repeat() -> None:
    whole = epoch_order(n=12, batch=4, iterations=3, seed=0, epoch=5)
    assert sorted(whole[..., 1].ravel()) == list(range(12))
    assert set(whole[..., 0].ravel()) == {5}
    long = [epoch_order(n=5, batch=4, iterations=3, seed=0, epoch=e).reshape(-1, 2) for e in (0, 1)]
    pairs = [tuple(pair) for pair in np.concatenate(long)]
    assert len(set(pairs)) == len(pairs) == 24
