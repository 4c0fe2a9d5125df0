"""Tests of costs against formulas of their own, and against a real run."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import costs
from bench.errors import DataError, SpecError
from bench.spec import parse_dataset
from trainers.loop import train
from trainers.state import KEPT_STATES

SMALL = "preset=small&arch=vit_mini_patch4_32&batch_size=16&epochs=1&workers=0&save_seconds=0"


def vit_macs(width: int, depth: int, tokens: int, patch: int) -> int:
    """Multiplications of a ViT's forward pass by its matrices, written down from the paper.

    A block has 12 width^2 weights for each token and two products of tokens x tokens x width.
    """
    blocks = depth * (12 * width**2 * tokens + 2 * tokens**2 * width)
    return blocks + 3 * patch**2 * width * (tokens - 1)


@pytest.mark.parametrize(
    ("arch", "shape"),
    [
        ("vit_mini_patch4_32", (96, 4, 65, 4)),
        ("vit_small_patch16_224", (384, 12, 197, 16)),
        ("vit_base_patch16_224", (768, 12, 197, 16)),
        ("vit_large_patch16_224", (1024, 24, 197, 16)),
    ],
)
def test_a_forward_pass_costs_what_its_matrices_do(
    arch: str, shape: tuple[int, int, int, int]
) -> None:
    found = costs.forward(arch)
    assert found.flops == 2 * vit_macs(*shape)
    assert found.features == 6 * shape[0] * 2


def test_a_swin_has_a_cost_and_what_is_no_architecture_none() -> None:
    # 4.5 GMACs in the paper's Table 1.
    assert costs.forward("swin_tiny_patch4_window7_224").flops / 2 == pytest.approx(4.5e9, rel=0.05)
    with pytest.raises(SpecError, match="vit_nothing"):
        costs.forward("vit_nothing")


@pytest.mark.parametrize("method", ["mae", "dino", "slotmim"])
def test_a_run_costs_what_was_estimated(method: str, mini: Path, tmp_path: Path) -> None:
    spec = f"{method}@mini_objects[n=48,seed=0]?{SMALL}"
    cost = costs.run_cost(spec, 48)
    folder = train(spec, tmp_path / "run", data=mini)
    card = json.loads((folder / "checkpoint" / "checkpoint.json").read_text())
    assert card["pretrain"]["flops"] == cost.flops
    assert card["pretrain"]["steps"] == cost.steps == 3
    assert (cost.arch, cost.images) == ("vit_mini_patch4_32", 48)
    states = list((folder / "state").iterdir())
    assert len(states) == KEPT_STATES
    tensors = [*states, *(folder / "checkpoint").glob("*.safetensors")]
    assert sum(p.stat().st_size for p in tensors) == pytest.approx(cost.disk, rel=0.1)


def test_cost_grows_with_steps_and_not_with_the_seed() -> None:
    spec = f"mae@mini_objects?{SMALL}"
    one = costs.run_cost(spec, 48)
    assert costs.run_cost(f"{spec}&seed=3", 48) == one
    twice = costs.run_cost(spec, 96)
    assert twice == replace(one, images=96, steps=6, flops=2 * one.flops)


def test_what_cannot_be_trained_has_no_cost() -> None:
    with pytest.raises(DataError, match="fewer than one batch"):
        costs.run_cost(f"mae@mini_objects?{SMALL}", 15)
    with pytest.raises(SpecError, match="did you mean 'dino'"):
        costs.run_cost("dinno@mini_objects", 100)


def test_hours_follow_the_peak_of_the_gpu() -> None:
    hours = {gpu: costs.gpu_hours(1e20, gpu) for gpu in costs.PEAKS}
    assert hours["h100"] == pytest.approx(1e20 / 989.5e12 / 0.35 / 3600)
    assert sorted(hours, key=hours.__getitem__)[-1] == "v100"
    with pytest.raises(SpecError, match="did you mean 'h100'"):
        costs.gpu_hours(1, "H-100")


@pytest.mark.parametrize(
    ("text", "train_images", "val_images"),
    [
        ("imagenet1k", 1_281_167, 50_000),
        ("imagenet1k[n=1000,seed=3]", 1000, 50_000),
        ("imagenet1k[n=9000000]", 1_281_167, 50_000),
        ("imagenet1k[val_n=500]", 1_281_167, 500),
        ("coco+coco[split=unlabeled]", 118_287 + 123_403, 5000),
        ("imagenet1k[list=few.txt]", None, 50_000),
        ("imagenet1k[classes=hundred.txt]", None, None),
        ("voc2012[masks=aug]", None, None),
        ("folder[path=images]", None, None),
        ("coco+mini_objects", None, None),
    ],
)
def test_official_counts_are_those_of_what_is_asked_for(
    text: str, train_images: int | None, val_images: int | None
) -> None:
    parts = parse_dataset(text)
    assert costs.official_images(parts, "train") == train_images
    assert costs.official_images(parts, "val") == val_images


def test_costs_are_told_without_torch_until_a_network_is_asked_for() -> None:
    code = (
        "import sys, bench.costs as c; c.gpu_hours(1.0, 'a100'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
