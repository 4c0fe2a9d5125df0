"""Checkpoints that `sslbench train` writes: a run folder, or its `checkpoint/`.

checkpoint/backbone.safetensors   the evaluated branch, under timm's tensor names
checkpoint/method.safetensors     everything else of the method (heads, prototypes, teacher)
checkpoint/checkpoint.json        architecture, input contract, pre-training record, hashes
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.backbone import Backbone, weights_digest
from bench.checkpoint import Family, LoadedModel, load_tensors, safe_torch_load, split_source
from bench.disk import flush
from bench.errors import CheckpointError, StoreError, nearest
from bench.network import Network, empty_network, seeded_network
from bench.tokens import Prototypes
from bench.transforms import InputSpec

SCHEMA = 1
CARD, BACKBONE, METHOD = "checkpoint.json", "backbone.safetensors", "method.safetensors"
FIELDS = (
    *("arch", "arch_kwargs", "method", "name", "input", "pretrain"),
    *("eval_branch", "pos_interp", "extras"),
)


class NativeFamily(Family):
    """Run folders of this project; the tensors must match the hash in `checkpoint.json`."""

    def claims(self, source: str) -> bool:
        """Whether it is a folder with a `checkpoint.json`, or of a run that has none yet."""
        path = Path(source.partition("?")[0]).expanduser()
        return _folder(path) is not None or (path / "metrics.jsonl").is_file()

    def example(self, folder: Path) -> str:
        """A checkpoint of the demo's architecture with random weights."""
        arch = "vit_mini_patch4_32"
        input = InputSpec.of_size(32).to_json()
        write_checkpoint(
            folder / "checkpoint", seeded_network(arch, 0), None, {"arch": arch, "input": input}
        )
        return str(folder)

    def load(self, source: str) -> LoadedModel:
        """The evaluated branch, with what the card declares under `extras`: prototypes, head layer.

        A folder without `method.safetensors` still gives the backbone, without the head layer. What
        is loaded is part of the model's identity, for every task.
        """
        path = Path(split_source(source)[0]).expanduser()
        folder = _folder(path)
        if folder is None:
            raise CheckpointError(
                f"{path} has no {CARD} and no checkpoint/{CARD}: give a run folder of "
                "`sslbench train`, once its last step is done and its checkpoint written"
            )
        card = read_card(folder)
        vit = empty_network(card["arch"], **card.get("arch_kwargs", {}))
        state = safe_torch_load(folder / BACKBONE)
        report = load_tensors(vit, state, source=str(folder / BACKBONE))
        _check_digest(folder, card["weights"], state)
        backbone = Backbone(
            vit,
            InputSpec.from_json(card.get("input", {})),
            card.get("pos_interp", "size"),
            _extras(folder, card.get("extras", {})),
        )
        return LoadedModel.of(
            backbone,
            report,
            name=card.get("name") or _run_name(folder),
            source=source,
            family="native",
            arch=card["arch"],
            method=card.get("method"),
            pretrain=card.get("pretrain"),
        )


def write_checkpoint(
    folder: Path,
    vit: Network,
    method_state: Mapping[str, Tensor] | None,
    meta: Mapping[str, Any],
) -> None:
    """Writes the three files so that a kill at any moment leaves the old or the new checkpoint.

    `meta` is the card without `schema` and `weights`: `arch` is required, `FIELDS` lists the rest.
    `extras={"proto": {"projector": PREFIX, "prototypes": NAME, "temperature": 0.07}}` names the
    tensors of `method_state` behind the recipe `proto`, `{"head": {"layer": PREFIX}}` the first
    linear layer of the projection head, which `semi` keeps. CheckpointError when
    `build_network(arch, **arch_kwargs)` does not give back the tensors of `vit`; StoreError when
    the disk is full.
    """
    folder = Path(folder)
    card = json.dumps(_card(vit, meta), indent=1, allow_nan=False) + "\n"
    _recover(folder)
    new, old = _sibling(folder, "new"), _sibling(folder, "old")
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir(parents=True)
        save_file(_plain(vit.state_dict()), new / BACKBONE)
        if method_state is not None:
            save_file(_plain(method_state), new / METHOD)
        (new / CARD).write_text(card)
        for path in (*new.iterdir(), new):
            flush(path)
        # A folder cannot be replaced in one step: the old one waits beside it for a moment, and
        # readers and the next writer know where to look (`_folder`, `_recover`).
        if folder.exists():
            os.rename(folder, old)
        os.rename(new, folder)
        flush(folder.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(new, ignore_errors=True)
        _recover(folder)
        raise StoreError(f"cannot write {folder} ({error}): make room and resume") from error
    shutil.rmtree(old, ignore_errors=True)


def read_card(folder: Path) -> dict[str, Any]:
    """The content of `checkpoint.json`; CheckpointError when broken, incomplete or newer."""
    path = folder / CARD
    try:
        card = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): copy the run again") from error
    absent = {"schema", "arch", "weights"} - set(card if isinstance(card, dict) else ())
    if absent:
        raise CheckpointError(f"{path} lacks {', '.join(sorted(absent))}: copy the run again")
    if card["schema"] > SCHEMA:
        raise CheckpointError(
            f"{path} has schema {card['schema']}, this version reads up to {SCHEMA}: "
            "pip install --upgrade sslbench"
        )
    return dict(card)


