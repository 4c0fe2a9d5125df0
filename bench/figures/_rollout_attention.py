"""Where a policy looks: its stored queries against the tokens of frames."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench import registry
from bench.figures.rollout import Looks

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.figures._rollout_cells import Cell
    from bench.figures.rollout import Frames

BATCH = 16


def looks_of(
    model: LoadedModel, cell: Cell, queries: npt.NDArray[Any], frames: Frames, device: str
) -> Looks:
    """The attention of queries (heads, d) on frames (n, p, p, 3), as the policy had it."""
    import torch

    from bench.features import FeatureCache
    from bench.plan import FULL_PRECISION, requests
    from bench.task_data import TaskData

    asked, fields = requests([cell.result.task_spec])[0], cell.result.identity.fields
    wanted = torch.from_numpy(queries).double()  # (heads, d)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        data = TaskData(
            asked.spec.dataset,
            None,
            FeatureCache(Path(folder)),
            device=device,
            precision=fields.get("precision", FULL_PRECISION),
        )
        encoder_of = registry.attribute("tasks.robot.cloning.encoder:Encoder")
        encoder = encoder_of(model, data, cell.protocol.size_px)
        with encoder.ready(data.open("val")), torch.inference_mode():
            for part in np.split(frames, range(BATCH, len(frames), BATCH)):
                tokens = encoder.tokens(part).double().cpu()  # (b, t, d)
                scores = tokens @ wanted.T  # (b, t, d) @ (d, heads) -> (b, t, heads)
                found.append(scores.softmax(dim=1).mean(dim=2))
    shares = torch.cat(found).numpy()  # (n, t)
    first = int(model.backbone.has_cls)
    patches, side = shares[:, first:], math.isqrt(shares.shape[1] - first)
    maps = (patches / patches.sum(1, keepdims=True)).reshape(len(frames), side, side)
    return Looks(maps, shares[:, :first].sum(1))
