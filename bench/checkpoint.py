"""Checkpoints: from a source text to a Backbone whose every tensor is accounted for.

Official loaders read with `strict=False`: a wrong key there gives a random network and a low score
that looks plausible. Here every tensor is loaded, or named with the reason why not, or nothing is.
"""

import fnmatch
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench import registry
from bench.backbone import Backbone, weights_digest
from bench.errors import CheckpointError, nearest
from bench.records import KeyReport, ModelRecord
from bench.tensor_files import find_tensors, safe_torch_load, strip_prefixes

__all__ = [
    "NOT_BACKBONE",
    "Family",
    "LoadedModel",
    "find_tensors",
    "load_model",
    "load_tensors",
    "safe_torch_load",
    "split_source",
    "strip_prefixes",
]

#: Tensors that public checkpoints carry beside the backbone, for `allow_unexpected`.
NOT_BACKBONE: Mapping[str, str] = {
    "head": "classification or projection head",
    "head_dist": "distillation head",
    "fc_norm": "norm of a fine-tuning head",
    "mask_token": "stands in for masked patches while pre-training",
    "decoder*": "decoder of the pre-training",
    "*relative_position_index": "computed from the grid",
}

_NAMED = 5  # tensors that an error names
Patterns = Iterable[str] | Mapping[str, str]  # a mapping gives the reasons


@dataclass(frozen=True)
class LoadedModel:
    """A backbone in eval mode, what is known of it, and which tensors reached it."""

    backbone: Backbone
    record: ModelRecord
    report: KeyReport

    @classmethod
    def of(
        cls,
        backbone: Backbone,
        report: KeyReport,
        *,
        name: str,
        source: str,
        family: str,
        arch: str,
        method: str | None = None,
        pretrain: dict[str, Any] | None = None,
    ) -> "LoadedModel":
        """The model with its record; the digest is that of the network's tensors as loaded."""
        record = ModelRecord(
            name=name,
            source=source,
            family=family,
            arch=arch,
            method=method,
            weights=weights_digest(backbone.vit.state_dict()),
            input=backbone.input.to_json(),
            pretrain=pretrain,
            parameters=sum(parameter.numel() for parameter in backbone.vit.parameters()),
        )
        return cls(backbone.eval(), record, report)


class Family(ABC):
    """One kind of checkpoint, one file in `bench/checkpoints/`; its file name is its prefix."""

    @abstractmethod
    def claims(self, source: str) -> bool:
        """Whether `source` (a path, or text with this family's prefix) is of this family."""

    @abstractmethod
    def load(self, source: str) -> LoadedModel:
        """The model; CheckpointError says in one line what was found and expected.

        `source` comes as the user wrote it, prefix and `?options` included (see `split_source`).
        """

    @abstractmethod
    def example(self, folder: Path) -> str:
        """The source of a small model of this kind, written into `folder` where it needs a file.

        The conformance suite loads it, so that every family is tested by what it says of itself.
        """


def load_model(source: str) -> LoadedModel:
    """The model of `PREFIX:REST` (that family) or of a path (the first family that claims it).

    Native run folders are asked first. Examples: `runs/dino`, `timm:vit_small_patch16_224.dino`,
    `random:vit_mini_patch4_32?seed=0`.
    """
    names = registry.names("family")
    prefix, colon, _ = source.partition(":")
    if colon and prefix in names:
        return _family(prefix).load(source)
    if not Path(source.partition("?")[0]).exists():
        if colon and "/" not in prefix:
            advice = nearest(prefix, names)
            raise CheckpointError(f"'{source}': no checkpoint family '{prefix}'; {advice}")
        raise CheckpointError(
            f"there is no {source}: give a run folder, a checkpoint file, timm:NAME or "
            "random:ARCH?seed=0"
        )
    for name in sorted(names, key=lambda name: (name != "native", name)):
        family = _family(name)
        if family.claims(source):
            return family.load(source)
    raise CheckpointError(
        f"no checkpoint family knows the layout of {source} (asked {', '.join(names)}): "
        f"name the family, as in {names[0]}:{source}"
    )


def _family(name: str) -> Family:
    family: Family = registry.load("family", name)()
    return family


def split_source(source: str, options: Iterable[str] = ()) -> tuple[str, dict[str, str]]:
    """(`REST`, options) of `PREFIX:REST?key=value&key=value`; the prefix may be missing.

    CheckpointError names a key that is not among `options` with the nearest one.
    """
    prefix, colon, rest = source.partition(":")
    body = rest if colon and prefix in registry.names("family") else source
    name, _, query = body.partition("?")
    given: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        key, equals, value = pair.partition("=")
        if key not in options or not equals:
            raise CheckpointError(f"{source}: no option '{key}'; {nearest(key, options)}")
        given[key] = value
    return name, given


