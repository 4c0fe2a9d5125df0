"""Fine-tuning protocols: rates, layers and orders as the published code has them."""

import math

import numpy as np
import pytest
import torch

from bench.backbone import Backbone
from bench.errors import SpecError
from bench.network import seeded_network
from bench.spec import bind, parse
from bench.transforms import InputSpec
from tasks.finetune_batches import epoch_places
from tasks.finetune_network import Classifier, layer_table, parameter_groups
from tasks.finetune_protocols import PROTOCOLS, TRANSFER, FinetuneProtocol, Name
from tasks.image.finetune import Finetune
from tasks.image.semi import Semi
from tasks.image.transfer import Transfer


def classifier(recipe: FinetuneProtocol, arch: str = "vit_mini_patch8_32", **kwargs) -> Classifier:
    backbone = Backbone(seeded_network(arch, 0, **kwargs), InputSpec.of_size(32))
    return Classifier(backbone, recipe, 4, 32, torch.Generator().manual_seed(0))


# ---------------------------------------------------------------- numbers by size


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("finetune_mae", 768, (1e-3, 0.75, 100, 0.1)),
        ("finetune_mae", 1024, (1e-3, 0.75, 50, 0.2)),
        ("finetune_mae", 1280, (1e-3, 0.75, 50, 0.3)),
        ("finetune_mae_norm_pix", 768, (5e-4, 0.65, 100, 0.1)),
        ("finetune_mae_norm_pix", 1024, (1e-3, 0.75, 50, 0.2)),
        ("finetune_ibot", 384, (4e-3, 0.75, 200, 0.1)),
        ("finetune_ibot", 768, (4e-3, 0.65, 100, 0.2)),
        ("finetune_ibot", 1024, (4e-3, 0.75, 50, 0.4)),
        ("finetune_ab", 768, (1e-3, 0.75, 10, 0.1)),
        ("finetune_asl32", 384, (1e-3, 0.75, 100, 0.1)),
        ("semi_ibot", 384, (5e-6, 1.0, 1000, 0.1)),
        ("transfer_deit", 768, (7.5e-6, 1.0, 1000, 0.1)),
    ],
)
def test_sizes_have_their_published_numbers(name: Name, width: int, expected: tuple) -> None:
    recipe = PROTOCOLS[name].for_width(width)
    assert (recipe.lr, recipe.layer_decay, recipe.epochs, recipe.drop_path) == expected


def test_sizes_that_were_not_published_take_the_nearest() -> None:
    assert PROTOCOLS["finetune_ibot"].for_width(96).epochs == 200
    assert PROTOCOLS["finetune_ibot"].for_width(1280).epochs == 50
    assert PROTOCOLS["finetune_mae"].for_width(384).epochs == 100


def test_peak_rates_are_those_of_the_papers_batches() -> None:
    peaks = {name: PROTOCOLS[name].for_width(768) for name in PROTOCOLS}
    assert peaks["finetune_mae"].peak(1024) == pytest.approx(4e-3)
    assert peaks["finetune_ibot"].peak(1024) == peaks["finetune_ibot"].peak(64) == 4e-3
    assert peaks["semi_ibot"].peak(1024) == pytest.approx(1e-5)
    assert peaks["transfer_deit"].peak(768) == pytest.approx(1.125e-5)


# ---------------------------------------------------------------- schedules


def rates(recipe: FinetuneProtocol, iterations: int, batch: int = 1024) -> list[float]:
    return [
        recipe.lr_at(epoch, iteration, iterations, batch)
        for epoch in range(recipe.epochs)
        for iteration in range(iterations)
    ]


SHORT = {"epochs": 5, "warmup_epochs": 2.0, "lr": 4e-3, "lr_per": 0, "min_lr": 1e-6}
# Printed by the code of facebookresearch/mae (util/lr_sched.py) for 5 epochs of 4 iterations, 2 of
# them warm-up, and by bytedance/ibot's cosine_scheduler (classification_layer_decay/utils.py).
TAIL = [
    0.003931868689664992,
    0.0037321177948669857,
    0.0034143600089825018,
    0.00300025,
    0.0025180086806824904,
    0.0020005,
    0.0014829913193175098,
    0.00100075,
    0.0005866399910174983,
    0.0002688822051330148,
    6.913131033500812e-05,
]
MAE_RATES = [0.0, 5e-4, 1e-3, 1.5e-3, 2e-3, 2.5e-3, 3e-3, 3.5e-3, 4e-3, *TAIL]
BEIT_RATES = [*(4e-3 * i / 7 for i in range(8)), 4e-3, *TAIL]
# The rates of DeiT's epochs, by timm's CosineLRScheduler stepped as its script does, for 10 epochs,
# 3 of them warm-up from 1e-6, down to 1e-5: an epoch late, its cosine counted from the first epoch.
DEIT_RATES = [
    *(1e-6, 1e-6, 1e-6 + 9.9e-5 / 3, 1e-6 + 2 * 9.9e-5 / 3),
    *(1e-5 + 4.5e-5 * (1 + math.cos(math.pi * t / 10)) for t in range(3, 9)),
]


