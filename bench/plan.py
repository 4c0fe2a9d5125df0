"""The cells that a request asks for: what each is, and whether the store has it already."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench import registry, spec
from bench.backbone import weights_digest
from bench.errors import SpecError
from bench.records import CELLS, Identity
from bench.spec import Spec
from bench.task import Task, TaskData
from bench.values import non_default

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel

FULL_PRECISION = "fp32"


@dataclass(frozen=True)
class Request:
    """One task on one data set, checked before anything runs.

    Attributes:
        spec: what was asked for.
        task: the protocol.
    """

    spec: Spec
    task: Task

    @property
    def text(self) -> str:
        """Canonical text with only what differs from the task's defaults."""
        return str(Spec(self.spec.name, self.spec.dataset, spec.unbind(self.task)))


def requests(texts: Sequence[str]) -> list[Request]:
    """The tasks named by ``texts`` (each a comma list of specs), without repetitions.

    Raises:
        SpecError: unknown task or key, or a task without a data set.
    """
    found: dict[str, Request] = {}
    for text in texts:
        for parsed in spec.parse_list(text):
            wanted = request(parsed)
            found.setdefault(wanted.text, wanted)
    return list(found.values())


def request(parsed: Spec) -> Request:
    """The task of one spec.

    Raises:
        SpecError: unknown task or key, or a task without a data set.
    """
    if not parsed.dataset:
        raise SpecError(f"{parsed.name} needs a data set: write {parsed.name}@DATASET")
    cls: type[Task] = registry.load("task", parsed.name)
    return Request(parsed, spec.bind(cls, dict(parsed.options)))


def identity(model: "LoadedModel", request: Request, data: TaskData) -> Identity:
    """Identity of the cell; batch size, workers and device are not part of it."""
    return identity_of(model_digest(model), request, data)


def identity_of(weights: str, request: Request, data: TaskData) -> Identity:
    """Identity of the cell of the model whose `model_digest` is `weights`."""
    fields = non_default(request.task)
    if data.precision != FULL_PRECISION:
        fields["precision"] = data.precision
    if data.skip_bad:
        fields["skip_bad"] = data.skip_bad
    if read := request.task.cells(data):
        others = [identity_of(weights, r, data.beside(r.spec.dataset)) for r in requests(read)]
        fields[CELLS] = [other.digest for other in others]
        # The same without the weights: what two models' cells must share to be comparable.
        fields["reads"] = [replace(other, weights="").digest for other in others]
    if facts := request.task.facts(data):
        fields["facts"] = facts
    return Identity(
        weights=weights,
        task=request.spec.name,
        task_version=request.task.version,
        fields=fields,
        dataset=data.manifest(request.task.needs),
        seed=data.seed,
    )


def model_digest(model: "LoadedModel") -> str:
    """sha256 of all that decides what the model computes: tensors, architecture, input contract.

    The same tensors behind another crop, mean or position interpolation are another model.
    """
    record = model.record
    backbone = model.backbone
    rest = [record.arch, backbone.layout(), record.input, backbone.pos_interp]
    if extras := backbone.extras.state_dict():
        rest.append(weights_digest(extras))
    text = json.dumps([record.weights, *rest], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
