"""Fine-tuning: it learns, leaves the checkpoint alone, and gives the same bytes after a kill."""

import copy
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench.backbone import weights_digest
from bench.errors import DataError, SpecError, TrainingError
from bench.network import seeded_network
from bench.records import Outcome
from bench.task import Task, TaskData, warnings_of
from bench.transforms import InputSpec
from tasks.finetune_batches import TrainBatches, global_draws, train_transform
from tasks.finetune_network import Classifier, SampleDrop, draw_paths, layer_table
from tasks.finetune_protocols import PROTOCOLS, TRANSFER, FinetuneProtocol, with_fields
from tasks.finetuning import STATE, EvalImages, FineTuner, History
from tasks.image.finetune import Finetune
from tasks.image.semi import Semi
from tasks.image.transfer import Transfer
from tests.tasks.photos import NAME, data_of, small_model, write_photos

SHORT: dict[str, Any] = {"epochs": 3, "warmup_epochs": 0.0, "batch": 8, "lr": 1e-3, "lr_per": 0}
PLAIN: dict[str, Any] = {
    "mixup": 0.0,
    "cutmix": 0.0,
    "smoothing": 0.0,
    "reprob": 0.0,
    "drop_path": 0.0,
    "auto_augment": "off",
}


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def data(photos: Path, tmp_path: Path) -> TaskData:
    return data_of(photos, tmp_path / "cache")


def run(data: TaskData, task: type[Task] = Finetune, **fields: Any) -> Outcome:
    return task(**{**SHORT, **fields}).run(small_model(), data)


def tuner(data: TaskData, **fields: Any) -> FineTuner:
    recipe = with_fields(PROTOCOLS["finetune_ibot"], {**SHORT, **fields}).for_width(384)
    train, test = data.pair()
    model = small_model()
    transform = data.eval_transform(model)
    batches = TrainBatches(train, recipe, transform.spec, data, recipe.batch)
    network = Classifier(model.backbone, recipe, 4, 32, torch.Generator().manual_seed(0))
    return FineTuner(network, recipe, batches, EvalImages(test, transform, data), data)


# ---------------------------------------------------------------- it learns


def test_twenty_steps_halve_the_loss_and_leave_the_checkpoint_alone(data: TaskData) -> None:
    model = small_model()
    before = weights_digest(model.backbone.vit.state_dict())
    fields = {**SHORT, **PLAIN, "epochs": 10, "batch": 16, "lr": 3e-3, "layer_decay": 1.0}
    outcome = Finetune(**fields).run(model, data)
    loss = outcome.extras["train_loss"]
    assert loss[0] == pytest.approx(np.log(4), abs=0.4)
    assert loss[-1] < loss[0] / 2
    assert Finetune().score(outcome)["top1"].value > 0.9
    assert weights_digest(model.backbone.vit.state_dict()) == before


def test_the_default_augmentation_learns_too(data: TaskData) -> None:
    outcome = run(data, epochs=8, lr=3e-3, layer_decay=1.0)
    assert Finetune().score(outcome)["top1"].value > 0.5
    assert outcome.extras["evaluated_epochs"].tolist() == [8]


def test_equal_seeds_give_equal_bytes_and_other_seeds_do_not(
    data: TaskData, tmp_path: Path
) -> None:
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        data.seed = seed
        run(data).save(tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "again").read_bytes()
    assert (tmp_path / "first").read_bytes() != (tmp_path / "other").read_bytes()


def test_a_batch_in_pieces_gives_the_gradient_of_the_whole(data: TaskData) -> None:
    found = []
    for size in (8, 3):
        data.batch_size = size
        tune = tuner(data)
        batch = next(iter(tune.batches.epoch(0)))
        tune.step(batch, 0, 0)
        found.append([p.grad.clone() for p in tune.network.network.parameters()])
    for whole, pieces in zip(*found, strict=True):
        torch.testing.assert_close(whole, pieces, rtol=1e-3, atol=1e-6)


def test_fields_reach_the_optimiser_and_the_mixing(data: TaskData) -> None:
    tune = tuner(data, beta2=0.95, weight_decay=0.2, mixup=0.3, cutmix=0.7, smoothing=0.4)
    assert {group["betas"] for group in tune.optimizer.param_groups} == {(0.9, 0.95)}
    assert {group["weight_decay"] for group in tune.optimizer.param_groups} == {0.0, 0.2}
    mixup = tune.batches._mixup
    assert (mixup.mixup_alpha, mixup.cutmix_alpha, mixup.label_smoothing) == (0.3, 0.7, 0.4)


