"""The first layer of the projection head: declared by methods, read from run folders."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.checkpoint import load_model
from bench.checkpoints.native import METHOD, write_checkpoint
from bench.errors import CheckpointError
from bench.network import seeded_network
from bench.plan import model_digest
from bench.transforms import InputSpec
from tests.trainers.tiny import tiny_method
from trainers.distillation import HEAD_LAYER
from trainers.methods.dino import DINO
from trainers.methods.ibot import iBOT
from trainers.methods.massl import MaSSL
from trainers.methods.sove import SOVE

ARCH = "vit_mini_patch4_32"


def written(folder: Path, state: dict[str, torch.Tensor] | None, **extras: Any) -> str:
    meta: dict[str, Any] = {"arch": ARCH, "input": InputSpec.of_size(32).to_json()}
    if extras:
        meta["extras"] = extras
    write_checkpoint(folder / "checkpoint", seeded_network(ARCH, 0), state, meta)
    return str(folder)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(96, 20), nn.GELU(), nn.Linear(20, 8))
    return {f"teacher.model.head.{name}": value for name, value in head.state_dict().items()}


def test_the_declared_layer_comes_with_its_gelu(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    backbone = load_model(written(tmp_path, state, **HEAD_LAYER)).backbone
    rows = torch.randn(3, 96)
    weight, bias = (state[f"teacher.model.head.0.{name}"] for name in ("weight", "bias"))
    expected = nn.functional.gelu(rows @ weight.T + bias)
    torch.testing.assert_close(backbone.extras["head"](rows), expected)


def test_checkpoints_without_a_declaration_are_the_models_they_were(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    alone = load_model(written(tmp_path / "a", None))
    beside = load_model(written(tmp_path / "b", state))
    declared = load_model(written(tmp_path / "c", state, **HEAD_LAYER))
    assert not alone.backbone.extras
    assert model_digest(alone) == model_digest(beside)
    assert model_digest(declared) != model_digest(alone)
    assert declared.record.weights == alone.record.weights  # so features are shared


@pytest.mark.parametrize("method", [DINO, iBOT, MaSSL, SOVE])
def test_methods_declare_the_layer_behind_their_class_token(method: type[Any]) -> None:
    made = tiny_method(method)
    layer = made.extras()["head"]["layer"]
    state = made.state_dict()
    first = made.teacher.model["head"][0]
    assert isinstance(made.teacher.model["head"][1], nn.GELU)
    assert torch.equal(state[f"{layer}.weight"], first.weight)
    assert torch.equal(state[f"{layer}.bias"], first.bias)


def test_a_folder_without_the_methods_file_gives_the_backbone(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    source = written(tmp_path, state, **HEAD_LAYER)
    (tmp_path / "checkpoint" / METHOD).unlink()
    assert not load_model(source).backbone.extras


def test_a_layer_that_is_not_there_is_named(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    source = written(tmp_path, state, head={"layer": "teacher.head.0"})
    with pytest.raises(CheckpointError, match=r"no linear layer 'teacher\.head\.0'.*extras"):
        load_model(source)
