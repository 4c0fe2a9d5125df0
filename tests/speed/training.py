"""Training steps beside their plain forms: packed crops, fused optimiser and teacher, MAE's step.

Each reference computes the same numbers, which is checked: one forward for each crop instead of one
for each size; a Python loop over parameters instead of a fused or foreach call; attention written
out as three products. Run it as `python tests/speed/training.py`. Seconds are of one processor and
one thread, so that other work on the machine does not count.
"""

import copy
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from timm.layers import set_fused_attn
from torch import Tensor, nn

from bench.vit import build_vit
from trainers.blocks.teacher import MomentumTeacher
from trainers.blocks.views import Batch
from trainers.blocks.vit import TokenViT
from trainers.distillation import tokens_by_view
from trainers.method import Method
from trainers.methods.mae import MAE, MAERecipe
from trainers.optim import clip_gradients, make_optimizer, set_schedule
from trainers.recipe import Plan, Recipe

REPEATS = 7
CROPS = (224, 224, *(96,) * 10)  # DINO's two global and ten local crops
IMAGES = 2


def race(title: str, ours: Callable[[], object], reference: Callable[[], object]) -> None:
    """Print the medians of both ways, run in turns, and their ratio."""
    seconds: dict[str, list[float]] = {"ours": [], "reference": []}
    for turn in range(REPEATS + 1):
        for name, way in (("ours", ours), ("reference", reference)):
            began = time.process_time()
            way()
            if turn:  # the first turn warms up
                seconds[name].append(time.process_time() - began)
    mid = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"{title}\n  ours      {1000 * mid['ours']:8.1f} ms")
    print(f"  reference {1000 * mid['reference']:8.1f} ms")
    print(f"  {mid['reference'] / mid['ours']:.2f} times as fast", flush=True)


def packed_crops() -> None:
    """Forward and backward of a multi-crop batch: one pass for each size, or for each crop."""
    torch.manual_seed(0)
    encoder = TokenViT(build_vit("vit_small_patch16_224"))
    views = [torch.randn(IMAGES, 3, size, size) for size in CROPS]

    def step(forward: Callable[[], list[Tensor]]) -> Tensor:
        encoder.zero_grad()
        tokens = torch.cat(forward())
        tokens.square().mean().backward()
        return tokens.detach()

    packed = partial(step, lambda: [out.cls for out in tokens_by_view(encoder, views)])
    single = partial(step, lambda: [encoder(view).cls for view in views])
    torch.testing.assert_close(packed(), single(), atol=1e-4, rtol=1e-4)
    race(f"ViT-S/16, {IMAGES} images x {len(CROPS)} crops, forward and backward", packed, single)


def optimiser() -> None:
    """Clipping, AdamW and teacher of a ViT-S: fused and foreach calls, or Python loops."""
    torch.manual_seed(0)
    recipe = Recipe(clip=3.0)
    ours = nn.ModuleDict({"encoder": build_vit("vit_small_patch16_224")})
    plain = copy.deepcopy(ours)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        one.grad = torch.randn_like(one)
        other.grad = one.grad.clone()
    teacher, follower = MomentumTeacher(ours), copy.deepcopy(plain)
    fused = make_optimizer(ours, recipe)
    loops = torch.optim.AdamW(
        [{**group} for group in make_optimizer(plain, recipe).param_groups],
        betas=(0.9, 0.999),
        foreach=False,
        fused=False,
    )
    for group in loops.param_groups:
        group.update(fused=False, foreach=False)

    def fast() -> None:
        set_schedule(fused, 1e-4, 0.04)
        clip_gradients(ours, recipe.clip, "parameter")
        fused.step()
        teacher.update(ours, 0.996)

    @torch.no_grad()
    def slow() -> None:
        set_schedule(loops, 1e-4, 0.04)
        for p in plain.parameters():
            assert p.grad is not None
            coefficient = recipe.clip / (float(p.grad.norm()) + 1e-6)
            if coefficient < 1:
                p.grad.mul_(coefficient)
        loops.step()
        for mine, theirs in zip(follower.parameters(), plain.parameters(), strict=True):
            mine.mul_(0.996).add_(theirs, alpha=1 - 0.996)

    race("ViT-S/16, clipping each tensor, AdamW, teacher", fast, slow)
    for one, other in zip(teacher.model.parameters(), follower.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def mae_step() -> None:
    """A whole step of MAE: fused attention and optimiser, or attention and optimiser as loops."""
    recipe = MAERecipe(arch="vit_small_patch16_224", batch_size=8, decoder_depth=4)
    images = torch.randn(8, 3, 224, 224)

    def built(fused: bool) -> tuple[Method, torch.optim.Optimizer]:
        set_fused_attn(fused)
        torch.manual_seed(0)
        method = MAE(Plan.of(recipe, 80))
        if fused:
            return method, make_optimizer(method, recipe)
        return method, torch.optim.AdamW(method.parameters(), lr=0.0, foreach=False)

    def step(method: Method, optimizer: torch.optim.Optimizer) -> float:
        torch.manual_seed(1)
        none = torch.zeros(8, 1)
        batch = Batch([images], none[..., None].expand(-1, -1, 4), none.bool(), [None], none[:, 0])
        loss = method.losses(batch, 0)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    ours, reference = partial(step, *built(fused=True)), partial(step, *built(fused=False))
    set_fused_attn(True)
    torch.testing.assert_close(ours(), reference(), atol=0, rtol=1e-4)
    race("MAE, ViT-S/16 at 224 px, batch 8: forward, backward, AdamW", ours, reference)


def main() -> None:
    """Prints all three."""
    torch.set_num_threads(1)
    packed_crops()
    optimiser()
    mae_step()


if __name__ == "__main__":
    main()
