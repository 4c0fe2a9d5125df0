"""Processes that form a group, for tests of results that must not depend on the world size."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

HEADER = """
import sys, torch
import torch.distributed as td
from bench import dist

def main():
{body}

if __name__ == "__main__":
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    if world > 1:
        td.init_process_group("gloo", init_method=f"file://{{folder}}/meeting-{{world}}",
                              rank=rank, world_size=world)
    main()
    if world > 1:
        td.destroy_process_group()
"""


@pytest.fixture
def processes(tmp_path: Path) -> Callable[[str, int], None]:
    """Runs `body` in `world` processes of one gloo group; it sees `rank`, `world` and `folder`."""

    def run(body: str, world: int) -> None:
        script = tmp_path / f"script-{world}.py"
        text = textwrap.indent(textwrap.dedent(body), "    ")
        script.write_text(HEADER.format(body=text))
        started = [
            subprocess.Popen(
                [sys.executable, str(script), str(rank), str(world), str(tmp_path)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(world)
        ]
        try:
            for process in started:
                output, _ = process.communicate(timeout=120)
                assert process.returncode == 0, output
        finally:
            for process in started:
                process.kill()

    return run
