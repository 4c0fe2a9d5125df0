"""Tests of the training loop: resuming, refusing, stopping, and what a run leaves behind."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from bench.checkpoint import load_model
from bench.errors import DataError, SpecError, TrainingError
from trainers import state
from trainers.loop import Stopped, train
from trainers.methods.mae import MAE

SMALL = "preset=small&arch=vit_mini_patch4_32&batch_size=16&epochs=3&workers=0&log_every=1"
HEADS = {
    "mae": "decoder_dim=16&decoder_depth=1&decoder_heads=2",
    "dino": "head_hidden=32&head_dim=16&out_dim=64&local_crops=2",
    "slotmim": "head_hidden=32&head_dim=16&prototypes=16",
    "sove": "head_hidden=32&head_dim=16&local_crops=2&bank=40&patch_bank=40&anchors=8"
    "&patch_anchors=8&judges=3",
}


def spec_of(method: str, data: str = "mini_objects[n=48,seed=0]", more: str = "") -> str:
    return f"{method}@{data}?{SMALL}&{HEADS[method]}{more}"


def weights(run: Path) -> bytes:
    return (run / "checkpoint" / "backbone.safetensors").read_bytes()


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One uninterrupted run of each method: 3 epochs of 3 steps."""
    root = tmp_path_factory.mktemp("whole")
    return {name: train(spec_of(name), root / name, data=mini) for name in HEADS}


