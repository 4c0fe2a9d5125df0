"""What a training run says of itself: metrics file, progress line, and the watch for collapse."""

import time
from collections.abc import Mapping

from torch import Tensor

from bench import dist
from bench.progress import Progress, say
from trainers.blocks.canaries import collapse
from trainers.recipe import Plan
from trainers.state import MetricsLog, RunFolder

PATIENCE = 5  # reports in a row before a collapse is called one


class Reporter:
    """Writes the metrics file and drives the progress line; only the first process does either.

    Attributes:
        collapsed: what shows of a collapse, in words: of one that was told and not recovered from,
            or in the last report; empty for a healthy run.
    """

    def __init__(self, folder: RunFolder, plan: Plan, label: str, step: int) -> None:
        self.folder, self.plan, self.label, self.step = folder, plan, label, step
        self.since = time.monotonic()
        self.collapsed = ""
        self._told = False
        self._streak = 0  # reports in a row that speak against what was told last

    def __enter__(self) -> "Reporter":
        self.progress = Progress(self.label, self.plan.steps, done=self.step)
        tensorboard = self.plan.recipe.tensorboard
        self.file = MetricsLog(self.folder, self.step, tensorboard) if dist.is_main() else None
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.close()
        if self.file is not None:
            self.file.close()

    def __call__(self, step: int, parts: Mapping[str, Tensor], norm: Tensor) -> None:
        """Record the state of affairs after ``step`` steps."""
        values = {name: float(value) for name, value in parts.items()}
        now = time.monotonic()
        rate = self.plan.recipe.batch_size * (step - self.step) / max(now - self.since, 1e-9)
        lr = self.plan.lr(step - 1)
        more = {"grad_norm": float(norm), "lr": lr, "images_per_second": rate}
        self.log(step, {"epoch": self.plan.epoch(step), **values, **more})
        self.progress.advance(step - self.step, **values)
        self.step, self.since = step, now
        self.watch(step, values)

    def watch(self, step: int, values: Mapping[str, float]) -> None:
        """Say once when a run has collapsed, and once when it has recovered."""
        found = collapse(values)
        self._streak = self._streak + 1 if bool(found) != self._told else 0
        if self._streak == PATIENCE:
            self._told, self._streak = not self._told, 0
            say(
                f"warning: collapsed at step {step}: {found}; a lower lr or teacher_temp, a longer "
                "warm-up, or the recipe's own centring and momentum may prevent it"
                if found
                else f"recovered from the collapse by step {step}"
            )
        if found or not self._told:
            self.collapsed = found

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append a record to the metrics file."""
        if self.file is not None:
            self.file.write(step, values)
