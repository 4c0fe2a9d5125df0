"""Simulated tasks as data sets: which episodes there are, and from which seeds they start."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import registry
from bench.data.metaworld import TASKS
from bench.dataset import open_split
from bench.episodes import (
    FIRST_ROLLOUT,
    MOST_DEMONSTRATIONS,
    check_suite,
    numbers_by_task,
    seed_of,
)
from bench.errors import SpecError

SUITES = {"franka_kitchen": 5, "metaworld": 8}


@pytest.mark.parametrize("suite", SUITES)
def test_each_task_has_25_demonstrations_and_50_rollouts(suite: str) -> None:
    dataset = registry.load("dataset", suite)
    for split, count in (("train", 25), ("val", 50)):
        found = open_split(suite, split)
        assert len(found) == dataset.counts[split] == SUITES[suite] * count
        assert len(found.classes) == SUITES[suite]
        assert found.ids[0] == f"{found.classes[0]}/0"
        assert found.ids[-1] == f"{found.classes[-1]}/{count - 1}"
        assert numbers_by_task(found.ids) == {task: list(range(count)) for task in found.classes}
        tasks = [found.classes[target] for target in found.targets]
        assert tasks == [id_.partition("/")[0] for id_ in found.ids]


def test_modifiers_choose_tasks_and_counts() -> None:
    text = "metaworld[tasks=door-open:hammer:hammer,demos=3,rollouts=2]"
    train, val = open_split(text, "train"), open_split(text, "val")
    assert train.ids == ("hammer/0", "hammer/1", "hammer/2") + tuple(
        f"door-open/{number}" for number in range(3)
    )
    assert val.ids == ("hammer/0", "hammer/1", "door-open/0", "door-open/1")
    assert np.unique(val.targets).tolist() == [TASKS.index("hammer"), TASKS.index("door-open")]
    assert check_suite("metaworld", val) == ("hammer", "door-open")


def test_what_is_chosen_is_told_by_the_manifest() -> None:
    texts = ["metaworld", "metaworld[demos=3]", "metaworld[rollouts=3]", "metaworld[tasks=hammer]"]
    train, val = (
        [open_split(text, split).manifest for text in texts] for split in ("train", "val")
    )
    assert len(set(train)) == len(set(val)) == 3
    assert train[0] == train[2]  # fewer rollouts are other results of the same demonstrations
    assert val[0] == val[1]
    assert open_split("franka_kitchen", "train").manifest not in train


def test_no_rollout_starts_where_a_demonstration_did() -> None:
    """A demonstration takes the first seed whose expert succeeds, of four at most on average."""
    most = open_split(f"metaworld[demos={MOST_DEMONSTRATIONS},tasks=hammer]", "train")
    assert len(most) == MOST_DEMONSTRATIONS
    numbers = numbers_by_task(most.ids)["hammer"]
    assert [seed_of("train", number) for number in numbers] == numbers
    assert 4 * len(numbers) <= FIRST_ROLLOUT == seed_of("val", 0) < seed_of("val", 1)


WRONG = {
    "demos=0": "demos=0: expected a whole number > 0",
    "demos=-3": "demos=-3: expected a whole number > 0",
    "demos=2.5": "demos=2.5: expected a whole number > 0",
    "demos=²": "demos=²: expected a whole number > 0",
    "demos=9999": "demos=9999: expected at most 2500, whose seeds end before those of the rollouts",
    "rollouts=all": "rollouts=all: expected a whole number > 0",
    "tasks=:": "tasks= names none; valid: bin-picking, ",
    "tasks=hammer:dor-open": "tasks=hammer:dor-open: no task 'dor-open'; did you mean 'door-open'?",
    "task=hammer": "no modifier 'task'; did you mean 'tasks'?",
}


@pytest.mark.parametrize("modifier", WRONG)
def test_wrong_modifiers_are_answered_in_a_line(modifier: str) -> None:
    split = "val" if modifier.startswith("rollouts") else "train"
    with pytest.raises(SpecError) as caught:
        open_split(f"metaworld[{modifier}]", split)
    assert WRONG[modifier] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("franka_kitchen", "metaworld@franka_kitchen: this task is simulated, its data set is"),
        ("metaworld+metaworld[tasks=hammer]", r"as in metaworld@metaworld\[tasks=hammer\]$"),
        ("metaworld[n=3]", r"n=3 picks images, .* choose by .*demos, "),
        ("metaworld[seed=1,val_n=3]", "seed=1 picks images"),
        ("metaworld[split=val]", "split=val picks images"),
    ],
)
def test_a_suite_is_run_on_its_own_episodes_alone(text: str, words: str) -> None:
    for split in ("train", "val"):
        with pytest.raises(SpecError, match=words) as caught:
            check_suite("metaworld", open_split(text, split))
        assert "\n" not in str(caught.value)


def test_photographs_are_no_episodes(tmp_path: Path) -> None:
    for split in ("train", "val"):
        folder = tmp_path / split / "light_on"
        folder.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(folder / "0.png")
    photographs = open_split(f"folder[path={tmp_path}]", "val")
    with pytest.raises(SpecError, match=r"franka_kitchen@folder.*: this task is simulated"):
        check_suite("franka_kitchen", photographs)