def test_the_first_step_of_adam_moves_each_layer_by_its_own_rate(data: TaskData) -> None:
    tune = tuner(data, lr=1e-3, weight_decay=0.0, schedule="mae", head_std=0.02)
    network = tune.network.network
    before = copy.deepcopy(network.state_dict())
    tune.step(next(iter(tune.batches.epoch(0))), 0, 0)
    after = network.state_dict()
    moved = {name: float((after[name] - before[name]).abs().max()) for name in before}
    for name, group in layer_table(network, tune.recipe).items():
        assert moved[name] == pytest.approx(1e-3 * group.scale, rel=0.01), name


def test_selection_on_test_reports_the_best_epoch_and_says_so(data: TaskData) -> None:
    outcome = run(data, selection="test", eval_every=1, epochs=5, lr=3e-3)
    metrics = Finetune().score(outcome)
    assert metrics["top1"] == metrics["best_top1"]
    assert metrics["best_top1"].value == pytest.approx(outcome.extras["test_accuracy"].max())
    assert metrics["final_top1"].value == pytest.approx(outcome.extras["test_accuracy"][-1])
    assert any("selection=test" in text for text in warnings_of(outcome))
    assert outcome.extras["evaluated_epochs"].tolist() == [1, 2, 3, 4, 5]
    assert not warnings_of(run(data))


def test_of_equal_epochs_the_first_is_the_best() -> None:
    history, target = History(), torch.tensor([0, 1, 2])
    for epoch, guess in enumerate(([0, 0, 0], [0, 1, 0], [0, 0, 2], [1, 1, 1]), start=1):
        history.add(epoch, {"prediction": torch.tensor(guess)}, target)
    assert history.best["prediction"].tolist() == [0, 1, 0]
    assert history.final["prediction"].tolist() == [1, 1, 1]


def test_five_classes_or_fewer_have_no_top5(data: TaskData, tmp_path: Path) -> None:
    assert "top5" not in Finetune().score(run(data, epochs=1))
    more = data_of(write_photos(tmp_path / "more", classes=6, images=4, size_px=32), tmp_path / "c")
    assert 0 < Finetune().score(run(more, epochs=1))["top5"].value <= 1


# ---------------------------------------------------------------- the network


def test_maes_pooling_brings_a_new_norm_and_trains_no_old_one() -> None:
    recipe = PROTOCOLS["finetune_mae"].for_width(768)
    model = small_model()
    with torch.no_grad():
        model.backbone.vit.norm.weight.fill_(3.0)
    made = Classifier(model.backbone, recipe, 4, 32, torch.Generator().manual_seed(0)).eval()
    names = dict(made.network.named_parameters())
    assert torch.equal(names["fc_norm.weight"], torch.ones(48))
    assert "norm.weight" not in names
    images = torch.randn(2, 3, 32, 32)
    vit = model.backbone.vit
    tokens = model.backbone.tokens(images, norm=False).patches.flatten(1, 2)  # (b, n, d)
    pooled = torch.nn.functional.layer_norm(tokens.mean(1), (48,), eps=vit.norm.eps)
    expected = pooled @ names["head.weight"].T
    torch.testing.assert_close(made(images), expected, rtol=1e-4, atol=1e-8)


def test_positions_are_put_on_the_grid_of_the_images_once() -> None:
    recipe = PROTOCOLS["finetune_ibot"].for_width(384)
    model = small_model()
    made = Classifier(model.backbone, recipe, 4, 48, torch.Generator().manual_seed(0)).eval()
    assert made.network.pos_embed.shape == (1, 1 + 36, 48)
    assert model.backbone.vit.pos_embed.shape == (1, 1 + 16, 48)
    images = torch.randn(2, 3, 48, 48)
    expected = model.backbone.features(images, ("cls",))["cls"]
    torch.testing.assert_close(made.backbone.features(images, ("cls",))["cls"], expected)