@pytest.mark.parametrize(("schedule", "golden"), [("mae", MAE_RATES), ("beit", BEIT_RATES)])
def test_rates_of_each_iteration_are_those_of_the_published_code(
    schedule: str, golden: list[float]
) -> None:
    recipe = FinetuneProtocol(token="cls", schedule=schedule, **SHORT)
    np.testing.assert_allclose(rates(recipe, 4), golden, rtol=1e-12)


def test_rates_of_deit_change_once_an_epoch_and_an_epoch_late() -> None:
    recipe = FinetuneProtocol(
        token="cls",
        schedule="deit",
        lr=1e-4,
        lr_per=0,
        epochs=10,
        warmup_epochs=3.0,
        warmup_lr=1e-6,
        min_lr=1e-5,
    )
    found = np.array(rates(recipe, 7)).reshape(10, 7)
    np.testing.assert_allclose(found, np.array(DEIT_RATES)[:, None].repeat(7, 1), rtol=1e-12)


def test_semi_is_flat_after_its_warm_up() -> None:
    found = np.array(rates(PROTOCOLS["semi_ibot"], 1))
    np.testing.assert_allclose(found[6:], 1e-5, rtol=1e-12)
    np.testing.assert_allclose(found[:6], [1e-6, 1e-6, 2.8e-6, 4.6e-6, 6.4e-6, 8.2e-6], rtol=1e-12)


# ---------------------------------------------------------------- layers

# scale and weight decay by facebookresearch/mae's param_groups_lrd (util/lr_decay.py) on a ViT of
# depth 2 with decay .75 and fc_norm; those of bytedance/ibot's optim_factory are the same numbers.
MAE_GROUPS = {
    "cls_token": (0.421875, 0.0),
    "pos_embed": (0.421875, 0.0),
    "patch_embed.proj.bias": (0.421875, 0.0),
    "patch_embed.proj.weight": (0.421875, 0.05),
    "blocks.0.norm1.weight": (0.5625, 0.0),
    "blocks.0.norm2.bias": (0.5625, 0.0),
    "blocks.0.attn.qkv.bias": (0.5625, 0.0),
    "blocks.0.attn.qkv.weight": (0.5625, 0.05),
    "blocks.0.mlp.fc2.weight": (0.5625, 0.05),
    "blocks.1.norm1.weight": (0.75, 0.0),
    "blocks.1.attn.proj.weight": (0.75, 0.05),
    "blocks.1.mlp.fc1.bias": (0.75, 0.0),
    "fc_norm.weight": (1.0, 0.0),
    "fc_norm.bias": (1.0, 0.0),
    "head.bias": (1.0, 0.0),
    "head.weight": (1.0, 0.05),
}


def test_layer_groups_are_those_of_maes_code() -> None:
    network = classifier(PROTOCOLS["finetune_mae"].for_width(768), depth=2).network
    table = layer_table(network, PROTOCOLS["finetune_mae"])
    for name, expected in MAE_GROUPS.items():
        assert table[name] == pytest.approx(expected), name
    assert len(table) == 32
    assert not any(name.startswith("norm.") for name in table)
    groups = parameter_groups(network, PROTOCOLS["finetune_mae"])
    assert sum(len(group["params"]) for group in groups) == len(table)


def test_the_last_norm_of_a_cls_model_moves_with_the_head() -> None:
    recipe = PROTOCOLS["finetune_ibot"].for_width(768)
    table = layer_table(classifier(recipe, depth=2).network, recipe)
    assert table["norm.weight"] == (1.0, 0.0)
    assert table["blocks.0.mlp.fc1.weight"] == pytest.approx((0.65**2, 0.05))


def test_swin_counts_blocks_through_all_stages() -> None:
    recipe = PROTOCOLS["finetune_ibot"].for_width(768)  # decay .65
    table = layer_table(classifier(recipe, "swin_mini_patch2_window4_32").network, recipe)
    # By bytedance/ibot's get_num_layer_for_swin for depths (2, 2, 2, 2), with the names of its
    # Swin, whose merging ends a stage instead of beginning the next.
    expected = {
        "patch_embed.proj.weight": 9,
        "layers.0.blocks.0.mlp.fc1.weight": 8,
        "layers.0.blocks.1.mlp.fc1.weight": 7,
        "layers.1.downsample.reduction.weight": 7,
        "layers.1.blocks.0.mlp.fc1.weight": 6,
        "layers.3.blocks.1.attn.relative_position_bias_table": 1,
        "norm.weight": 0,
        "head.weight": 0,
    }
    for name, power in expected.items():
        assert table[name].scale == pytest.approx(0.65**power), name


