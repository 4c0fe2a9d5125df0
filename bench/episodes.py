"""Simulated robot tasks as data sets: demonstrations to clone, and starts to be judged from.

Nothing lies on the disk: the samples of `train` are the demonstrations of every task, those of
`val` the starts of its rollouts, and the image of either is what the camera sees there first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bench import registry
from bench.errors import SpecError, nearest
from bench.spec import parse_dataset
from bench.split import Split, Table

if TYPE_CHECKING:
    from bench.dataset import Dataset

#: The seed of the first rollout's start; demonstrations begin at 0, so the two never meet.
FIRST_ROLLOUT = 10_000
DEMONSTRATIONS, ROLLOUTS = 25, 50  # of each task
#: An expert that needs more than four seeds for each, and has failed twenty times, is given up.
MOST_DEMONSTRATIONS = FIRST_ROLLOUT // 4
MODIFIERS = ("demonstrations", "demos", "rollouts", "tasks")
TREE = """
    nothing on the disk: pip install 'sslbench[robot]'
    [tasks=a:b]              some of its tasks
    [demos=25,rollouts=50]   demonstrations and rollouts of each task
    [demonstrations=DIR]     files of others, a file for each task, instead of the experts' own
"""


def counts_of(tasks: tuple[str, ...]) -> dict[str, int]:
    """Samples of both splits of a suite."""
    return {"train": DEMONSTRATIONS * len(tasks), "val": ROLLOUTS * len(tasks)}


def chosen_tasks(tasks: tuple[str, ...], options: Mapping[str, str]) -> tuple[str, ...]:
    """The tasks that `[tasks=a:b]` asks for, in the suite's order; all without it.

    Raises:
        SpecError: there is no such task.
    """
    asked = [name for name in options.get("tasks", "").split(":") if name]
    for name in asked:
        if name not in tasks:
            raise SpecError(f"tasks={options['tasks']}: no task {name!r}; {nearest(name, tasks)}")
    if "tasks" in options and not asked:
        raise SpecError(f"tasks= names none; {nearest('', tasks)}")
    return tuple(name for name in tasks if name in asked or not asked)


def episode_table(dataset: Dataset, tasks: tuple[str, ...], split: str) -> Table:
    """The samples `<task>/<number>` of a split, a class for each task of the suite."""
    key, default = ("demos", DEMONSTRATIONS) if split == "train" else ("rollouts", ROLLOUTS)
    text = dataset.options.get(key, str(default))
    if not text.isdecimal() or not int(text):
        raise SpecError(f"{key}={text}: expected a whole number > 0")
    chosen, count = chosen_tasks(tasks, dataset.options), int(text)
    if split == "train" and count > MOST_DEMONSTRATIONS:
        raise SpecError(
            f"{key}={text}: expected at most {MOST_DEMONSTRATIONS}, whose seeds end before those "
            "of the rollouts"
        )
    ids = tuple(f"{task}/{number}" for task in chosen for number in range(count))
    return Table(
        ids=ids,
        keys=ids,
        targets=np.repeat([tasks.index(task) for task in chosen], count).astype(np.int64),
        classes=tasks,
        sizes=np.zeros(len(ids), dtype=np.int64),
    )


def numbers_by_task(ids: tuple[str, ...]) -> dict[str, list[int]]:
    """Task -> the numbers of its samples, both in the order of the ids."""
    found: dict[str, list[int]] = {}
    for id_ in ids:
        task, _, number = id_.rpartition("/")
        found.setdefault(task, []).append(int(number))
    return found


def seed_of(split: str, number: int) -> int:
    """The simulator's seed of a sample."""
    return number if split == "train" else FIRST_ROLLOUT + number


def start_image(suite: str, split: str, key: str) -> Image.Image:
    """What the camera sees at the start of a sample."""
    task, _, number = key.rpartition("/")
    first_frame = registry.attribute("tasks.robot.simulators.simulator:first_frame")
    return Image.fromarray(first_frame(suite, task, seed_of(split, int(number))))


def recordings_of(split: Split) -> Path | None:
    """The folder of `[demonstrations=DIR]`; None without it."""
    text = dict(parse_dataset(split.name)[0].modifiers).get("demonstrations")
    return None if text is None else Path(text).expanduser()


def check_suite(suite: str, split: Split) -> tuple[str, ...]:
    """The tasks of a split of the suite, in its order.

    Raises:
        SpecError: it is of another data set, or of several, or a draw from its samples.
    """
    first, *more = parse_dataset(split.name)
    if first.name != suite or more:
        raise SpecError(
            f"{suite}@{split.name}: this task is simulated, its data set is {suite}, as in "
            f"{suite}@{suite}[tasks={registry.load('task', suite)().known()[0]}]"
        )
    for key, value in first.modifiers:
        if key not in MODIFIERS:
            raise SpecError(
                f"{split.name}: {key}={value} picks images, and {suite} takes whole tasks and "
                f"their first episodes: choose by {', '.join(MODIFIERS)}"
            )
    return tuple(numbers_by_task(split.ids))
