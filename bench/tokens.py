"""What a Backbone answers with, and the head behind the recipe `proto`."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import CheckpointError


@dataclass(frozen=True)
class Tap:
    """Tokens after one block: `cls` (b, d) or None, `patches` (b, h, w, d); no registers."""

    cls: Tensor | None
    patches: Tensor


@dataclass(frozen=True)
class Tokens:
    """`cls` and `patches` of the last tap asked for, and `layers`, all taps in order."""

    cls: Tensor | None
    patches: Tensor
    layers: tuple[Tap, ...]


class Prototypes(nn.Module):
    """Prototype probabilities of normed patches: softmax(cos(projector(x), prototype) / T).

    The module behind the recipe `proto` (SlotMIM's EMA branch, T = 0.07); `prototypes` is (k, e).
    """

    def __init__(self, projector: nn.Module, prototypes: Tensor, temperature: float = 0.07) -> None:
        super().__init__()
        self.projector = projector
        self.register_buffer("prototypes", prototypes.detach().clone())
        self.temperature = temperature

    @classmethod
    def from_tensors(
        cls,
        state: Mapping[str, Tensor],
        projector: str,
        prototypes: str,
        temperature: float = 0.07,
        count: int | None = None,
    ) -> "Prototypes":
        """From a method's state: an MLP of the linear layers under `projector`, GELU between them.

        `prototypes` is the full name of the (k, e) tensor, of which the first `count` rows are
        taken where that is given. CheckpointError when either is absent.
        """
        names = [n for n, t in state.items() if n.startswith(f"{projector}.") and t.ndim == 2]
        names.sort(key=lambda name: [int(part) for part in name.split(".") if part.isdigit()])
        if not names or prototypes not in state:
            raise CheckpointError(
                f"no linear layers under '{projector}' or no '{prototypes}' among "
                f"{', '.join(sorted(state)[:5])}: correct 'extras' in checkpoint.json"
            )
        layers: list[nn.Module] = []
        for name in names:
            weight, bias = state[name], state.get(f"{name.removesuffix('weight')}bias")
            linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
            values = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
            linear.load_state_dict(values, assign=True)
            layers += [nn.GELU(), linear]
        return cls(nn.Sequential(*layers[1:]), state[prototypes][:count], temperature)

    def forward(self, patches: Tensor) -> Tensor:
        """(b, h, w, d) -> (b, h, w, k), float32."""
        z = F.normalize(self.projector(patches).float(), dim=-1)  # (b, h, w, e)
        unit = F.normalize(self.get_buffer("prototypes").float(), dim=-1)  # (k, e)
        with torch.autocast(patches.device.type, enabled=False):  # which would undo float()
            cosine = z @ unit.T  # (b, h, w, e) @ (e, k) -> (b, h, w, k)
        return (cosine / self.temperature).softmax(dim=-1)
