"""The regression gate: measures a small declared subset anew, for `leaderboards.regress` to judge.

Nothing is taken from a store: equal identities would not be run again, and a change of the code is
in no identity.
"""

from __future__ import annotations

import contextlib
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import registry
from bench.disk import whole_file
from bench.errors import SpecError, StoreError
from bench.matrix import Matrix, run
from bench.matrix_file import matrix_of
from bench.provenance import collect

if TYPE_CHECKING:
    from bench.engine import Report, Settings
    from bench.store import Store


MADE = ("started", "git_commit", "packages", "python", "device")  # kept of the provenance


@dataclass(frozen=True)
class Subset:
    """What a gate measures.

    Attributes:
        declared: models, tasks and seeds, as a matrix file says them.
        mini: object-centric images of the mini benchmark that is written for it where no data root
            is given; 0 takes the environment's data root.
    """

    declared: Mapping[str, Any]
    mini: int = 0

    @property
    def matrix(self) -> Matrix:
        """The cells; SpecError where something of it does not exist (any more)."""
        return matrix_of(self.declared, "baseline")[0]


def declared(baseline: Path, matrix: Path | None = None, mini: int = 0) -> tuple[Subset, list[Any]]:
    """What a baseline file measures, or what is declared anew, and the cells that it holds.

    Raises:
        SpecError: there is neither a baseline nor a matrix to make one of.
        StoreError: the file is no baseline.
    """
    if mini < 0:
        raise SpecError(f"--mini {mini}: a number of images is expected")
    found: list[Any] = []
    subset = Subset({}, 0)
    if baseline.exists():
        try:
            text = baseline.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"baseline {baseline} cannot be read ({error})") from error
        values, found = registry.attribute("leaderboards.baseline:loads")(text, str(baseline))
        subset = Subset(values["matrix"], values["mini"])
    elif matrix is None:
        raise SpecError(
            f"no baseline {baseline}: make one with `sslbench regress --baseline {baseline} "
            "--matrix MATRIX.toml --update`"
        )
    if matrix is not None:
        try:
            subset = Subset(tomllib.loads(matrix.read_text(encoding="utf-8")), mini)
        except (OSError, ValueError) as error:
            raise SpecError(f"matrix {matrix} cannot be read ({error})") from error
    elif mini:
        subset = replace(subset, mini=mini)
    matrix_of(subset.declared, str(matrix or baseline))  # refuses what there is not, before all
    return subset, found


@contextlib.contextmanager
def working_folder(keep: Path | None) -> Iterator[Path]:
    """`keep`, which must be new or empty, or a folder that is gone afterwards."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="sslbench-regress-") as folder:
            yield Path(folder)
        return
    if keep.exists() and any(keep.iterdir()):
        raise SpecError(f"--keep {keep} is not empty: what is there would not be measured again")
    keep.mkdir(parents=True, exist_ok=True)
    yield keep


def measure(subset: Subset, folder: Path, settings: Settings) -> tuple[Report, Store]:
    """Train and evaluate all of the subset in an empty folder."""
    from bench.store import Store

    data = settings.data
    if subset.mini and data is None:
        from bench.demo import write_mini_with_sheet

        data = folder / "data"
        write_mini_with_sheet(data, "small", 0, subset.mini)
    store = Store(folder / "results")
    own = replace(settings, data=data, cache=folder / "cache")
    return run(subset.matrix, store, own, folder / "runs"), store


def write(baseline: Path, subset: Subset, cells: Sequence[Any]) -> None:
    """Record cells as the baseline, whole or not at all."""
    made = collect()
    kept = {key: made[key] for key in MADE}
    dumps = registry.attribute("leaderboards.baseline:dumps")
    text = dumps({"matrix": subset.declared, "mini": subset.mini}, cells, kept)
    try:
        baseline.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(baseline) as file:
            file.write(text.encode())
    except OSError as error:
        raise StoreError(f"cannot write {baseline} ({error.strerror})") from error
