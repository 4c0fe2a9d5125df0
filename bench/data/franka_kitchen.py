"""Franka-Kitchen: five tasks of a robot arm in a kitchen, simulated."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.dataset import Dataset, Table
from bench.episodes import MODIFIERS, TREE, counts_of, episode_table, start_image

TASKS = ("knob1_on", "light_on", "sdoor_open", "ldoor_open", "micro_open")


class FrankaKitchen(Dataset):
    """The tasks of R3M and of Hu et al.; `franka_kitchen[tasks=light_on:micro_open]` takes some.

    Its samples are episodes: demonstrations in `train`, starts of rollouts in `val`. The image of
    one is what the camera sees first. The suite's own task takes whole episodes, from the first on,
    so none of the modifiers that pick images.
    """

    title: ClassVar[str] = "Franka-Kitchen"
    folders: ClassVar[tuple[str, ...]] = ()  # it is simulated
    tree: ClassVar[str] = TREE
    modifiers: ClassVar[tuple[str, ...]] = MODIFIERS
    counts: ClassVar[dict[str, int]] = counts_of(TASKS)

    @property
    def split_id(self) -> str:
        """Demonstrations and rollouts start from other seeds."""
        return "seeds"

    def scan(self, split: str) -> Table:
        """Demonstrations, or starts of rollouts, task by task."""
        return episode_table(self, TASKS, split)

    def image(self, split: str, key: str) -> Image.Image:
        """The first frame of a sample."""
        return start_image("franka_kitchen", split, key)