def test_deits_script_decays_positions() -> None:
    recipe = PROTOCOLS["transfer_deit"]
    table = layer_table(classifier(recipe).network, recipe)
    assert {group.scale for group in table.values()} == {1.0}
    assert table["pos_embed"].weight_decay == table["cls_token"].weight_decay == 0.05
    assert table["norm.weight"].weight_decay == 0.0


# ---------------------------------------------------------------- order of images


def repeated_augmentation(images: int, processes: int, order: np.ndarray) -> np.ndarray:
    """What DeiT's RASampler gives to all processes together, in the order of time."""
    repeated = [row for row in order for _ in range(3)]
    share = images // 256 * 256 // processes
    return np.stack([repeated[rank::processes][:share] for rank in range(processes)], 1).ravel()


def test_repeated_augmentation_is_that_of_deit_over_all_its_processes() -> None:
    places = epoch_places(1000, 128, 3, seed=2, epoch=4)
    order = np.random.default_rng((2, 4)).permutation(1000)
    np.testing.assert_array_equal(places[..., 1].ravel(), repeated_augmentation(1000, 8, order))
    np.testing.assert_array_equal(places[..., 0].ravel(), np.arange(768) % 3)
    assert len(set(places[..., 1].ravel())) == 256


def test_few_images_are_not_cut_to_256() -> None:
    assert epoch_places(40, 20, 3, 0, 0).shape == (2, 20, 2)


def test_an_epoch_sees_each_image_once_but_for_an_incomplete_batch() -> None:
    one, two = (epoch_places(50, 8, 1, 0, epoch)[..., 1].ravel() for epoch in (0, 1))
    assert len(one) == len(set(one)) == 48
    assert one.tolist() != two.tolist()


# ---------------------------------------------------------------- fields


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("finetune@x?epochs=5", "warmup_epochs=5 must be below epochs=5; set both"),
        ("finetune@x?batch=7", "must be even"),
        ("finetune@x?lr=0", "lr=0 must be above 0"),
        ("finetune@x?lr_per=-1", "lr_per=-1"),
        ("finetune@x?layer_decay=1.5", "layer_decay=1.5"),
        ("finetune@x?drop_path=1", "drop_path=1"),
        ("finetune@x?smoothing=1", "smoothing=1"),
        ("finetune@x?reprob=2", "reprob=2"),
        ("finetune@x?mixup=-1", "mixup and cutmix"),
        ("finetune@x?min_lr=-1", "rates"),
        ("finetune@x?repeats=0", "repeats=0"),
        ("finetune@x?eval_every=0", "eval_every=0"),
        ("finetune@x?auto_augment=strong", "auto_augment=strong"),
        ("semi@x?epochs=3", "semi_ibot"),
        ("transfer@x?epochs=3", "transfer_deit"),
    ],
)
def test_wrong_fields_are_refused_when_the_task_is_made(text: str, why: str) -> None:
    spec = parse(text)
    cls = {"finetune": Finetune, "semi": Semi, "transfer": Transfer}[spec.name]
    with pytest.raises(SpecError, match=why):
        bind(cls, dict(spec.options))


def test_transfer_chooses_by_the_name_of_the_data_set() -> None:
    def chosen(text: str, width: int = 768) -> tuple[FinetuneProtocol, list[str]]:
        data = type("Data", (), {"parts": parse(f"transfer@{text}").dataset})()
        recipe, notes = Transfer().choose(data)
        return recipe.for_width(width), notes

    assert set(TRANSFER) == {"cifar10", "cifar100", "flowers102", "cars", "inat18", "inat19"}
    assert chosen("cifar10[n=100]") == chosen("flowers102")
    assert chosen("cars")[0].lr == 7.5e-5
    assert (chosen("inat18")[0].lr, chosen("inat18", 384)[0].lr) == (7.5e-6, 5e-5)
    assert (chosen("inat19")[0].lr, chosen("inat19", 384)[0].lr) == (7.5e-6, 2.5e-5)
    assert (chosen("inat19")[0].epochs, chosen("inat19")[0].reprob) == (360, 0.1)
    assert chosen("cifar10")[1] == []
    recipe, notes = chosen("pets")
    assert recipe == chosen("cifar10")[0]
    assert "no published numbers for pets" in notes[0]
