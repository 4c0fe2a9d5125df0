"""Results that claim one identity: copies count once, and contradictions are told."""

import os
from collections.abc import Sequence
from pathlib import Path

from bench.summary import Summary


def distinct(results: Sequence[Summary], root: Path) -> tuple[list[Summary], list[str]]:
    """The results less copies, and a line for each that contradicts another.

    Equal identities are the same cell: same weights, protocol, data and seed. Of two results under
    one model's name the first by folder is kept, for a folder copied by hand is no further seed;
    under two names both are. Where their metrics differ, one of them is wrong, or the evaluation
    does not repeat: the line names both folders and both scores.
    """
    digests = [result.digest for result in results]
    if len(set(digests)) == len(digests):
        return list(results), []
    claims: dict[str, list[Summary]] = {}
    for digest, result in zip(digests, results, strict=True):
        claims.setdefault(digest, []).append(result)
    copies: set[int] = set()
    lines = []
    for first, *others in claims.values():
        names = {first.model["name"]}
        for other in others:
            if difference := _difference(first, other):
                folders = (os.path.relpath(one.folder, root) for one in (first, other))
                lines.append(
                    f"{' and '.join(folders)} claim one identity with different scores, "
                    f"{difference}; delete the folder that is wrong"
                )
            if other.model["name"] in names:
                copies.add(id(other))
            names.add(other.model["name"])
    return [result for result in results if id(result) not in copies], lines


def _difference(first: Summary, other: Summary) -> str:
    """The first metric, from the headline on, that both have with different values."""
    one, two = first.metrics, other.metrics
    for name in dict.fromkeys([first.headline, *sorted(one)]):
        if name in two and one[name].value != two[name].value:
            return f"{name} {one[name].value!r} and {two[name].value!r}"
    return ""
