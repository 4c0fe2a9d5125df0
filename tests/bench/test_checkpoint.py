"""Checkpoints: every tensor accounted for, every misfit refused in one line, nothing executed."""

import argparse
import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bench.backbone import weights_digest
from bench.checkpoint import (
    NOT_BACKBONE,
    find_tensors,
    load_model,
    load_tensors,
    safe_torch_load,
    split_source,
    strip_prefixes,
)
from bench.checkpoints.native import read_card, write_checkpoint
from bench.errors import CheckpointError, SpecError, SSLBenchError, StoreError
from bench.network import empty_network, seeded_network

ARCH = "vit_mini_patch4_32"
META = {"arch": ARCH, "method": "dino", "input": {"size_px": 32, "crop_pct": 1.0}}


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """The tensors of a mini ViT."""
    return dict(seeded_network(ARCH, 0).state_dict())


def refusal(state, match: str, arch: str = ARCH, **options) -> str:
    """The one-line message with which the tensors are refused; the module stays as it was."""
    vit = seeded_network(arch, 9)
    before = weights_digest(vit.state_dict())
    with pytest.raises(CheckpointError, match=match) as caught:
        load_tensors(vit, state, source="x.pth", **options)
    assert weights_digest(vit.state_dict()) == before
    message = str(caught.value)
    assert "\n" not in message
    return message


# Tensors into modules


@pytest.mark.parametrize("make", [lambda: seeded_network(ARCH, 5), lambda: empty_network(ARCH)])
def test_a_whole_state_is_loaded_and_counted(state, make):
    vit = make()
    report = load_tensors(vit, state)
    assert report.complete
    assert (report.loaded, report.total) == (len(state), len(state))
    assert weights_digest(vit.state_dict()) == weights_digest(state)
    vit(torch.zeros(1, 3, 32, 32))


def test_a_loaded_module_does_not_share_memory_with_the_file(state):
    vit = empty_network(ARCH)
    load_tensors(vit, state)
    state["norm.weight"].zero_()
    assert vit.norm.weight.abs().sum() > 0
    assert vit.norm.weight.requires_grad


def test_half_precision_files_are_cast_to_the_module(state):
    for vit in (empty_network(ARCH), seeded_network(ARCH, 3)):
        load_tensors(vit, {name: tensor.half() for name, tensor in state.items()})
        assert vit.norm.weight.dtype == torch.float32
        assert torch.equal(vit.pos_embed, state["pos_embed"].half().float())


def test_a_foreign_prefix_is_named(state):
    message = refusal({f"module.{k}": v for k, v in state.items()}, "0 of 54 tensors fit")
    assert "cls_token (1, 1, 96) is missing" in message
    assert "module.cls_token (1, 1, 96) has no place" in message
    assert "and 103 more" in message
    assert message.count("(") - 1 == 5  # five tensors are named
    assert "start with 'module.'" in message


def test_a_wrong_shape_is_named_with_both_shapes(state):
    message = refusal(state, "53 of 54", arch="vit_mini_patch4_64")
    assert "pos_embed is (1, 65, 96), expected (1, 257, 96)" in message
    assert "another architecture, patch or image size" in message


def test_a_half_empty_file_is_refused(state):
    message = refusal(dict(list(state.items())[:27]), "27 of 54 tensors fit")
    assert message.count("is missing") == 5
    assert "and 22 more" in message
    assert "incomplete" in message
    refusal({}, "0 of 54")


def test_one_missing_tensor_is_refused_unless_it_is_allowed(state):
    del state["norm.bias"]
    refusal(state, r"norm.bias \(96,\) is missing")
    vit = seeded_network(ARCH, 9)
    report = load_tensors(vit, state, allow_missing={"norm.bias": "the method has none"})
    assert report.missing == {"norm.bias": "the method has none"}
    assert (report.loaded, report.total, report.complete) == (53, 54, False)
    with pytest.raises(CheckpointError, match=r"no values for norm\.bias"):
        load_tensors(empty_network(ARCH), state, allow_missing=["norm.*"])


