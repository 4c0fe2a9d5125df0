"""Frames as the frozen encoder sees them, of demonstrations and of rollouts alike."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from bench.errors import SpecError
from bench.extraction import Pass
from bench.token_table import TOKENS
from bench.transforms import SquareTransform

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.split import Split
    from bench.task import TaskData

#: Frames of one forward during rollouts. It is the same whatever the number of workers, as a
#: product of another shape may round in another way, and a robot's contacts amplify that.
FRAMES = {"cpu": 1, "cuda": 16}


class Encoder:
    """Tokens of whole frames, squeezed to the encoder's side: the CLS token, then the patches.

    Raises:
        SpecError: the side does not fit the patch.
    """

    def __init__(self, model: LoadedModel, data: TaskData, size_px: int | None) -> None:
        backbone = model.backbone
        side, patch = size_px or backbone.input.size_px, backbone.patch_size
        if side % patch:
            raise SpecError(
                f"size_px={side}: {model.record.name} has patches of {patch} px, choose "
                f"{max(1, round(side / patch)) * patch}"
            )
        self.model, self.data = model, data
        self.transform = SquareTransform(replace(backbone.input, size_px=side))
        self.shape = backbone.token_shape(side)  # (t, d)

    def refuse_cls(self) -> NoReturn:
        """SpecError: there is none."""
        raise SpecError(
            f"pooling=cls: {self.model.record.name} has no CLS token, choose pooling=map or mean"
        )

    def stored(self, split: Split) -> Tensor:
        """(n, t, d) float16 of all frames of a split, from the cache where they are there."""
        table = self.data.tokens(self.model, split, self.transform)
        found = torch.empty((len(table), *self.shape), dtype=torch.float16)
        rows = np.arange(len(table))
        for part, tokens in table.batches(rows, self.data.batch_size):
            found[part[0] : part[-1] + 1] = tokens.half().cpu()
        return found

    def ready(self, split: Split) -> AbstractContextManager[None]:
        """The backbone on its device, in eval mode, for `tokens`."""
        self._pass = Pass(
            self.model, split, (TOKENS,), torch.device(self.data.device), self.data.precision
        )
        return self._pass.ready()

    def tokens(self, frames: npt.NDArray[np.uint8]) -> Tensor:
        """(b, t, d) float32 on the device of frames (b, p, p, 3), rounded like stored ones."""
        if frames.shape[1] == self.transform.spec.size_px:  # nothing to resize
            pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()
        else:
            pixels = torch.stack([self.transform(Image.fromarray(frame)) for frame in frames])
        found = self._pass.features(pixels)[TOKENS]
        return found.view(len(frames), *self.shape).float()
