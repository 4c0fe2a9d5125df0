"""The watch for collapse: told once, after patience, and kept with the checkpoint."""

import json
from pathlib import Path

import pytest
import torch

from trainers import loop
from trainers.methods import mae
from trainers.recipe import Plan, Recipe
from trainers.report import PATIENCE, Reporter
from trainers.state import RunFolder

SPEC = (
    "mae@mini_objects[n=48,seed=0]?preset=small&arch=vit_mini_patch4_32&batch_size=16&epochs=3"
    "&workers=0&log_every=1&decoder_dim=16&decoder_depth=1&decoder_heads=2"
)


def told(values: list[float], folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a run says whose reports show these values of ``feature_std``."""
    report = Reporter(RunFolder(folder), Plan.of(Recipe(batch_size=2), 20), "train", 0)
    for step, value in enumerate(values):
        report.watch(step, {"loss": 1.0, "feature_std": value})
    return capsys.readouterr().err.splitlines()


def test_a_collapse_is_told_once_and_so_is_the_recovery(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLBENCH_PROGRESS", "plain")
    assert told([0.5, *[0.001] * (PATIENCE - 1), 0.5], tmp_path, capsys) == []
    bad, good = [0.001] * PATIENCE, [0.5] * PATIENCE
    lines = told([*bad, 0.001, 0.5, 0.001, *good, 0.5], tmp_path, capsys)
    assert len(lines) == 2
    assert f"collapsed at step {PATIENCE - 1}" in lines[0]
    assert "feature_std 0.001 of 1" in lines[0]
    assert "recovered" in lines[1]


def test_one_good_report_is_no_recovery(tmp_path: Path) -> None:
    report = Reporter(RunFolder(tmp_path), Plan.of(Recipe(batch_size=2), 20), "train", 0)
    for step, value in enumerate([*[0.001] * PATIENCE, 0.5]):
        report.watch(step, {"loss": 1.0, "feature_std": value})
    assert "feature_std 0.001" in report.collapsed


@pytest.mark.parametrize(("spread", "collapsed"), [(0.0, True), (0.5, False)])
def test_the_checkpoint_says_whether_its_run_had_collapsed(
    spread: float, collapsed: bool, mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mae, "feature_std", lambda features: torch.tensor(spread))
    run = loop.train(SPEC, tmp_path / "run", data=mini)
    card = json.loads((run / "checkpoint" / "checkpoint.json").read_text())
    assert bool(card["pretrain"]["collapsed"]) is collapsed
