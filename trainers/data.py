"""Training data: views in an order that depends on the seed and the step, and on nothing else."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from bench import dist
from bench.dataset import Split
from bench.errors import DataError
from trainers.blocks.views import Batch, View, collate, cut_views
from trainers.method import Method
from trainers.recipe import Plan

# First words of the seed sequences, so that no two kinds of draws share a stream.
ORDER, VIEWS, STEP, COLOUR = 1, 2, 3, 4


@dataclass
class Loaded:
    """A batch and the images that could not be read and were replaced."""

    batch: Batch
    bad: tuple[str, ...]

    def pin_memory(self) -> "Loaded":
        """Called by the data loader."""
        return Loaded(self.batch.pin_memory(), self.bad)


class ViewDataset(Dataset[tuple[int, list[View], tuple[str, ...]]]):
    """The views of image ``index`` in pass ``epoch`` over ``split``."""

    def __init__(self, split: Split, method: Method, seed: int) -> None:
        self.split, self.seed = split, seed
        self.specs = method.view_specs()

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, list[View], tuple[str, ...]]:
        epoch, index = key
        rng = np.random.default_rng([VIEWS, self.seed, epoch, index])
        bad = []
        # An unreadable image is replaced by the next one; the loop decides whether that is allowed.
        for _ in range(len(self.split)):
            try:
                image = self.split.image(index)
                break
            except DataError as error:
                bad.append(str(error))
                index = (index + 1) % len(self.split)
        else:
            raise DataError(f"no image of {self.split.name} can be read; the first: {bad[0]}")
        return index, cut_views(image, self.specs, rng), tuple(bad)


@dataclass(frozen=True)
class StepSampler:
    """Batches of ``(epoch, index)`` keys from step ``first`` to the last; this process's share."""

    plan: Plan
    first: int

    def __len__(self) -> int:
        return self.plan.steps - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        plan, size = self.plan, self.plan.recipe.batch_size
        current, order = -1, np.empty(0, np.int64)
        for step in range(self.first, plan.steps):
            epoch, place = divmod(step, plan.steps_per_epoch)
            if epoch != current:
                rng = np.random.default_rng([ORDER, plan.recipe.seed, epoch])
                current, order = epoch, rng.permutation(plan.images)
            chosen = order[place * size : (place + 1) * size]
            yield [(epoch, int(i)) for i in chosen[dist.rank() :: dist.world_size()]]


def _collate(samples: Sequence[tuple[int, list[View], tuple[str, ...]]]) -> Loaded:
    bad = tuple(message for sample in samples for message in sample[2])
    return Loaded(collate([(index, views) for index, views, _ in samples]), bad)


def _leave_signals(_: int) -> None:
    """A stop request goes to the whole process group; the loop answers it, workers just go on."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def make_loader(split: Split, method: Method, first_step: int) -> DataLoader[Loaded]:
    """Batches for the remaining steps. The number of worker processes changes no pixel of them."""
    plan = method.plan
    return DataLoader(
        ViewDataset(split, method, plan.recipe.seed),
        batch_sampler=StepSampler(plan, first_step),
        collate_fn=_collate,
        num_workers=plan.recipe.workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_leave_signals,
        # The loader draws a base seed from this generator instead of from the global one.
        generator=torch.Generator().manual_seed(plan.recipe.seed),
    )


def step_seed(seed: int, step: int, part: int = 0, stream: int = STEP) -> int:
    """Seed of everything that is drawn within a step: a resumed run needs no generator state."""
    words = np.random.SeedSequence([stream, seed, step, part, dist.rank()]).generate_state(
        1, np.uint64
    )
    return int(words[0] >> 1)