def load_tensors(
    module: nn.Module,
    state: Mapping[str, Tensor],
    allow_missing: Patterns = (),
    allow_unexpected: Patterns = (),
    source: str = "checkpoint",
) -> KeyReport:
    """Copies `state` into `module`, name by name and shape by shape, or changes nothing.

    Patterns match a name, a dotted start of it, or as a shell pattern. Whatever they do not allow
    must fit: a tensor of the module that the state lacks, one of another shape, a tensor without a
    place, or a value that is not finite is a CheckpointError that names up to five of them.
    Values are cast to the module's dtypes. A module on the meta device takes the tensors over.
    """
    expected = module.state_dict()
    missing = _reasons(allow_missing, "not in the file: left as initialised")
    dropped = _reasons(allow_unexpected, "not part of the backbone")
    fitting = {n: state[n] for n, t in expected.items() if n in state and state[n].shape == t.shape}
    absent = {n: _match(n, missing) for n in expected if n not in state}
    extra = {n: _match(n, dropped) for n in state if n not in expected}
    shapes = {n: (state[n], expected[n]) for n in expected if n in state and n not in fitting}
    problems = [f"{n} is {_shape(f)}, expected {_shape(e)}" for n, (f, e) in shapes.items()]
    problems += _alternate(
        [f"{n} {_shape(expected[n])} is missing" for n, why in absent.items() if why is None],
        [f"{n} {_shape(state[n])} has no place" for n, why in extra.items() if why is None],
    )
    problems += [
        f"{n} has values that are not finite" for n, t in fitting.items() if not _finite(t)
    ]
    if not fitting and expected:
        problems = problems or ["all tensors are missing"]
    if problems:
        listed = "; ".join(problems[:_NAMED])
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise CheckpointError(
            f"{source}: {len(fitting)} of {len(expected)} tensors fit ({listed}{more}): "
            f"{_advice(expected, state, fitting)}"
        )
    _copy(module, expected, fitting, source)
    return KeyReport(
        loaded=len(fitting),
        total=len(expected),
        dropped={name: why for name, why in extra.items() if why is not None},
        missing={name: why for name, why in absent.items() if why is not None},
    )


def _copy(
    module: nn.Module, expected: Mapping[str, Tensor], found: Mapping[str, Tensor], source: str
) -> None:
    meta = any(tensor.is_meta for tensor in expected.values())
    if meta and len(found) < len(expected):
        absent = sorted(set(expected) - set(found))[:_NAMED]
        raise CheckpointError(f"{source}: no values for {', '.join(absent)}: build it with weights")
    cast = {name: tensor.to(expected[name].dtype, copy=meta) for name, tensor in found.items()}
    module.load_state_dict(cast, strict=False, assign=meta)


def _reasons(patterns: Patterns, default: str) -> dict[str, str]:
    if isinstance(patterns, Mapping):
        return dict(patterns)
    return dict.fromkeys(patterns, default)


def _match(name: str, reasons: Mapping[str, str]) -> str | None:
    """The reason of the first pattern that covers `name`, None when none does."""
    for pattern, reason in reasons.items():
        if name.startswith(f"{pattern}.") or fnmatch.fnmatchcase(name, pattern):
            return reason
    return None


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _alternate(first: list[str], second: list[str]) -> list[str]:
    """Both lists in turns, so that the few that are printed show what was found and expected."""
    pairs = [item for pair in zip(first, second, strict=False) for item in pair]
    shared = min(len(first), len(second))
    return pairs + first[shared:] + second[shared:]


def _advice(
    expected: Mapping[str, Tensor], state: Mapping[str, Tensor], fitting: Mapping[str, Tensor]
) -> str:
    """What most likely mends a misfit: a prefix, another architecture, a whole file."""
    heads = [
        name.removesuffix(target)
        for name in state
        for target in (name[i + 1 :] for i, letter in enumerate(name) if letter == ".")
        if target in expected and name not in expected
    ]
    common = max(set(heads), key=heads.count, default="")
    if len(heads) > len(fitting):
        return f"the names start with '{common}', so load this file through the family that cuts it"
    if any(n in state and state[n].shape != t.shape for n, t in expected.items()):
        return "the file is of another architecture, patch or image size"
    if len(fitting) < len(expected):
        return "the file is incomplete or of another architecture"
    return "the file holds more than this architecture has"