def test_more_blocks_than_the_architecture_has_are_refused(state):
    state |= {"blocks.4.norm1.weight": torch.ones(96)}
    assert "holds more than" in refusal(state, r"blocks.4.norm1.weight \(96,\) has no place")


def test_known_extras_are_dropped_with_their_reason(state):
    state |= {"head.weight": torch.ones(10, 96), "mask_token": torch.zeros(1, 1, 96)}
    state |= {"decoder_blocks.0.norm1.weight": torch.ones(4), "header": torch.ones(1)}
    refusal(state, r"header \(1,\) has no place", allow_unexpected=NOT_BACKBONE)
    del state["header"]
    report = load_tensors(empty_network(ARCH), state, allow_unexpected=NOT_BACKBONE)
    assert set(report.dropped) == {"head.weight", "mask_token", "decoder_blocks.0.norm1.weight"}
    assert report.dropped["head.weight"] == NOT_BACKBONE["head"]
    assert report.complete


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(state, value):
    state["blocks.2.mlp.fc1.bias"][3] = value
    refusal(state, "blocks.2.mlp.fc1.bias has values that are not finite")


def test_prefixes_are_cut_and_branches_do_not_collide(state):
    wrapped = {f"module.backbone.{k}": v for k, v in state.items()}
    assert strip_prefixes(wrapped, ["backbone.", "module."]).keys() == state.keys()
    with pytest.raises(CheckpointError, match="choose one branch"):
        strip_prefixes(
            wrapped | {f"backbone.{k}": v for k, v in state.items()}, ["module.", "backbone."]
        )


def test_tensors_are_found_under_their_key(state):
    payload = {"epoch": 3, "model": state, "args": argparse.Namespace()}
    assert find_tensors(payload).keys() == state.keys()
    assert find_tensors(state).keys() == state.keys()
    with pytest.raises(CheckpointError, match=r"it holds epoch, args"):
        find_tensors({"epoch": 3, "args": None}, source="x.pth")


# Files


@pytest.mark.parametrize("new_format", [True, False])
def test_old_checkpoints_with_arguments_and_numpy_scalars_are_read(tmp_path, state, new_format):
    args = argparse.Namespace(lr=np.float64(0.5), seed=np.int64(3), flag=np.bool_(True), name="x")
    payload = {"teacher": state, "args": args, "loss": np.float32(1.5), "epoch": 3}
    torch.save(payload, tmp_path / "a.pth", _use_new_zipfile_serialization=new_format)
    read = safe_torch_load(tmp_path / "a.pth")
    assert read["args"] == args
    assert read["loss"] == np.float32(1.5)
    assert weights_digest(read["teacher"]) == weights_digest(state)


