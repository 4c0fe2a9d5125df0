"""Looks at what a matrix finds: runs, results, data sets, and what each model would cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import costs, plan, registry
from bench.errors import SpecError, SSLBenchError
from bench.features import FeatureCache
from bench.matrix import Entry, canonical, is_trained, requests_of, run_folder
from bench.matrix_plan import CellPlan, ModelPlan
from bench.plan import Request
from bench.spec import DatasetPart, parse
from bench.store import slug
from bench.task import TaskData

if TYPE_CHECKING:
    from bench.records import Result
    from bench.store import Store

Parts = tuple[DatasetPart, ...]

_ROW_BYTES = 50  # of an outcome, for one sample, compressed: mostly its id


class Survey:
    """What there is of the models of one matrix. Data sets are opened once, nothing is written.

    Args:
        store: of the results.
        runs: folder of the run folders.
        data: data root; by default the environment's.
        seeds: of the evaluation.
        precision: of the evaluation.
        skip_bad: of the evaluation.
    """

    def __init__(
        self,
        store: Store,
        runs: Path,
        data: Path | None,
        seeds: tuple[int, ...],
        precision: str,
        skip_bad: int,
    ) -> None:
        self.store, self.runs, self.seeds = store, runs, seeds
        cache = FeatureCache(store.root / ".cache")
        self._data = TaskData((), data, cache, precision=precision, skip_bad=skip_bad)
        self._spaces: dict[tuple[str, int], TaskData] = {}
        self._missing: dict[tuple[str, str], str] = {}  # (data set, split) -> why
        self._digests: dict[tuple[str, int, str], str | Exception] = {}

    def model(self, entry: Entry) -> ModelPlan:
        """One model, its training and its cells."""
        found = self._training(entry) if entry.train else ModelPlan(entry.name, entry.source)
        wanted, refused = requests_of(entry)
        stored = list(self._results(Path(found.source) if entry.train else entry.source))
        blocked = f"its model cannot be trained: {found.why}" if found.why else ""
        cells = [
            self._cell(request, seed, stored, blocked) for request in wanted for seed in self.seeds
        ]
        cells += [
            CellPlan(task, seed, "cannot", _line(why))
            for task, why in refused.items()
            for seed in self.seeds
        ]
        return self._costed(replace(found, cells=tuple(cells)), wanted)

    # Training

    def _training(self, entry: Entry) -> ModelPlan:
        try:
            train, folder = canonical(entry.train), run_folder(self.runs, entry.train)
        except SSLBenchError as error:
            return ModelPlan(entry.name, "", entry.train, "cannot", _line(error), train_flops=None)
        found = ModelPlan(entry.name, str(folder), train, "to do", train_flops=None)
        try:
            if changed := registry.attribute("trainers.loop:changed_settings")(train, folder):
                why = f"{folder} was trained with other settings ({'; '.join(changed)})"
                return replace(found, state="cannot", why=why)
            if is_trained(folder):
                return replace(found, state="there", train_flops=0.0)
            images, missing = self._images(parse(train).dataset, "train")
            if images is not None:
                cost = costs.run_cost(train, images)
                step = _saved_step(folder)
                left = cost.flops * (1 - step / cost.steps)
                found = replace(
                    found, step=step, steps=cost.steps, train_flops=left, disk=cost.disk
                )
        except Exception as error:  # of a plug-in too: it is this model's
            missing = _line(error)
        return replace(found, state="cannot", why=missing) if missing else found

    # Cells

    def _cell(self, request: Request, seed: int, stored: list[Result], blocked: str) -> CellPlan:
        alike = [r for r in stored if r.task_spec == request.text and r.identity.seed == seed]
        digests = {
            result.identity.digest: self._digest(request, seed, result.identity.weights)
            for result in alike
        }
        if any(own == digest for own, digest in digests.items()):
            return CellPlan(request.text, seed, "there")
        known = self._digest(request, seed, "")
        if isinstance(known, str):
            return CellPlan(request.text, seed, "cannot" if blocked else "to do", blocked)
        if alike:  # results travel without their data
            return CellPlan(request.text, seed, "there")
        return CellPlan(request.text, seed, "cannot", _line(known))

    def _digest(self, request: Request, seed: int, weights: str) -> str | Exception:
        """Digest of the cell's identity, or why there is none: its data cannot be opened."""
        key = (request.text, seed, weights)
        if key not in self._digests:
            try:
                data = self._space(request.spec.dataset, seed)
                self._digests[key] = plan.identity_of(weights, request, data).digest
            except Exception as error:
                self._digests[key] = error
        return self._digests[key]

    def _space(self, parts: Parts, seed: int = 0) -> TaskData:
        """The data set as tasks see it; all seeds share its open splits."""
        text = "+".join(map(str, parts))
        first = self._spaces.setdefault((text, 0), replace(self._data, parts=parts, splits={}))
        return self._spaces.setdefault((text, seed), replace(first, seed=seed))

    def _results(self, model: Path | str) -> Iterator[Result]:
        """The stored results of a run folder (by its weights) or of a source."""
        card = _card(Path(model))
        only = slug(str(card.get("name"))) if card else None
        others = set()
        for name, task in self.store.task_folders():
            if name in others or (only is not None and name != only):
                continue
            for result in self.store.results_in(name, task):
                if card:
                    if result.model.get("weights") == card.get("weights"):
                        yield result
                elif result.model.get("source") == str(model):
                    yield result
                else:
                    others.add(name)  # a folder of results is one model's
                    break

    # Costs

    def _costed(self, found: ModelPlan, wanted: list[Request]) -> ModelPlan:
        """With what evaluating takes, as far as that is known."""
        lacking = {cell.task for cell in found.cells if cell.state != "there"}
        requests = [request for request in wanted if request.text in lacking]
        passes = {
            ("+".join(map(str, request.spec.dataset)), split): request.spec.dataset
            for request in requests
            for split in request.task.needs
        }
        images = sum(self._images(parts, split)[0] or 0 for (_, split), parts in passes.items())
        rows = sum(self._images(r.spec.dataset, r.task.needs[-1])[0] or 0 for r in requests)
        outcomes = _ROW_BYTES * rows * len(self.seeds)
        try:
            once = costs.forward(_arch(found))
        except Exception:  # nothing but the model itself knows its architecture
            return replace(found, outcomes=outcomes)
        return replace(
            found,
            eval_flops=once.flops * images,
            cache=once.features * images,
            outcomes=outcomes,
        )

    def _images(self, parts: Parts, split: str) -> tuple[int | None, str]:
        """How many images a split has, and why it cannot be opened; then as it was released."""
        key = ("+".join(map(str, parts)), split)
        if key not in self._missing:
            try:
                self._space(parts).open(split)
                self._missing[key] = ""
            except Exception as error:
                self._missing[key] = _line(error)
        if not self._missing[key]:
            return len(self._space(parts).open(split)), ""
        try:
            return costs.official_images(parts, split), self._missing[key]
        except SSLBenchError:
            return None, self._missing[key]


def _arch(model: ModelPlan) -> str:
    """The name of a model's architecture, as far as its spec or source says it."""
    if model.train:
        spec = parse(model.train)
        _, recipe = registry.attribute("trainers.loop:resolve")(spec)
        return str(recipe.arch)
    if card := _card(Path(model.source)):
        return str(card.get("arch"))
    family, colon, rest = model.source.partition(":")
    if colon and family in ("random", "timm"):
        return rest.partition("?")[0]
    raise SpecError(f"the architecture of {model.source} is not known without loading it")


def _card(folder: Path) -> dict[str, Any]:
    """`checkpoint.json` of a run folder or checkpoint, empty where there is none to be read."""
    for place in (folder, folder / "checkpoint"):
        try:
            card = json.loads((place / "checkpoint.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(card, dict):
            return card
    return {}


def _saved_step(folder: Path) -> int:
    """The last step that a run has saved, 0 for none."""
    names = [path.stem.removeprefix("step-") for path in (folder / "state").glob("step-*.pt")]
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _line(error: Exception) -> str:
    """The first line of an error; of a layout error that is what is missing."""
    text = str(error).partition("\n")[0]
    return text if isinstance(error, SSLBenchError) else f"{type(error).__name__}: {text}"
