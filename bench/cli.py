"""The command line: one file a command in `bench/commands/`, and what all of them share.

The files are thin and quick to import; what is heavy is imported by the command that needs it.
"""

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from bench import registry
from bench.errors import SSLBenchError

# In the order of the help.
COMMANDS = (
    *("ls", "doctor", "mini", "demo", "train", "inspect", "eval", "run", "table", "board"),
    *("cell", "compare", "curve", "figure", "regress"),
)

app = typer.Typer(
    name="sslbench",
    help="Train, evaluate and compare self-supervised visual pre-training methods.",
    epilog="A first look: sslbench demo --out demo-out",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    plugin: Annotated[
        list[Path] | None,
        typer.Option(help="File with a method, task, data set, family, figure or paper's tables."),
    ] = None,
) -> None:
    """Options of every command."""
    for file in plugin or ():
        registry.load_plugin(file)


for name in COMMANDS:
    app.command(name)(importlib.import_module(f"bench.commands.{name}").command)


def main() -> NoReturn:
    """Run the command line; an error that advice can mend is one line and exit code 2."""
    # Threads that spin while they wait make a step four times slower as soon as anything else,
    # be it the loader, wants a core. Read by the OpenMP runtime when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except SSLBenchError as error:
        print(f"sslbench: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        # A full disk or a folder that cannot be written, met outside of what guards against it.
        print(f"sslbench: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


if __name__ == "__main__":
    main()