def test_stochastic_depth_rises_with_depth_and_keeps_the_mean() -> None:
    recipe = with_fields(PROTOCOLS["finetune_mae"], {"drop_path": 0.3}).for_width(768)
    model = small_model(seeded_network("vit_mini_patch8_32", 0))
    made = Classifier(model.backbone, recipe, 4, 32, torch.Generator().manual_seed(0))
    assert [path.rate for path in made.paths] == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.3, 0.3])
    keep = draw_paths(made.paths, 20_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(keep.mean(dim=1), torch.ones(6), atol=0.03, rtol=0)
    assert keep[0].unique().tolist() == pytest.approx([0, 1 / 0.9])
    drop = SampleDrop(0.5)
    drop.keep = torch.tensor([0.0, 2.0])
    assert drop(torch.ones(2, 3)).tolist() == [[0.0] * 3, [2.0] * 3]
    assert drop.eval()(torch.ones(2, 3)).tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize("protocol", ["finetune_mae", "finetune_ibot"])
def test_a_swin_is_fine_tuned_through_the_same_loop(data: TaskData, protocol: str) -> None:
    model = small_model(seeded_network("swin_mini_patch2_window4_32", 0))
    outcome = Finetune(protocol=protocol, **SHORT | {"epochs": 1}).run(model, data)
    assert len(outcome) == 32


def test_a_backbone_without_the_token_is_refused(data: TaskData) -> None:
    arch = "vit_mini_patch8_32"
    network = seeded_network(arch, 0, class_token=False, global_pool="avg", depth=2)
    with pytest.raises(SpecError, match="token=avg_fcnorm"):
        Finetune(protocol="finetune_ibot", **SHORT).run(small_model(network), data)
    outcome = Finetune(**SHORT | {"epochs": 1}).run(small_model(network), data)
    assert len(outcome) == 32


# ---------------------------------------------------------------- batches


def batches_of(data: TaskData, batch: int = 8, **fields: Any) -> TrainBatches:
    recipe = with_fields(PROTOCOLS["finetune_mae"], fields).for_width(768)
    spec = data.eval_transform(small_model()).spec
    return TrainBatches(data.pair()[0], recipe, spec, data, batch)


def test_batches_do_not_depend_on_loader_processes_or_pieces(data: TaskData) -> None:
    found = []
    for size, workers in ((8, 0), (3, 2)):
        data.batch_size, data.workers = size, workers
        found.append([x for batch in batches_of(data).epoch(1) for x in batch])
    assert len(found[0]) == 8
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    again = next(iter(batches_of(data).epoch(2)))[0]
    assert not torch.equal(found[0][0], again)


def test_a_batch_that_is_trained_on_keeps_no_hold_of_the_generators(data: TaskData) -> None:
    batches = batches_of(data).epoch(0)
    next(batches)  # still open, as when a step fails on it
    drawn = threading.Event()

    def draw() -> None:
        with global_draws(0):
            drawn.set()

    threading.Thread(target=draw, daemon=True).start()
    assert drawn.wait(10)
    batches.close()


def test_one_coefficient_mixes_each_image_of_a_batch_with_its_mirror(data: TaskData) -> None:
    plain = {**PLAIN, "smoothing": 0.1}
    alone = next(iter(batches_of(data, **plain).epoch(0)))
    images, target = next(iter(batches_of(data, **plain | {"mixup": 0.8}).epoch(0)))
    torch.testing.assert_close(target.sum(1), torch.ones(8))
    difference = (alone[0] - alone[0].flip(0)).flatten()
    mixed = (images - alone[0].flip(0)).flatten()
    lam = float(mixed @ difference / (difference @ difference))
    assert 0 < lam < 1
    torch.testing.assert_close(images, lam * alone[0] + (1 - lam) * alone[0].flip(0))
    torch.testing.assert_close(target, lam * alone[1] + (1 - lam) * alone[1].flip(0))
    assert alone[1].unique().tolist() == pytest.approx([0.025, 0.925])


def test_cutmix_pastes_a_box_of_the_mirrored_image(data: TaskData) -> None:
    alone = next(iter(batches_of(data, **PLAIN).epoch(0)))[0]
    images, target = next(iter(batches_of(data, **PLAIN | {"cutmix": 1.0}).epoch(0)))
    pasted = (images == alone.flip(0)).all(dim=1)  # (b, h, w)
    kept = (images == alone).all(dim=1)
    assert bool((pasted | kept).all())
    share = float((~kept[0]).float().mean())
    assert 0 < share < 1
    assert float(target[0].max()) == pytest.approx(max(share, 1 - share), abs=1e-5)


def test_copies_of_an_image_are_augmented_apart(data: TaskData) -> None:
    fields = {**PLAIN, "repeats": 3}
    images, target = next(iter(batches_of(data, 6, **fields).epoch(0)))
    assert torch.equal(target[0], target[1])
    assert torch.equal(target[0], target[2])
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[1], images[2])


def test_each_epoch_has_its_own_order_and_its_own_views(data: TaskData) -> None:
    fields = {**PLAIN, "auto_augment": "rand-m9-mstd0.5-inc1"}
    batches = batches_of(data, batch=32, **fields)
    first, second = (next(iter(batches.epoch(epoch))) for epoch in (0, 1))
    assert not torch.equal(first[1].argmax(1), second[1].argmax(1))
    views = {image.numpy().tobytes() for image in first[0]}
    assert not any(image.numpy().tobytes() in views for image in second[0])


