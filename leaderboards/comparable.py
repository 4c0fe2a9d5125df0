"""Whether a number of ours may stand beside a published one, and if not, why."""

from collections.abc import Sequence

from bench import registry, spec
from bench.dataset import Dataset
from bench.errors import SpecError, StoreError
from bench.spec import DatasetPart
from bench.summary import Scored
from leaderboards.cells import pretraining, selected_on_test
from leaderboards.models import trained_as
from leaderboards.paper import Measure, Score

CHANGES = frozenset({"n", "val_n", "classes", "list"})  # modifiers after which counts are others


def reasons_of(results: Sequence[Scored], measure: Measure, expected: str | None) -> list[str]:
    """What keeps results from being compared with a published number; empty where nothing does.

    Args:
        results: of one cell, its seeds.
        measure: of the column.
        expected: the training spec that the row declares, where another model may stand for it
            ("" where the row declares none); None where results were found by that spec.
    """
    found: list[str] = []
    for result in results:
        if isinstance(measure, Score | tuple):
            found += _selection(result, measure)
            found += _evaluated(result)
        found += _trained(result)
        if expected is not None:
            found += _recipe(result, expected)
    return list(dict.fromkeys(found))


def _selection(result: Scored, measure: Score | tuple[Score, ...]) -> list[str]:
    """The paper chose on the test split exactly where the declared spec does."""
    scores = measure if isinstance(measure, tuple) else (measure,)
    declared = any(
        dict(spec.parse(score.spec).options).get("selection") == "test"
        or score.metric.startswith("best")
        for score in scores
    )
    if selected_on_test(result) and not declared:
        return ["selection rule: chosen on the split that is reported"]
    return []


def _evaluated(result: Scored) -> list[str]:
    """Evaluation data that are not all of the official ones."""
    if skipped := result.identity.fields.get("skip_bad"):
        return [f"data: up to {skipped} unreadable images left out"]
    try:
        images = result.dataset.get("images")
    except StoreError:
        return ["data: not known, the folder of the result cannot be read any more"]
    parts = spec.parse(result.task_spec).dataset
    if not isinstance(images, dict) or len(parts) != 1:
        return []
    counts = _counts(parts[0])
    return [
        f"data: {images[split]:,} of {counts[split]:,} images of {parts[0].name} {split}"
        for split in images
        if isinstance(images[split], int) and images[split] < counts.get(split, 0)
    ]


def _trained(result: Scored) -> list[str]:
    """Pre-training on less than the data set has, or one that collapsed."""
    trained = pretraining(result)
    found = [f"pre-training: collapsed, {trained['collapsed']}"] if trained.get("collapsed") else []
    images, text = trained.get("images"), str(trained.get("dataset") or "")
    try:
        parts = spec.parse_dataset(text) if text else ()
    except SpecError:  # a foreign checkpoint's data, in its authors' words
        return found
    sizes = [_counts(part).get(dict(part.modifiers).get("split", "train")) for part in parts]
    known = [size for size in sizes if size is not None]
    if isinstance(images, int) and known and len(known) == len(parts) and images < sum(known):
        found.append(f"data: pre-trained on {images:,} of {sum(known):,} images of {text}")
    return found


def _counts(part: DatasetPart) -> dict[str, int]:
    """Official images of each split; empty where the part is not whole, or not known."""
    if part.name not in registry.names("dataset") or CHANGES & {key for key, _ in part.modifiers}:
        return {}
    cls: type[Dataset] = registry.load("dataset", part.name)
    return cls.counts


def _recipe(result: Scored, expected: str) -> list[str]:
    """Whether the model was trained as the row says."""
    found = trained_as(result)
    if not found:
        return ["recipe: not recorded with the model"]
    return [] if found[0] == expected else [f"recipe: {found[0]}"]
