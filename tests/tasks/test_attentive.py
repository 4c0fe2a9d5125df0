"""Attentive probing: chosen on held-out images, each rate as alone, one stream with linear."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench.engine import Settings, evaluate
from bench.errors import DataError, SpecError, TrainingError
from bench.probing import run_probe, run_probes
from bench.records import Outcome
from bench.store import Store
from bench.streams import epoch_order
from bench.task import warnings_of
from tasks.feature_batches import held_out_slice
from tasks.image.attentive import Attentive
from tasks.image.linear import Linear
from tasks.token_heads import AttentiveHead
from tasks.token_protocols import ATTENTIVE, TokenProtocol
from tasks.token_sweep import TokenSweep
from tasks.token_task import drawn
from tests.tasks.token_fakes import MODEL, TokenData, token_data

SHORT = {"heads": 2, "epochs": 15, "batch": 64, "lrs": (3e-3,)}


def run(data: TokenData, **fields: object) -> Outcome:
    return Attentive(**{**SHORT, **fields}).run(MODEL, data)


def top1(outcome: Outcome) -> float:
    return Attentive().score(outcome)["top1"].value


@pytest.mark.parametrize("block", ["map_bigvision", "map_voltron"])
def test_tokens_that_tell_the_class_score_one(block: str) -> None:
    outcome = run(token_data(strength=4.0), block=block)
    assert top1(outcome) >= 0.99
    assert Attentive().score(outcome)["final_top1"].value >= 0.99


def test_permuted_labels_score_chance_within_the_interval() -> None:
    data = token_data(n=900)
    for split in (data.train, data.val):  # val too: four clusters cannot score chance by themselves
        split.targets = np.random.default_rng(1).permutation(split.targets)
    metric = Attentive().score(run(data, epochs=5))["top1"]
    assert metric.low < 0.25 < metric.high


def test_the_order_of_the_tokens_does_not_matter() -> None:
    data, shuffled = token_data(strength=0.7), token_data(strength=0.7)
    for split in (shuffled.train, shuffled.val):
        split.values = split.values[:, [4, 2, 0, 1, 3]]
    one, two = run(data, epochs=4), run(shuffled, epochs=4)
    agree = one.columns["prediction"] == two.columns["prediction"]
    assert agree.mean() >= 0.98  # sums in another order may turn a tie
    assert not (one.columns["prediction"] == one.columns["prediction"][0]).all()


def test_a_rate_of_a_sweep_trains_as_it_would_alone() -> None:
    data = token_data(strength=0.7)
    wide = run(data, lrs=(1e-3, 3e-3, 1e-2), epochs=6)
    for index, lr in enumerate((1e-3, 3e-3, 1e-2)):
        alone = run(data, lrs=(lr,), epochs=6)
        for name in ("test_accuracy", "held_out_accuracy"):
            np.testing.assert_array_equal(wide.extras[name][:, index], alone.extras[name][:, 0])


def test_a_sweep_equals_an_ordinary_adamw_loop() -> None:
    data = token_data(n=200, strength=0.7)
    protocol = TokenProtocol(lrs=(1e-3, 3e-3), weight_decay=0.1, warmup=0.2, clip=0.5)
    sweep = TokenSweep(lambda: AttentiveHead("map_voltron", 8, 2, 4), protocol, seed=5)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module = AttentiveHead("map_voltron", 8, 2, 4)
    matrices = [p for n, p in module.named_parameters() if n.endswith("weight")]
    rest = [p for n, p in module.named_parameters() if not n.endswith("weight")]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3)
    table = data.tokens(MODEL, data.train)
    for step in range(10):
        rows = np.arange(20 * step, 20 * step + 20)
        ((_, tokens),) = table.batches(rows, 20)
        target = torch.from_numpy(data.train.targets[rows])
        factor = step / 2 if step < 2 else 0.5 * (1 + np.cos(np.pi * (step - 2) / 8))
        assert protocol.factor(step, 10) == pytest.approx(factor)
        sweep.step(tokens, target, factor)
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * factor
        optimizer.zero_grad()
        F.cross_entropy(module.classifier(module.pool(tokens)), target).backward()
        norm = torch.stack([p.grad.norm() for p in module.parameters()]).norm()
        for parameter in module.parameters():
            parameter.grad *= min(1.0, 0.5 / (norm.item() + 1e-6))
        optimizer.step()
    for mine, theirs in zip(sweep.heads[1].parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_the_held_out_slice_is_linear_s_and_never_trained_on() -> None:
    data = token_data()
    fit, held = held_out_slice(data.train.targets, 0.1, data.seed)
    probe = Attentive(**SHORT).probe(MODEL, data)
    np.testing.assert_array_equal(probe.stream.rows, fit)
    other = Linear(tokens=("avg",), batch=64, epochs=3).probe(MODEL, data)
    assert probe.stream.key == other.stream.key
    run_probe(probe, MODEL, data)
    read = data.tables["train"].read
    trained = {int(fit[i]) for e in range(15) for i in epoch_order(270, 64, 4, 0, e)[..., 1].flat}
    assert set(read) == trained | set(held.tolist())
    assert len(read) == 15 * 4 * 64 + 5 * len(held)  # five evaluations


def test_sharing_a_stream_with_linear_changes_neither() -> None:
    data = token_data(strength=0.7)
    tasks = [
        Attentive(**SHORT, block="map_voltron"),
        Linear(tokens=("avg",), batch=64, epochs=20, eval_every=5),
    ]
    together = run_probes([task.probe(MODEL, data) for task in tasks], MODEL, data)
    for task, shared in zip(tasks, together, strict=True):
        assert isinstance(shared, Outcome), shared
        alone = task.run(MODEL, data)
        for name in ("prediction", "prediction_best", "target"):
            np.testing.assert_array_equal(shared.columns[name], alone.columns[name])
        np.testing.assert_array_equal(shared.extras["test_accuracy"], alone.extras["test_accuracy"])


def test_the_report_follows_the_held_out_slice_not_the_test_images() -> None:
    data = token_data(strength=0.6)
    data.val.targets = (data.val.targets + 1) % 4  # what is best on train is worst here
    outcome = run(data, lrs=(1e-5, 1e-3, 1e-2, 0.1), epochs=6)
    held, test = (outcome.extras[f"{name}_accuracy"] for name in ("held_out", "test"))
    head = int(outcome.extras["reported_head"])
    metrics = Attentive().score(outcome)
    assert head == held[-1].argmax() != test[-1].argmax()
    assert metrics["top1"].value == metrics["final_top1"].value == pytest.approx(test[-1, head])
    assert metrics["best_top1"].value == pytest.approx(test.max())


def test_selection_on_test_reports_the_best_head_and_epoch_and_says_so() -> None:
    outcome = run(token_data(strength=0.6), selection="test", lrs=(1e-3, 1e-2), evaluations=3)
    accuracy, metrics = outcome.extras["test_accuracy"], Attentive().score(outcome)
    assert outcome.extras["evaluated_epochs"].tolist() == [5, 10, 15]
    assert "held_out_accuracy" not in outcome.extras
    assert metrics["top1"] == metrics["best_top1"]
    assert metrics["top1"].value == pytest.approx(accuracy.max())
    assert metrics["final_top1"].value == pytest.approx(accuracy[-1].max())
    assert any("selection=test" in text for text in warnings_of(outcome))


def test_a_head_that_diverges_is_left_out_and_named() -> None:
    outcome = run(token_data(), lrs=(3e-3, 1e30), epochs=4)
    assert any("diverged and were left out: lr=1e+30" in text for text in warnings_of(outcome))
    assert outcome.extras["reported_head"] == 0
    assert np.isnan(outcome.extras["test_accuracy"][-1]).tolist() == [False, True]
    with pytest.raises(TrainingError, match="all 1 heads diverged"):
        run(token_data(), lrs=(1e30,))


def test_a_rate_at_the_end_of_the_sweep_is_named() -> None:
    outcome = run(token_data(), lrs=(1e-6, 3e-3))
    assert any("0.003 is the largest of the sweep" in text for text in warnings_of(outcome))


def test_equal_seeds_give_equal_bytes_and_other_seeds_do_not(tmp_path: Path) -> None:
    data = token_data(strength=0.6)
    for name in ("first", "again"):
        run(data, epochs=3).save(tmp_path / f"{name}.npz")
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
    data.seed = 1
    run(data, epochs=3).save(tmp_path / "other.npz")
    assert (tmp_path / "first.npz").read_bytes() != (tmp_path / "other.npz").read_bytes()


@pytest.mark.parametrize("epochs_done", [1, 3, 4])
def test_a_killed_training_goes_on_to_the_same_outcome(tmp_path: Path, epochs_done: int) -> None:
    data = token_data(strength=0.6)
    task = Attentive(**{**SHORT, "epochs": 4, "evaluations": 2, "lrs": (1e-3, 1e-2)})
    whole = task.run(MODEL, data)
    first, second = (task.probe(MODEL, data) for _ in range(2))
    batches = [epoch_order(270, 64, 4, 0, epoch)[..., 1] for epoch in range(4)]

    def train(probe, epochs: range) -> None:
        for epoch in epochs:
            for iteration, places in enumerate(batches[epoch]):
                rows = probe.stream.rows[places]
                ((_, tokens),) = data.tables["train"].batches(rows, 64)
                target = torch.from_numpy(data.train.targets[rows])
                probe.step({"tokens": tokens}, target, epoch, iteration)
            probe.after_epoch(epoch + 1)

    train(first, range(epochs_done))
    torch.save(first.state(), tmp_path / "state.pt")
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    train(second, range(epochs_done, 4))
    outcome = second.outcome()
    for name, column in whole.columns.items():
        np.testing.assert_array_equal(outcome.columns[name], column)
    np.testing.assert_array_equal(outcome.extras["test_accuracy"], whole.extras["test_accuracy"])


def test_the_choice_looks_at_ten_thousand_images_at_most_drawn_by_their_ids() -> None:
    ids, rows = [f"image-{i}" for i in range(300)], np.arange(0, 300, 2)
    chosen = drawn(ids, rows, 40)
    hashes = {int(row): hashlib.sha256(ids[row].encode()).hexdigest() for row in rows}
    assert chosen.tolist() == sorted(sorted(hashes, key=hashes.__getitem__)[:40])
    np.testing.assert_array_equal(drawn(ids, rows, 150), rows)


def test_lengths_of_the_protocols() -> None:
    ab, cached = ATTENTIVE["attentive_ab"], ATTENTIVE["attentive_cached"]
    length = ab.length(1_281_167)
    assert (length.batch, length.iterations, length.epochs) == (1024, 1251, 10)
    assert ab.lrs == (1e-4, 3e-4, 1e-3, 3e-3)
    assert ab.weight_decay == 1e-2
    assert cached.length(9469).batch == 256
    assert cached.length(9469).steps == 10 * 36
    assert cached.length(900).steps == 300
    assert cached.length(100).batch == 100
    assert Attentive(epochs=2).numbers().length(900).epochs == 2


def test_a_batch_beyond_the_train_set_is_clipped_with_a_warning() -> None:
    outcome = run(token_data(), batch=4096, epochs=2)
    text = "the batch of 4096 exceeds the 270 training images; clipped to 270"
    assert text in warnings_of(outcome)


def test_one_class_is_nothing_to_tell_apart() -> None:
    with pytest.raises(DataError, match="needs two or more"):
        run(token_data(names=("only",)))


@pytest.mark.parametrize(
    "fields",
    [
        {"lrs": ()},
        {"lrs": (0.1, -1.0)},
        {"batch": 1},
        {"epochs": 0},
        {"min_steps": -1},
        {"weight_decay": -0.1},
        {"warmup": 1.0},
        {"clip": -1.0},
        {"holdout": 0.7},
        {"evaluations": 0},
        {"heads": 0},
    ],
)
def test_wrong_fields_are_refused_when_the_task_is_made(fields: dict) -> None:
    with pytest.raises(SpecError, match=r"attentive \(attentive_cached\)"):
        Attentive(**fields)


@pytest.mark.parametrize("arch", ["vit_mini_patch4_32", "swin_mini_patch2_window4_32"])
def test_crops_and_stored_tokens_train_with_and_without_a_cls_token(
    arch: str, mini: Path, tmp_path: Path
) -> None:
    settings = Settings(data=mini, cache=tmp_path / "c", workers=0, device="cpu")
    fields = "epochs=1&batch=64&lrs=0.001:0.003"
    tasks = [
        f"attentive@mini_objects?{fields}",
        f"attentive@mini_objects?{fields}&protocol=attentive_ab&block=map_voltron",
        f"decoder@mini_objects?{fields}&protocol=decoder_ab&width=32&layers=1",
        "linear@mini_objects?protocol=linear_ab&epochs=1&batch=64",
    ]
    report = evaluate([f"random:{arch}"], tasks, Store(tmp_path / "r"), settings)
    assert report.failed == {}
    shared = [result.cost.get("shared", []) for result in report.ran]
    streams = [found for cell in shared for found in cell if found["what"].startswith("stream")]
    assert len(streams) == 3  # one stream of crops trains the other three