def _card(vit: Network, meta: Mapping[str, Any]) -> dict[str, Any]:
    for key in meta:
        if key not in FIELDS:
            raise CheckpointError(f"no checkpoint field '{key}'; {nearest(key, FIELDS)}")
    if "arch" not in meta:
        raise CheckpointError("a checkpoint needs 'arch', the name that build_network takes")
    state = vit.state_dict()
    twin = empty_network(meta["arch"], **meta.get("arch_kwargs", {})).state_dict()
    shapes = {name: tensor.shape for name, tensor in state.items()}
    other = {name: tensor.shape for name, tensor in twin.items()}
    if shapes != other:
        names = sorted(n for n in {*shapes, *other} if shapes.get(n) != other.get(n))
        listed = "; ".join(f"{n} {_side(shapes, n)}, built {_side(other, n)}" for n in names[:5])
        raise CheckpointError(
            f"build_network('{meta['arch']}', **arch_kwargs) gives another network ({listed}): "
            "state in 'arch_kwargs' what it was built with"
        )
    defaults = {"arch_kwargs": {}, "eval_branch": "student", "pos_interp": "size"}
    return {"schema": SCHEMA, **defaults, **meta, "weights": weights_digest(state)}


def _side(shapes: Mapping[str, tuple[int, ...]], name: str) -> str:
    return str(tuple(shapes[name])) if name in shapes else "absent"


def _check_digest(folder: Path, expected: str, state: Mapping[str, Tensor]) -> None:
    found = weights_digest(state)
    if found != expected:
        raise CheckpointError(
            f"{folder / BACKBONE} has the hash {found[:12]}, {CARD} says {expected[:12]}: the two "
            "files are of different runs or damaged, so copy the run again"
        )


def _extras(folder: Path, declared: Mapping[str, Any]) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    if "proto" in declared:
        tensors = safe_torch_load(folder / METHOD)
        found["proto"] = Prototypes.from_tensors(tensors, **declared["proto"])
    if "head" in declared and (folder / METHOD).exists():
        found["head"] = _first_layer(safe_torch_load(folder / METHOD), **declared["head"])
    return found


def _first_layer(state: Mapping[str, Tensor], layer: str) -> nn.Sequential:
    """The linear layer of that name with the GELU behind it: (b, d) -> (b, hidden)."""
    names = {"weight": f"{layer}.weight", "bias": f"{layer}.bias"}
    values = {key: state[name] for key, name in names.items() if name in state}
    if "weight" not in values or values["weight"].ndim != 2:
        raise CheckpointError(
            f"no linear layer '{layer}' among {', '.join(sorted(state)[:5])}: correct 'extras' in "
            f"{CARD}"
        )
    width, in_dim = values["weight"].shape
    linear = nn.Linear(in_dim, width, "bias" in values, device="meta")
    linear.load_state_dict(values, assign=True)
    return nn.Sequential(linear, nn.GELU())


def _folder(path: Path) -> Path | None:
    """The folder with the card: `path`, its `checkpoint/`, or what a killed writer left of it."""
    places = (
        path,
        path / "checkpoint",
        _sibling(path / "checkpoint", "old"),
        _sibling(path, "old"),
    )
    return next((place for place in places if (place / CARD).is_file()), None)


def _sibling(folder: Path, state: str) -> Path:
    return folder.parent / f".{folder.name}.{state}"


def _recover(folder: Path) -> None:
    """Puts the old checkpoint back when a writer was killed between its two renames."""
    old = _sibling(folder, "old")
    if old.exists() and not folder.exists():
        os.rename(old, folder)
    shutil.rmtree(old, ignore_errors=True)


def _run_name(folder: Path) -> str:
    run = folder.resolve()
    return run.parent.name if run.name.strip(".").startswith("checkpoint") else run.name


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses views and tensors that share memory.
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