def test_odd_numbers_of_images_make_even_batches_with_a_warning(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos", classes=3, images=5, size_px=32)
    outcome = run(data_of(root, tmp_path / "cache"), epochs=1, batch=64)
    assert int(outcome.extras["batch"]) == 14
    assert "the batch of 64 exceeds an epoch of 15 training images" in warnings_of(outcome)[0]


def test_clipped_batches_scale_the_rate(data: TaskData) -> None:
    outcome = run(data, epochs=1, batch=1024, lr=1e-3, lr_per=256)
    assert float(outcome.extras["lr"]) == pytest.approx(1e-3 * 32 / 256)


def test_timms_draws_leave_the_global_generators_as_they_were() -> None:
    import random

    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    with global_draws(5):
        first = draws()
        rest = draws()
    with global_draws(5):
        assert draws() == first
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert rest != first
    outside = random.getstate()
    with global_draws(6):
        draws()
    assert random.getstate() == outside
    assert before[0] != outside


def test_images_are_cropped_augmented_and_erased_as_the_protocol_says() -> None:
    steps = repr(train_transform(PROTOCOLS["finetune_mae"], InputSpec(), 224).transforms)
    for step in (
        "RandomResizedCropAndInterpolation(size=(224, 224), scale=(0.08, 1.0), ",
        "interpolation=bicubic",
        "RandomHorizontalFlip(p=0.5)",
        "RandAugment(n=2, ",
        "m=9, mstd=0.5",
        "RandomErasing(p=0.25, mode=pixel, count=(1, 1))",
    ):
        assert step in steps
    assert "RandomErasing(p=0.1, " in repr(
        train_transform(
            with_fields(PROTOCOLS["transfer_deit"], TRANSFER["inat18"]), InputSpec(), 224
        ).transforms
    )


def test_small_images_are_shifted_and_not_cropped() -> None:
    image = Image.fromarray(np.full((32, 32, 3), 255, np.uint8))
    spec = small_model().backbone.input
    recipe = with_fields(PROTOCOLS["finetune_asl32"], PLAIN).for_width(384)
    borders = set()
    for number in range(40):
        with global_draws(number):
            view = train_transform(recipe, spec, 32)(image)
        white = (view > 0).all(dim=0)  # padding is black
        assert white.sum() >= 28 * 28
        borders.add(int(white.sum()))
    assert len(borders) > 5


def test_posterizing_to_no_bits_is_black_as_it_was_when_the_scripts_ran() -> None:
    recipe = with_fields(PROTOCOLS["finetune_mae"], {}).for_width(768)
    transform = train_transform(recipe, small_model().backbone.input, 32)
    (augment,) = [step for step in transform.transforms if hasattr(step, "ops")]
    (op,) = [op for op in augment.ops if op.name == "PosterizeIncreasing"]
    op.prob, op.magnitude, op.magnitude_std = 1.0, 10, 0
    image = Image.fromarray(np.full((8, 8, 3), 255, np.uint8))
    assert np.asarray(op(image)).max() == 0
    op.magnitude = 0
    assert np.asarray(op(image)).min() > 0


# ---------------------------------------------------------------- kill and resume


def keep_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.snapshot._SECONDS", 0.0)
    monkeypatch.setattr("bench.snapshot._SHARE", 1e9)


class Killed(Exception):
    """Stands for a kill in the middle of an epoch."""


def test_a_run_that_was_killed_gives_the_same_bytes(
    data: TaskData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"epochs": 4, "eval_every": 2, "selection": "test"}
    run(data, **fields).save(tmp_path / "whole.npz")
    data.workspace = tmp_path / "work"
    data.workspace.mkdir()
    step, seen = FineTuner.step, []

    def stepping(self: FineTuner, batch: Any, epoch: int, iteration: int) -> float:
        seen.append((epoch, iteration))
        if len(seen) == 11:
            raise Killed
        return step(self, batch, epoch, iteration)

    monkeypatch.setattr(FineTuner, "step", stepping)
    keep_every_epoch(monkeypatch)
    with pytest.raises(Killed):
        run(data, **fields)
    assert (data.workspace / STATE).is_file()
    run(data, **fields).save(tmp_path / "continued.npz")
    assert seen[10] == (2, 2)
    assert seen[11] == (2, 0)  # the epoch that was cut short, from its start
    assert (tmp_path / "whole.npz").read_bytes() == (tmp_path / "continued.npz").read_bytes()


def test_a_damaged_state_starts_anew(data: TaskData, tmp_path: Path) -> None:
    data.workspace = tmp_path
    (tmp_path / STATE).write_bytes(b"nothing")
    assert run(data).columns["prediction"].tolist() == run(data).columns["prediction"].tolist()


def test_states_that_would_cost_too_much_time_are_not_saved(
    data: TaskData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.workspace = tmp_path
    saved: list[int] = []
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, file: (saved.append(1), save(state, file)))
    run(data, epochs=4)
    assert not saved  # over within seconds
    monkeypatch.setattr("bench.snapshot._SECONDS", 0.0)
    monkeypatch.setattr("bench.snapshot._SHARE", 1e-9)
    run(data, epochs=4)
    assert len(saved) == 1


def test_a_full_disk_costs_the_resume_and_not_the_run(
    data: TaskData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.workspace = tmp_path

    def full(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full)
    keep_every_epoch(monkeypatch)
    assert len(run(data)) == 32
    assert not list(tmp_path.glob(f"{STATE}*"))


# ---------------------------------------------------------------- what users can do wrong


def test_a_loss_that_is_not_finite_stops_the_run(data: TaskData) -> None:
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) in epoch \d.*lower lr"):
        run(data, lr=1e30)


def test_a_last_step_that_diverges_gives_no_numbers(data: TaskData) -> None:
    with pytest.raises(TrainingError, match=r"scores that are not finite: lower lr"):
        run(data, lr=1e38, epochs=1, batch=32)  # its loss was finite before that step


def test_one_class_is_refused(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos", classes=1, size_px=32)
    with pytest.raises(DataError, match="the training images have 1: take a data set with two"):
        run(data_of(root, tmp_path / "cache"))


def test_other_classes_in_val_are_refused(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos", size_px=32, images=2)
    val = root / NAME / "val"
    (val / "class3").rename(val / "class9")
    with pytest.raises(DataError, match="class9"):
        run(data_of(root, tmp_path / "cache"))


def test_grey_images_are_read_as_colours(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos", size_px=32, images=4, mode="L")
    assert len(run(data_of(root, tmp_path / "cache"), epochs=1)) == 16


def test_unreadable_images_stop_the_run_or_are_left_out(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "photos", size_px=32, images=4)
    for split in ("train", "val"):
        (root / NAME / split / "class0" / "0.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"0\.png.*1 unreadable images so far, 0 allowed"):
        run(data_of(root, tmp_path / "cache"), epochs=1)
    data = data_of(root, tmp_path / "cache", skip_bad=1)
    outcome = run(data, epochs=2, batch=8)
    assert len(outcome) == 15
    assert "class0/0.png" not in outcome.columns["id"]
    assert len(data.skipped) == 2


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains_in_bf16(data: TaskData, precision: str) -> None:
    data.precision = precision
    outcome = run(data, **PLAIN, epochs=5, lr=3e-3, layer_decay=1.0)
    assert Finetune().score(outcome)["top1"].value > 0.6
    assert any("bf16" in text for text in warnings_of(outcome)) == (precision == "fp16")


# ---------------------------------------------------------------- semi and transfer


def head_of(dim: int = 48, hidden: int = 20) -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(dim, hidden), torch.nn.GELU())


def test_semi_starts_from_the_first_layer_of_the_projection_head(data: TaskData) -> None:
    first = head_of()
    model = small_model(head=first)
    recipe: FinetuneProtocol = PROTOCOLS["semi_ibot"]
    made = Classifier(model.backbone, recipe, 4, 32, torch.Generator().manual_seed(0)).eval()
    assert torch.equal(made.network.head[0][0].weight, first[0].weight)
    assert made.network.head[1].in_features == 20
    images = torch.randn(2, 3, 32, 32)
    cls = model.backbone.features(images, ("cls",))["cls"]
    expected = torch.nn.functional.gelu(first[0](cls)) @ made.network.head[1].weight.T
    torch.testing.assert_close(made(images), expected)
    before = first[0].weight.clone()
    outcome = Semi(**SHORT).run(model, data)
    assert not warnings_of(outcome)
    assert torch.equal(first[0].weight, before)
    assert not torch.equal(made.network.head[0][0].weight, torch.zeros(20, 48))


def test_semi_without_a_projection_head_says_so(data: TaskData) -> None:
    texts = warnings_of(run(data, Semi, epochs=1))
    assert any("no projection head" in text for text in texts)


def test_transfer_runs_with_repeated_augmentation(data: TaskData) -> None:
    outcome = run(data, Transfer, epochs=2)
    assert len(outcome) == 32
    assert any("no published numbers for mini_objects" in text for text in warnings_of(outcome))
