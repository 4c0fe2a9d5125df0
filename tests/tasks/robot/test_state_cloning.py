"""Demonstrations can be cloned: a policy that is told the state does what their expert does."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.engine import Settings, evaluate
from bench.store import Store
from tasks.robot.simulators.kitchen_tasks import RULES

MODEL = "random:vit_mini_patch4_32?seed=0"  # looked past


pytestmark = pytest.mark.usefixtures("drawing")


def success(suite: str, modifiers: str, options: str, folder: Path, workers: int) -> float:
    """The rate of a state policy on starts that its demonstrations did not have."""
    spec = f"{suite}@{suite}[{modifiers}]?policy=state&policies=1&frame_px=16{options}"
    settings = Settings(cache=folder / ".cache", workers=workers, device="cpu")
    report = evaluate([MODEL], [spec], Store(folder), settings)
    assert report.failed == {}
    (cell,) = report.ran
    found = cell.metrics["success"]
    print(f"{modifiers}{options}: {found.value:.2f} of {found.n} rollouts succeed")
    return found.value


def test_few_demonstrations_of_an_easy_task_teach_what_no_training_does(tmp_path: Path) -> None:
    pytest.importorskip("metaworld")
    few = "tasks=button-press-topdown,demos=4,rollouts=8"
    short = "&batch=64&lr=1e-3&steps="
    assert success("metaworld", few, f"{short}1", tmp_path, workers=0) == 0
    assert success("metaworld", few, f"{short}400", tmp_path, workers=0) >= 0.75


@pytest.mark.slow
@pytest.mark.parametrize("task", RULES)
def test_25_demonstrations_of_the_kitchen_are_enough(task: str, tmp_path: Path) -> None:
    """All 50 rollouts of each task succeeded when this was written."""
    pytest.importorskip("gymnasium_robotics")
    assert success("franka_kitchen", f"tasks={task}", "", tmp_path, workers=2) >= 0.95
