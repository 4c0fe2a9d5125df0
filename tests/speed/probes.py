"""Many frozen tasks on one pass against one pass for each task: images forwarded, and seconds.

    python tests/speed/probes.py [--arch vit_tiny_patch16_224] [--images 300]

First the tasks that read stored features of the same crops, then probes that train on the same
fresh crops in lockstep. "Apart" is what scripts do: every task by itself, with a cache of its own.
The metrics of both ways must be equal. Heads are kept short: the ratio nears the number of tasks as
their share of the time goes to 0. Random weights on the mini benchmark; seconds of one processor,
so that other work on the machine does not count.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.backbone import Backbone
from bench.data.mini.write import write_mini
from bench.engine import Settings, evaluate
from bench.store import Store

SHORT = "epochs=1&batch=64&lrs=0.001"
STORED = (
    "knn@mini_objects",
    "linear@mini_objects?epochs=20",
    "fewshot@mini_objects",
    f"attentive@mini_objects?{SHORT}",
    f"decoder@mini_objects?{SHORT}&layers=2&width=64",
)
CROPS = (
    "linear@mini_objects?protocol=linear_ab&epochs=1&batch=64",
    f"attentive@mini_objects?protocol=attentive_ab&{SHORT}",
    f"decoder@mini_objects?protocol=decoder_ab&{SHORT}&layers=2&width=64",
)


@dataclass
class Way:
    """What one way of running the tasks took, and the metrics that it gave."""

    seconds: float = 0.0
    images: int = 0
    metrics: tuple[Any, ...] = ()


@contextmanager
def counted(way: Way) -> Iterator[None]:
    """Counts the images that go through any backbone."""
    features = Backbone.features

    def counting(self: Backbone, images: torch.Tensor, recipes: Any) -> Any:
        way.images += len(images)
        return features(self, images, recipes)

    Backbone.features = counting  # type: ignore[method-assign]
    try:
        yield
    finally:
        Backbone.features = features  # type: ignore[method-assign]


def run(source: str, groups: list[tuple[str, ...]], data: Path) -> Way:
    """Every group of tasks with a cache of its own."""
    way = Way()
    for tasks in groups:
        with tempfile.TemporaryDirectory() as folder, counted(way):
            place = Path(folder)
            settings = Settings(data=data, cache=place / "cache", workers=0, device="cpu")
            began = time.process_time()
            report = evaluate([source], list(tasks), Store(place / "results"), settings)
            way.seconds += time.process_time() - began
            if report.failed:
                raise SystemExit(report.summary(place))
            found = {result.task_spec: result.metrics for result in report.ran}
            way.metrics += tuple(sorted((task, str(found[task])) for task in found))
    return way


def compare(label: str, source: str, tasks: tuple[str, ...], data: Path) -> None:
    """Prints both ways and their ratio."""
    together = run(source, [tasks], data)
    apart = run(source, [(task,) for task in tasks], data)
    if sorted(together.metrics) != sorted(apart.metrics):
        raise SystemExit(f"{label}: other metrics\n{together.metrics}\n{apart.metrics}")
    print(f"{label}: {len(tasks)} tasks, same metrics both ways")
    for name, way in (("together", together), ("apart", apart)):
        print(f"  {name:8} {way.images:6} images forwarded, {way.seconds:6.1f} s")
    print(
        f"  {apart.images / together.images:.2f} times fewer forwards, "
        f"{apart.seconds / together.seconds:.2f} times as fast"
    )


def main() -> None:
    """Prints both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="vit_tiny_patch16_224")
    parser.add_argument("--images", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_mini(data, "small", seed=0, images=options.images)
        source = f"random:{options.arch}"
        compare("one pass over stored crops", source, STORED, data)
        compare("one stream of fresh crops", source, CROPS, data)


if __name__ == "__main__":
    main()
