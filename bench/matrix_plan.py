"""What a matrix would take: what exists, what is missing, and what the rest costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.matrix import Matrix
    from bench.store import Store


@dataclass(frozen=True)
class Plan:
    """What there is and what is to be done."""

    def text(self) -> str:
        """The plan for people."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """The plan for machines."""
        raise NotImplementedError


def plan(
    matrix: Matrix, store: Store, runs: Path, data: Path | None = None, gpu: str = "h100"
) -> Plan:
    """Look at runs, results and data, and write nothing."""
    raise NotImplementedError