@pytest.mark.parametrize("method", HEADS)
def test_a_stopped_and_resumed_run_gives_the_same_bytes(
    method: str, whole: dict[str, Path], mini: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(spec_of(method), run, data=mini, stop_at=random.randint(1, 8))
    train(spec_of(method), run, data=mini, resume=True)
    assert weights(run) == weights(whole[method])


@pytest.mark.parametrize("method", ["mae", "slotmim"])
def test_a_killed_and_resumed_run_gives_the_same_bytes(
    method: str, whole: dict[str, Path], mini: Path, tmp_path: Path
) -> None:
    run, kill_at = tmp_path / "run", random.randint(1, 5)
    more = "&save_seconds=0"
    command = [sys.executable, "-m", "bench.cli", "train", spec_of(method, more=more)]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        [*command, "--out", str(run), "--data", str(mini)],
        env=os.environ | threads,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    try:
        while time.monotonic() < deadline and process.poll() is None:
            log = run / "metrics.jsonl"
            if log.exists() and len(log.read_text().splitlines()) >= kill_at:
                break
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (run / "checkpoint").exists(), f"over before it could be killed at {kill_at}"
    train(spec_of(method, more=more), run, data=mini, resume=True)
    assert weights(run) == weights(whole[method])
    assert [line["step"] for line in lines(run)] == list(range(1, 10))
    assert [line["loss"] for line in lines(run)] == [line["loss"] for line in lines(whole[method])]


def test_a_torn_state_is_passed_over(whole: dict[str, Path], mini: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(spec_of("mae", more="&save_seconds=0"), run, data=mini, stop_at=5)
    newest = sorted((run / "state").glob("*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    train(spec_of("mae", more="&save_seconds=0"), run, data=mini, resume=True)
    assert weights(run) == weights(whole["mae"])


def test_a_run_whose_states_are_all_damaged_is_not_begun_anew(mini: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(spec_of("mae", more="&save_seconds=0"), run, data=mini, stop_at=3)
    for path in (run / "state").glob("*.pt"):
        path.write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="none of the states"):
        train(spec_of("mae", more="&save_seconds=0"), run, data=mini, resume=True)


def test_workers_do_not_change_the_result(
    whole: dict[str, Path], mini: Path, tmp_path: Path
) -> None:
    train(spec_of("dino").replace("workers=0", "workers=2"), tmp_path / "run", data=mini)
    assert weights(tmp_path / "run") == weights(whole["dino"])


def test_the_seed_changes_the_result(whole: dict[str, Path], mini: Path, tmp_path: Path) -> None:
    train(spec_of("mae", more="&seed=1"), tmp_path / "run", data=mini)
    assert weights(tmp_path / "run") != weights(whole["mae"])


def test_online_evaluation_is_logged_and_leaves_the_training_alone(
    whole: dict[str, Path], mini: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    online = "&online=knn@mini_objects[n=48,seed=0,val_n=20]&online_every=1"
    train(spec_of("slotmim", more=online), run, data=mini)
    scores = [line for line in lines(run) if any(key.startswith("knn@") for key in line)]
    assert [line["step"] for line in scores] == [3, 6, 9]
    assert weights(run) == weights(whole["slotmim"])


def test_the_checkpoint_says_where_it_comes_from(whole: dict[str, Path]) -> None:
    record = load_model(str(whole["dino"])).record
    assert (record.method, record.arch, record.name) == ("dino", "vit_mini_patch4_32", "dino")
    pretrain = record.pretrain
    assert pretrain is not None
    assert pretrain["dataset"] == "mini_objects[n=48,seed=0]"
    assert (pretrain["images"], pretrain["steps"], pretrain["epochs"]) == (48, 9, 3.0)
    assert pretrain["views_seen"] == 9 * 16 * 4
    # Two views of 32 px and two of 12 px.
    assert pretrain["effective_epochs"] == pytest.approx(3 * (2 + 2 * (12 / 32) ** 2))
    assert pretrain["flops"] > 9 * 16 * 1e6
    assert pretrain["recipe"]["out_dim"] == 64


def test_tensorboard_files_are_written_on_request(mini: Path, tmp_path: Path) -> None:
    train(spec_of("mae", more="&tensorboard=true"), tmp_path / "run", data=mini, stop_at=2)
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


def test_a_slotmim_checkpoint_gives_prototype_maps(whole: dict[str, Path]) -> None:
    backbone = load_model(str(whole["slotmim"])).backbone
    maps = backbone.features(torch.randn(2, 3, 32, 32), ["proto"])["proto"]
    assert maps.shape == (2, 8, 8, 16)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 8, 8))


def test_accumulated_parts_train(mini: Path, tmp_path: Path) -> None:
    spec = spec_of("mae", more="&accumulate=4&warmup_epochs=0")
    losses = [line["loss"] for line in lines(train(spec, tmp_path / "run", data=mini))]
    assert sum(losses[-3:]) < sum(losses[:3])


def test_a_taken_folder_is_refused(whole: dict[str, Path], mini: Path) -> None:
    with pytest.raises(TrainingError, match=r"already holds a run of mae.*--resume"):
        train(spec_of("mae"), whole["mae"], data=mini)


def test_settings_that_cannot_work_leave_the_folder_free(mini: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="leaves 0 of 64 patches visible"):
        train(spec_of("mae", more="&mask_ratio=1"), tmp_path / "run", data=mini)
    assert not (tmp_path / "run").exists()


def test_a_complete_run_is_not_trained_again(whole: dict[str, Path], mini: Path) -> None:
    before = (whole["mae"] / "checkpoint" / "backbone.safetensors").stat().st_mtime_ns
    train(spec_of("mae"), whole["mae"], data=mini, resume=True)
    after = (whole["mae"] / "checkpoint" / "backbone.safetensors").stat().st_mtime_ns
    assert before == after


def test_resuming_with_other_settings_names_them(whole: dict[str, Path], mini: Path) -> None:
    with pytest.raises(TrainingError, match=r"mask_ratio was 0\.75, now 0\.5"):
        train(spec_of("mae", more="&mask_ratio=0.5"), whole["mae"], data=mini, resume=True)


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_last_good_state(
    whole: dict[str, Path], mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, good = tmp_path / "run", MAE.losses

    def broken(self: MAE, batch: Any, step: int) -> dict[str, torch.Tensor]:
        parts = good(self, batch, step)
        return {"loss": parts["loss"] * float("nan")} if step == 4 else parts

    with monkeypatch.context() as patch:
        patch.setattr(MAE, "losses", broken)
        with pytest.raises(TrainingError, match=r"not finite at step 4.*step-000000004\.pt.*lower"):
            train(spec_of("mae", more="&save_seconds=0"), run, data=mini)
    train(spec_of("mae", more="&save_seconds=0"), run, data=mini, resume=True)
    assert weights(run) == weights(whole["mae"])


def test_a_full_disk_leaves_the_saved_state(
    whole: dict[str, Path], mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, save, calls = tmp_path / "run", torch.save, []

    def full(value: Any, file: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            file.write(b"half a state")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(value, file)

    with monkeypatch.context() as patch:
        patch.setattr(state.torch, "save", full)
        with pytest.raises(TrainingError, match=r"disk is full.*step-000000002.*--resume"):
            train(spec_of("mae", more="&save_seconds=0"), run, data=mini)
    assert not list((run / "state").glob("*.part"))
    train(spec_of("mae", more="&save_seconds=0"), run, data=mini, resume=True)
    assert weights(run) == weights(whole["mae"])


def test_a_stop_request_saves_the_state(
    whole: dict[str, Path], mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, good = tmp_path / "run", MAE.losses

    def interrupting(self: MAE, batch: Any, step: int) -> dict[str, torch.Tensor]:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return good(self, batch, step)

    with monkeypatch.context() as patch:
        patch.setattr(MAE, "losses", interrupting)
        with pytest.raises(Stopped, match=r"stopped after step 4 of 9"):
            train(spec_of("mae"), run, data=mini)
    train(spec_of("mae"), run, data=mini, resume=True)
    assert weights(run) == weights(whole["mae"])


def folder_of_images(root: Path, broken: int) -> str:
    for i in range(20):
        Image.effect_noise((40, 40), 50 + i).convert("RGB").save(root / f"{i:02d}.jpg")
    for i in range(broken):
        path = root / f"{i:02d}.jpg"
        path.write_bytes(path.read_bytes()[:300])
    return f"folder[path={root}]"


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    data = folder_of_images(tmp_path, broken=1)
    with pytest.raises(DataError, match=r"00\.jpg.*--resume, and --skip-bad 1"):
        train(spec_of("mae", data), tmp_path / "run")


def test_skipped_images_are_replaced_up_to_the_allowed_number(tmp_path: Path) -> None:
    data = folder_of_images(tmp_path, broken=2)
    with pytest.raises(DataError, match="--skip-bad 2"):
        train(spec_of("mae", data), tmp_path / "run", skip_bad=1)
    train(spec_of("mae", data), tmp_path / "run", resume=True, skip_bad=2)
    assert (tmp_path / "run" / "checkpoint" / "checkpoint.json").exists()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dinno@mini_objects", "dino"),
        ("dino@mini_objcts", "mini_objects"),
        ("dino@mini_objects?ephochs=3", "epochs"),
        ("dino@mini_objects?preset=smal", "small"),
        ("dino@mini_objects?lr=fast", "lr"),
        ("dino@mini_objects?batch_size=10&accumulate=3", "multiple of 3"),
        ("mae@mini_objects?arch=vit_tinny_patch4_32", "vit_"),
    ],
)
def test_a_wrong_word_is_answered_with_the_nearest(
    spec: str, message: str, mini: Path, tmp_path: Path
) -> None:
    small = (
        spec
        if "preset" in spec or "batch" in spec
        else f"{spec}{'&' if '?' in spec else '?'}batch_size=8"
    )
    with pytest.raises(SpecError, match=message):
        train(small, tmp_path / "run", data=mini)


def test_a_batch_larger_than_the_data_says_what_fits(mini: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 48 training images.*batch_size=32"):
        train("mae@mini_objects[n=48,seed=0]", tmp_path / "run", data=mini)


def test_a_launcher_with_several_processes_is_refused(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="one of 2 processes"):
        train(spec_of("mae"), tmp_path / "run", data=mini)
    assert not (tmp_path / "run").exists()
