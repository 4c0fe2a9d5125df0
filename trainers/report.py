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
        collapsed: what the last report showed of a collapse, in words; empty for a healthy run.
    """

    def __init__(self, folder: RunFolder, plan: Plan, label: str, step: int) -> None:
        self.folder, self.plan, self.label, self.step = folder, plan, label, step
        self.since = time.monotonic()
        self.collapsed = ""
        self._streak = 0  # reports in a row that showed a collapse

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
        self.collapsed = collapse(values)
        told = self._streak >= PATIENCE
        self._streak = self._streak + 1 if self.collapsed else 0
        if self._streak == PATIENCE:
            say(
                f"warning: collapsed at step {step}: {self.collapsed}; a lower teacher_temp or lr, "
                "or a longer warm-up, may prevent it"
            )
        elif told and not self.collapsed:
            say(f"recovered from the collapse by step {step}")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append a record to the metrics file."""
        if self.file is not None:
            self.file.write(step, values)
