"""Floating-point operations of a training step, counted without doing them."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry

from bench import dist
from bench.transforms import InputSpec
from trainers.blocks.views import collate
from trainers.method import Method

_SMALL = 2**17  # values; the product of smaller tensors is done, which is quicker than to avoid it
_LARGE = 2**22  # values; what is larger is a bank's, or a gradient
_NOISE = 99_991  # numbers drawn; a prime, so that the rows of no common matrix are alike


def count_flops(method: Method) -> float:
    """Floating-point operations of one image in a training step, forward and backward.

    What a step costs with any number of images, as SOVE's concepts do, is shared out among them.
    Where a loss has more terms the more its inputs differ (SlotMIM's active slots), it is that of
    random activations.
    """
    trial = copy.deepcopy(method)  # a step leaves what `after_step` will apply
    one, two = (_flops_of_step(trial, images) for images in (1, 2))
    recipe = method.plan.recipe
    together = recipe.batch_size / (recipe.accumulate * dist.world_size())
    return two - one + (2 * one - two) / together


def _flops_of_step(trial: Method, images: int) -> int:
    image, rng = Image.new("RGB", (256, 256)), np.random.default_rng(0)
    batch = collate([(i, trial.views(image, rng)) for i in range(images)])
    # Colours and blur are no part of the network.
    batch.images = [InputSpec().normalise(view) for view in batch.images]
    with _Counter() as counter:
        loss = trial.losses(batch, 0)["loss"]
        counter.noise = None
        loss.backward()
    trial.zero_grad(set_to_none=True)
    return counter.flops


class _Counter(TorchDispatchMode):
    """Within, products are counted, and they and sorts give noise, or zeros, of the right shape.

    On one core the step of a ViT-B, or SOVE's sorts of its bank, would take a minute.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.noise: Tensor | None = torch.randn(_NOISE, generator=torch.Generator().manual_seed(0))

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        packet, kwargs = func._overloadpacket, kwargs or {}
        large = any(isinstance(value, Tensor) and value.numel() >= _SMALL for value in args)
        if packet is torch.ops.aten.index_fill_ and large:  # SOVE takes anchors out of a sort
            return args[0]
        if large and (packet in flop_registry or packet is torch.ops.aten.topk):
            on_meta = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
            out = tree_map_only(Tensor, self._filled, func(*on_meta[0], **on_meta[1]))
        else:
            out = func(*args, **kwargs)
        if packet in flop_registry:
            self.flops += int(flop_registry[packet](*args, **kwargs, out_val=out))
        return out

    def _filled(self, like: Tensor) -> Tensor:
        size = like.untyped_storage().nbytes() // like.element_size()
        if self.noise is None or not like.is_floating_point() or like.numel() > _LARGE:
            # These take no time: NumPy asks the system for pages of zeros, PyTorch would write
            # them.
            zeros = np.zeros(size * like.element_size(), np.uint8)
            flat = torch.from_numpy(zeros).view(like.dtype)
        else:
            flat = torch.empty(size, dtype=like.dtype)
            whole = size // _NOISE * _NOISE
            flat[:whole].view(-1, _NOISE).copy_(self.noise)
            flat[whole:].copy_(self.noise[: size - whole])
        return flat.as_strided(like.shape, like.stride())
