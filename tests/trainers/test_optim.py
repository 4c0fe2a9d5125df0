"""Parameter groups, clipping and AdamW, each against loops."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainers.tiny import float64, tiny_method
from trainers.method import Method
from trainers.methods.dino import DINO
from trainers.methods.mae import MAE
from trainers.methods.slotmim import SlotMIM
from trainers.optim import clip_gradients, make_optimizer, set_schedule
from trainers.recipe import Recipe


def decayed_names(method: Method) -> set[str]:
    optimizer = make_optimizer(method, method.plan.recipe)
    names = {id(p): name for name, p in method.named_parameters()}
    return {
        names[id(p)]
        for group in optimizer.param_groups
        if group["weight_decay"] > 0
        for p in group["params"]
    }


def test_biases_and_norms_are_not_decayed_and_all_else_is() -> None:
    method = tiny_method(SlotMIM)
    found = decayed_names(method)
    plain = {n for n, p in method.named_parameters() if p.requires_grad} - found
    vit = "student.encoder.vit"
    assert {f"{vit}.pos_embed", f"{vit}.cls_token", f"{vit}.blocks.0.attn.qkv.weight"} <= found
    assert {"student.encoder.mask_token", "student.prototypes.weight"} <= found
    assert {f"{vit}.norm.weight", f"{vit}.blocks.0.attn.qkv.bias", "predictor.0.bias"} <= plain
    assert all(n.endswith(".bias") or "norm" in n for n in plain)


def test_mae_decays_its_mask_token_but_trains_no_positions() -> None:
    method = tiny_method(MAE)
    optimizer = make_optimizer(method, method.plan.recipe)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert "decoder.mask_token" in decayed_names(method)
    assert id(method.encoder.vit.pos_embed) not in held


def test_a_free_gain_of_the_last_layer_is_decayed_as_in_the_official_groups() -> None:
    method = tiny_method(DINO, norm_last_layer=False)
    assert "student.prototypes.gain" in decayed_names(method)


def test_decay_1d_decays_everything_that_is_trained() -> None:
    method = tiny_method(DINO, decay_1d=True)
    assert decayed_names(method) == {n for n, p in method.named_parameters() if p.requires_grad}


def test_every_trainable_parameter_is_in_one_group() -> None:
    for cls in (MAE, DINO, SlotMIM):
        method = tiny_method(cls)
        groups = make_optimizer(method, method.plan.recipe).param_groups
        held = [id(p) for group in groups for p in group["params"]]
        assert sorted(held) == sorted(id(p) for p in method.parameters() if p.requires_grad)


@pytest.mark.parametrize("decay_1d", [False, True])
def test_schedules_reach_every_learning_rate_and_no_undecayed_group(decay_1d: bool) -> None:
    optimizer = make_optimizer(nn.Linear(3, 4), Recipe(decay_1d=decay_1d))
    set_schedule(optimizer, 0.01, 0.2)
    assert {group["lr"] for group in optimizer.param_groups} == {0.01}
    decays = [group["weight_decay"] for group in optimizer.param_groups]
    assert decays == ([0.2] if decay_1d else [0.2, 0.0])


def test_steps_equal_adamw_in_float64() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 4)
    optimizer = make_optimizer(layer, Recipe(beta1=0.9, beta2=0.95))
    values = [float64(p) for p in (layer.weight, layer.bias)]
    first, second = [np.zeros_like(v) for v in values], [np.zeros_like(v) for v in values]
    for step in range(1, 5):
        set_schedule(optimizer, 0.01 * step, 0.1 * step)
        layer(torch.randn(6, 3)).square().sum().backward()
        for i, (p, decay) in enumerate(((layer.weight, 0.1 * step), (layer.bias, 0.0))):
            g = float64(p.grad)
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.95 * second[i] + 0.05 * g**2
            root = np.sqrt(second[i] / (1 - 0.95**step)) + 1e-8
            values[i] *= 1 - 0.01 * step * decay
            values[i] -= 0.01 * step * first[i] / (1 - 0.9**step) / root
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    np.testing.assert_allclose(float64(layer.weight), values[0], atol=1e-6)
    np.testing.assert_allclose(float64(layer.bias), values[1], atol=1e-6)


def test_a_parameter_whose_gradient_was_cancelled_neither_moves_nor_decays() -> None:
    layer = nn.Linear(3, 4)
    optimizer = make_optimizer(layer, Recipe())
    set_schedule(optimizer, 0.1, 0.5)
    before = layer.weight.detach().clone()
    layer(torch.randn(6, 3)).sum().backward()
    layer.weight.grad = None
    optimizer.step()
    assert torch.equal(layer.weight, before)


def with_gradients() -> tuple[nn.Module, list[np.ndarray]]:
    """Three parameters with gradients of very different size, and one without."""
    module = nn.Module()
    g = torch.Generator().manual_seed(0)
    for name, scale in (("a", 0.01), ("b", 1.0), ("c", 30.0)):
        parameter = nn.Parameter(torch.zeros(4, 5))
        parameter.grad = scale * torch.randn(4, 5, generator=g)
        setattr(module, name, parameter)
    module.unused = nn.Parameter(torch.zeros(2))
    return module, [float64(module.get_parameter(name).grad) for name in "abc"]


@pytest.mark.parametrize("mode", ["parameter", "global"])
@pytest.mark.parametrize("limit", [0.0, 0.3, 3.0, 1000.0])
def test_clipping_equals_a_loop(mode: str, limit: float) -> None:
    module, gradients = with_gradients()
    total = np.sqrt(sum((g**2).sum() for g in gradients))
    norm = clip_gradients(module, limit, mode)
    assert norm.item() == pytest.approx(total, rel=1e-6)
    for name, gradient in zip("abc", gradients, strict=True):
        length = total if mode == "global" else np.sqrt((gradient**2).sum())
        factor = min(1, limit / length) if limit else 1
        found = float64(module.get_parameter(name).grad)
        np.testing.assert_allclose(found, factor * gradient, rtol=2e-5)
    assert module.unused.grad is None


def test_clipping_by_parameter_leaves_small_gradients_untouched_to_the_bit() -> None:
    module, gradients = with_gradients()
    clip_gradients(module, 0.3, "parameter")
    assert np.array_equal(float64(module.a.grad), gradients[0])