def test_the_names_of_both_numpy_generations_are_known(tmp_path):
    # The format without a zip is a row of pickles, which can be written by hand.
    payload = pickle.dumps({"loss": np.float64(2.5)}, protocol=2)
    assert b"numpy._core.multiarray" in payload
    with open(tmp_path / "old.pth", "wb") as stream:
        for part in (
            0x1950A86A20F9469CFC6C,
            1001,
            {"little_endian": True, "protocol_version": 1001},
        ):
            pickle.dump(part, stream, protocol=2)
        stream.write(payload.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
        pickle.dump([], stream, protocol=2)
    assert safe_torch_load(tmp_path / "old.pth") == {"loss": 2.5}


class Bomb:
    """Runs a command when it is unpickled the usual way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("new_format", [True, False])
def test_malicious_pickles_are_refused_and_not_run(tmp_path, state, new_format):
    payload = {"model": state, "args": Bomb(tmp_path / "ran")}
    torch.save(payload, tmp_path / "bad.pth", _use_new_zipfile_serialization=new_format)
    with pytest.raises(CheckpointError, match=r"posix\.system.*refused") as caught:
        safe_torch_load(tmp_path / "bad.pth")
    assert "weights_only=False" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("a.pth", b"<!DOCTYPE html><html>404</html>", "web page"),
        ("a.pth", b"", "damaged or cut short"),
        ("a.pth", b"PK\x03\x04 cut", "damaged or cut short"),
        ("a.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "damaged or cut short"),
        ("a.safetensors", b"<html>", "web page"),
    ],
)
def test_files_that_are_no_checkpoints_say_what_they_are(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        safe_torch_load(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused(tmp_path, state):
    for suffix, save in (("pth", torch.save), ("safetensors", save_file)):
        path = tmp_path / f"a.{suffix}"
        save(state, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(CheckpointError, match="damaged or cut short"):
            safe_torch_load(path)
    with pytest.raises(CheckpointError, match="is not a file"):
        safe_torch_load(tmp_path / "absent.pth")


# Sources


def test_sources_are_split_into_name_and_options():
    assert split_source("random:a?seed=1", ["seed"]) == ("a", {"seed": "1"})
    assert split_source("runs/x") == ("runs/x", {})
    assert split_source("C:/runs/x") == ("C:/runs/x", {})
    with pytest.raises(CheckpointError, match="no option 'sed'; did you mean 'seed'"):
        split_source("random:a?sed=1", ["seed"])
    with pytest.raises(CheckpointError, match="no option"):
        split_source("runs/x?seed=1")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("rand:x", "did you mean 'random'"),
        ("runs/absent", "there is no runs/absent"),
        ("random:vit_mini_patch4_32?seed=x", "whole number"),
        ("random:vit_mni_patch4_32", "did you mean"),
        ("timm:vit_tiny_patch16_244?pretrained=false", "did you mean 'vit_tiny_patch16_224'"),
        ("timm:resnet18?pretrained=false", "plain VisionTransformer"),
        ("timm:resnet18", "plain VisionTransformer"),
        ("timm:vit_tiny_patch16_224?pretrained=no", "pretrained=true|false"),
    ],
)
def test_sources_that_are_none_get_advice(source, message):
    with pytest.raises(SSLBenchError, match=message) as caught:
        load_model(source)
    assert isinstance(caught.value, (CheckpointError, SpecError))
    assert "\n" not in str(caught.value)


def test_a_file_that_no_family_claims_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(CheckpointError, match="no checkpoint family knows the layout of"):
        load_model(str(tmp_path / "notes.txt"))


# random


def test_random_weights_are_reproducible_and_leave_the_global_generators():
    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    np.random.seed(7)
    before = np.random.get_state()[1].copy()
    first = load_model(f"random:{ARCH}")
    assert torch.equal(torch.rand(4), expected)
    assert np.array_equal(np.random.get_state()[1], before)
    again, other = load_model(f"random:{ARCH}?seed=0"), load_model(f"random:{ARCH}?seed=1")
    assert first.record.weights == again.record.weights != other.record.weights
    assert first.record.name == f"random-{ARCH}-seed0"
    assert first.record.family == "random"
    assert not first.backbone.training
    assert (first.report.loaded, first.report.total) == (0, 54)


def test_the_parameters_of_the_evaluated_network_are_counted():
    dim, tokens = 96, 65  # 8 x 8 patches and the class token
    attention = (3 * dim + dim) * (dim + 1)
    block = 2 * 2 * dim + attention + 4 * dim * (dim + 1) + dim * (4 * dim + 1)
    counted = dim * (3 * 4 * 4 + 1) + dim + tokens * dim + 4 * block + 2 * dim
    assert load_model(f"random:{ARCH}").record.parameters == counted


def test_random_weights_are_the_same_in_another_process():
    load = f"load_model('random:{ARCH}').record.weights"
    script = f"from bench.checkpoint import load_model; print({load})"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == load_model(f"random:{ARCH}").record.weights


# timm


def test_timm_random_weights_and_input_contract():
    model = load_model("timm:vit_tiny_patch16_224?pretrained=false&seed=1")
    assert model.record.input["mean"] == [0.5, 0.5, 0.5]  # the default tag is AugReg's
    assert model.record.input["crop_pct"] == 0.9
    assert model.record.weights == load_model(model.record.source).record.weights
    assert model.report.loaded == 0


def test_timm_weights_from_a_file_need_no_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("timm.models._builder.load_pretrained", None)
    torch.manual_seed(0)
    reference = timm.create_model("vit_tiny_patch16_224.augreg_in21k", num_classes=10)
    torch.save({"state_dict": reference.state_dict(), "epoch": 3}, tmp_path / "w.pth")
    model = load_model(f"timm:vit_tiny_patch16_224.augreg_in21k?file={tmp_path / 'w.pth'}")
    assert model.report.complete
    assert set(model.report.dropped) == {"head.weight", "head.bias"}
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected = reference.eval().forward_features(images)[:, 0]
        torch.testing.assert_close(model.backbone.tokens(images).cls, expected)
    with pytest.raises(CheckpointError, match="tensors fit"):
        load_model(f"timm:vit_small_patch16_224?file={tmp_path / 'w.pth'}")


def test_a_hub_that_cannot_be_reached_gives_one_line_of_advice(monkeypatch):
    original = timm.create_model

    def offline(name, pretrained=False, **kwargs):
        if pretrained:
            raise ConnectionError("Max retries exceeded\nwith url: /api\nNameResolutionError")
        return original(name, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(CheckpointError, match=r"Max retries.*\?file=PATH") as caught:
        load_model("timm:vit_tiny_patch16_224.augreg_in21k")
    assert "\n" not in str(caught.value)


def test_hub_weights_are_loaded_strictly_and_lose_their_head(monkeypatch):
    original, asked = timm.create_model, []

    def from_hub(name, pretrained=False, **kwargs):
        asked.append((pretrained, kwargs))
        return original(name, **kwargs)

    monkeypatch.setattr(timm, "create_model", from_hub)
    model = load_model("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    assert asked[-1] == (True, {})  # with num_classes timm would load leniently
    assert set(model.report.dropped) == {"head.weight", "head.bias"}
    assert isinstance(model.backbone.vit.head, nn.Identity)
    assert model.report.complete


# native


@pytest.fixture
def run(tmp_path, state) -> Path:
    """A run folder with a checkpoint."""
    vit = empty_network(ARCH)
    load_tensors(vit, state)
    meta = META | {"pretrain": {"dataset": "mini", "epochs": 3.0, "flops": None}, "name": "mine"}
    write_checkpoint(tmp_path / "run" / "checkpoint", vit, {"head.weight": torch.ones(3)}, meta)
    return tmp_path / "run"


def test_native_checkpoints_come_back_from_run_and_checkpoint_folder(run, state):
    for source in (run, run / "checkpoint", f"native:{run}"):
        model = load_model(str(source))
        assert model.record.weights == weights_digest(state)
        assert (model.record.name, model.record.method) == ("mine", "dino")
        assert model.record.family == "native"
        assert model.record.pretrain == {"dataset": "mini", "epochs": 3.0, "flops": None}
        assert model.backbone.input.size_px == 32
        assert model.backbone.input.crop_pct == 1.0
        assert model.report.complete
        assert not model.backbone.training
    assert sorted(os.listdir(run)) == ["checkpoint"]


def test_native_tensors_load_into_plain_timm(run):
    name = "vit_tiny_patch16_224"
    write_checkpoint(run / "t", seeded_network(name, 0), None, {"arch": name})
    plain = timm.create_model(name, num_classes=0)
    plain.load_state_dict(load_file(run / "t" / "backbone.safetensors"), strict=True)
    model = load_model(str(run / "t"))
    assert model.record.name == "t"
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = plain.eval().forward_features(images)
        torch.testing.assert_close(model.backbone.tokens(images).cls, expected[:, 0])


def test_architecture_arguments_and_position_convention_are_kept(run):
    kwargs = {"reg_tokens": 2, "init_values": 0.1}
    vit = seeded_network(ARCH, 0, **kwargs)
    write_checkpoint(run / "r", vit, None, META | {"arch_kwargs": kwargs, "pos_interp": "dino"})
    backbone = load_model(str(run / "r")).backbone
    assert backbone.pos_interp == "dino"
    assert backbone.vit.num_reg_tokens == 2
    with pytest.raises(CheckpointError, match=r"gamma \(96,\), built absent.* 'arch_kwargs'"):
        write_checkpoint(run / "bad", vit, None, META)
    assert not (run / "bad").exists()


def test_prototypes_are_rebuilt_from_the_method_state(run, state):
    projector = nn.Sequential(nn.Linear(96, 16), nn.GELU(), nn.Linear(16, 8))
    method = {f"teacher.projector.{k}": v for k, v in projector.state_dict().items()}
    method["teacher.prototypes"] = torch.randn(5, 8)
    proto = {"projector": "teacher.projector", "prototypes": "teacher.prototypes"}
    vit = empty_network(ARCH)
    load_tensors(vit, state)
    write_checkpoint(run / "p", vit, method, META | {"extras": {"proto": proto}})
    backbone = load_model(str(run / "p")).backbone
    with torch.no_grad():
        found = backbone.features(torch.randn(2, 3, 32, 32), ["proto"])["proto"]
    assert found.shape == (2, 8, 8, 5)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 8, 8))


def test_a_checkpoint_whose_files_do_not_belong_together_is_refused(run, state):
    state["norm.bias"] = state["norm.bias"] + 1
    save_file(state, run / "checkpoint" / "backbone.safetensors")
    with pytest.raises(CheckpointError, match="of different runs or damaged"):
        load_model(str(run))


def test_broken_and_newer_cards_are_refused(run):
    path = run / "checkpoint" / "checkpoint.json"
    card = json.loads(path.read_text())
    assert card["schema"] == 1
    assert {"arch_kwargs", "eval_branch", "pos_interp", "weights", "input"} <= card.keys()
    path.write_text(json.dumps(card | {"schema": 2}))
    with pytest.raises(CheckpointError, match="pip install --upgrade"):
        load_model(str(run))
    path.write_text(json.dumps({"schema": 1}))
    with pytest.raises(CheckpointError, match="lacks arch, weights"):
        load_model(str(run))
    path.write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_card(run / "checkpoint")
    with pytest.raises(CheckpointError, match="did you mean 'method'"):
        write_checkpoint(run / "x", seeded_network(ARCH, 0), None, META | {"metod": "dino"})
    with pytest.raises(CheckpointError, match="needs 'arch'"):
        write_checkpoint(run / "x", seeded_network(ARCH, 0), None, {})


def test_writing_again_replaces_the_checkpoint_and_leaves_nothing_behind(run):
    write_checkpoint(run / "checkpoint", seeded_network(ARCH, 8), None, META)
    assert load_model(str(run)).record.weights == weights_digest(
        seeded_network(ARCH, 8).state_dict()
    )
    assert sorted(os.listdir(run / "checkpoint")) == ["backbone.safetensors", "checkpoint.json"]
    assert sorted(os.listdir(run)) == ["checkpoint"]


@pytest.mark.parametrize("step", [1, 2])
def test_a_writer_killed_at_either_rename_leaves_a_whole_checkpoint(run, state, step):
    script = f"""
import os, signal, sys
from pathlib import Path
from bench.checkpoints import native
from bench.network import seeded_network
renames, original = [], os.rename
def rename(a, b):
    renames.append(a)
    if len(renames) == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    original(a, b)
os.rename = rename
folder, network = Path({str(run / "checkpoint")!r}), seeded_network({ARCH!r}, 8)
native.write_checkpoint(folder, network, None, {META!r})
"""
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert load_model(str(run)).record.weights == weights_digest(state)
    write_checkpoint(run / "checkpoint", seeded_network(ARCH, 8), None, META)
    assert load_model(str(run)).record.weights != weights_digest(state)
    assert sorted(os.listdir(run)) == ["checkpoint"]


def test_a_failed_write_keeps_the_old_checkpoint(run, state, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bench.checkpoints.native.save_file", full)
    with pytest.raises(StoreError, match=r"No space left on device.*make room"):
        write_checkpoint(run / "checkpoint", seeded_network(ARCH, 8), None, META)
    assert load_model(str(run)).record.weights == weights_digest(state)
    assert sorted(os.listdir(run)) == ["checkpoint"]


def test_a_run_without_its_checkpoint_yet_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(CheckpointError, match="once its last step is done"):
        load_model(str(tmp_path))
