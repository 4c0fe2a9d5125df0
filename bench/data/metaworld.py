"""Meta-World: eight tasks of a robot arm on a table, simulated."""

from __future__ import annotations

from typing import ClassVar

from PIL import Image

from bench.dataset import Dataset, Table
from bench.episodes import MODIFIERS, TREE, counts_of, episode_table, start_image

TASKS = (
    *("hammer", "drawer-close", "door-open", "bin-picking"),
    *("button-press-topdown", "window-close", "lever-pull", "coffee-pull"),
)


class MetaWorld(Dataset):
    """The tasks of Hu et al.; `metaworld[tasks=hammer:door-open]` takes some of them.

    Its samples are episodes: demonstrations in `train`, starts of rollouts in `val`. The image of
    one is what the camera sees first. The suite's own task takes whole episodes, from the first on,
    so none of the modifiers that pick images.
    """

    title: ClassVar[str] = "Meta-World"
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
        return start_image("metaworld", split, key)
