"""`sslbench demo`."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path(
        "demo-out"
    ),
) -> None:
    """Run the main job on the mini benchmark: train, evaluate, rank, plot."""
    from bench import demo

    demo.run(out)
