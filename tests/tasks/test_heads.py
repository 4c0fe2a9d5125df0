"""Heads trained as one tensor equal heads trained alone, by the book."""

import copy

import numpy as np
import pytest
import timm.optim
import torch
from torch import nn

from tasks import heads as heads_module
from tasks.heads import LinearHeads, lars_update
from tasks.linear_protocols import PROTOCOLS
from tasks.sweep import HeadSweep

LRS = (0.003, 0.03, 0.3)


def batches(count: int = 12, size: int = 32, width: int = 20, classes: int = 5) -> list:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(size, width, generator=generator) * 3 + 1,
            torch.randint(classes, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def alone(heads: LinearHeads, index: int, batch_norm: bool) -> nn.Sequential:
    """The same head as an ordinary module."""
    classes, width = heads.weight.shape[1:]
    linear = nn.Linear(width, classes)
    linear.weight.data.copy_(heads.weight[index])
    linear.bias.data.copy_(heads.bias[index])
    norm = nn.BatchNorm1d(width, affine=False, eps=1e-6) if batch_norm else nn.Identity()
    return nn.Sequential(norm, linear)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_heads_in_one_tensor_equal_independent_torch_sgd(
    batch_norm: bool, weight_decay: float
) -> None:
    heads = LinearHeads(LRS, 20, 5, batch_norm=batch_norm, weight_decay=weight_decay)
    modules = [alone(heads, i, batch_norm) for i in range(3)]
    optimisers = [
        torch.optim.SGD(m.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)
        for m, lr in zip(modules, LRS, strict=True)
    ]
    for step, (x, y) in enumerate(batches()):
        factor = 1 - step / 12
        losses = heads.step(x, y, factor)
        for i, (module, optimiser) in enumerate(zip(modules, optimisers, strict=True)):
            optimiser.param_groups[0]["lr"] = LRS[i] * factor
            loss = nn.functional.cross_entropy(module(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            assert losses[i].item() == pytest.approx(loss.item(), rel=1e-5)
    test = batches(count=1, size=50)[0][0]
    for i, module in enumerate(modules):
        linear = module.eval()[1]
        torch.testing.assert_close(heads.weight[i], linear.weight.data, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(heads.bias[i], linear.bias.data, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            heads.logits(test)[:, i], module(test).detach(), rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(heads.logits(test, head=i), heads.logits(test)[:, i])


def test_a_lars_step_equals_the_equations_in_float64() -> None:
    heads = LinearHeads(LRS, 20, 5, optimizer="lars", weight_decay=0.1, init="trunc_normal")
    weight = heads.weight.double().numpy().copy()
    bias = heads.bias.double().numpy().copy()
    velocity, bias_velocity = np.zeros_like(weight), np.zeros_like(bias)
    for x, y in batches(count=3):
        heads.step(x, y, factor=0.5)
        for h in range(3):
            logits = x.double().numpy() @ weight[h].T + bias[h]
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            error = (p - np.eye(5)[y.numpy()]) / len(y)
            g = error.T @ x.double().numpy() + 0.1 * weight[h]
            trust = 1e-3 * np.sqrt((weight[h] ** 2).sum()) / np.sqrt((g**2).sum())
            velocity[h] = 0.9 * velocity[h] + trust * g
            weight[h] -= 0.5 * LRS[h] * velocity[h]
            # One-dimensional parameters: plain momentum, neither scaled nor decayed.
            bias_velocity[h] = 0.9 * bias_velocity[h] + error.sum(axis=0)
            bias[h] -= 0.5 * LRS[h] * bias_velocity[h]
    np.testing.assert_allclose(heads.weight.numpy(), weight, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(heads.bias.numpy(), bias, rtol=1e-4, atol=1e-6)


def test_lars_equals_timm_on_a_matrix() -> None:
    generator = torch.Generator().manual_seed(1)
    parameter = nn.Parameter(torch.randn(5, 20, generator=generator))
    ours = parameter.data.clone()[None]
    velocity = torch.zeros_like(ours)
    optimiser = timm.optim.Lars(
        [parameter], lr=0.3, momentum=0.9, trust_coeff=1e-3, always_adapt=True
    )
    for _ in range(4):
        gradient = torch.randn(5, 20, generator=generator)
        parameter.grad = gradient.clone()
        optimiser.step()
        lars_update(ours, gradient[None], velocity, torch.full((1, 1, 1), 0.3), 0.9, 0.0, 1e-3)
    torch.testing.assert_close(ours[0], parameter.data, rtol=1e-5, atol=1e-6)


def test_lars_takes_a_zero_matrix_or_gradient_unscaled() -> None:
    weight, velocity = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    gradient = torch.ones(2, 3, 4)
    gradient[1] = 0
    lars_update(weight, gradient, velocity, torch.full((2, 1, 1), 0.1), 0.9, 0.0, 1e-3)
    torch.testing.assert_close(weight[0], torch.full((3, 4), -0.1))
    assert torch.equal(weight[1], torch.zeros(3, 4))


def test_a_head_does_not_depend_on_the_others_in_the_sweep() -> None:
    together, single = LinearHeads(LRS, 20, 5), LinearHeads(LRS[1:2], 20, 5)
    for x, y in batches():
        together.step(x, y)
        single.step(x, y)
    torch.testing.assert_close(together.weight[1], single.weight[0], rtol=1e-5, atol=1e-6)


def test_a_diverged_head_leaves_the_others_alone() -> None:
    sane, both = LinearHeads([0.1], 20, 5), LinearHeads([0.1, 3e38], 20, 5)
    for x, y in batches():
        sane.step(x, y)
        both.step(x, y)
    assert both.finite().tolist() == [True, False]
    torch.testing.assert_close(both.weight[0], sane.weight[0], rtol=1e-5, atol=1e-6)


def test_slices_of_a_batch_give_the_gradient_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = LinearHeads(LRS, 20, 5, batch_norm=True)
    sliced = copy.deepcopy(whole)
    for x, y in batches(count=4):
        loss = whole.step(x, y)
        with monkeypatch.context() as patch:
            patch.setattr(heads_module, "SLICE_ELEMENTS", 7 * 15)
            sliced_loss = sliced.step(x, y)
        torch.testing.assert_close(loss, sliced_loss)
    torch.testing.assert_close(whole.weight, sliced.weight, rtol=1e-5, atol=1e-6)


def test_folded_heads_equal_batch_norm_followed_by_the_head() -> None:
    heads = LinearHeads(LRS, 20, 5, batch_norm=True)
    for x, y in batches():
        heads.step(x, y)
    test = batches(count=1)[0][0]
    weight, bias = heads.folded(2)
    torch.testing.assert_close(
        test @ weight.T + bias, heads.logits(test)[:, 2], rtol=1e-4, atol=1e-4
    )


def test_initial_heads_have_the_protocol_s_spread_and_repeat_bitwise() -> None:
    first, again = LinearHeads(LRS, 400, 50, seed=3), LinearHeads(LRS, 400, 50, seed=3)
    assert torch.equal(first.weight, again.weight)
    assert first.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not first.bias.any()
    assert not torch.equal(first.weight, LinearHeads(LRS, 400, 50, seed=4).weight)


def sweep_of(**changes: object) -> HeadSweep:
    from dataclasses import replace

    protocol = replace(PROTOCOLS["linear_cached"], lrs=(0.01, 0.1), batch_norm="both", **changes)
    return HeadSweep(protocol, {"cls": 20, "cls+avg": 40}, classes=5, batch=512)


def test_a_sweep_groups_heads_by_what_they_read_and_scales_their_rates() -> None:
    sweep = sweep_of()
    found = [(i.token, i.batch_norm, i.lr) for i in sweep.infos]
    assert found == [
        (token, norm, lr)
        for token in ("cls", "cls+avg")
        for norm in (False, True)
        for lr in (0.01, 0.1)
    ]
    assert [tuple(heads.weight.shape) for _, heads in sweep.groups] == [
        (2, 5, 20), (2, 5, 20), (2, 5, 40), (2, 5, 40)
    ]  # fmt: skip
    torch.testing.assert_close(sweep.groups[0][1].lr, torch.tensor([0.02, 0.2]))
    absolute = sweep_of(lr_rule="absolute").groups[0][1].lr
    torch.testing.assert_close(absolute, torch.tensor([0.01, 0.1]))


def test_accuracy_and_predictions_of_a_sweep_agree() -> None:
    sweep = sweep_of()
    for x, y in batches():
        sweep.step({"cls": x, "cls+avg": torch.cat([x, x], 1)}, y, 1.0)
    x, y = batches(count=1, size=200)[0]
    features = {"cls": x.numpy(), "cls+avg": torch.cat([x, x], 1).numpy()}
    accuracy = sweep.accuracy(features, y.numpy())
    for head in range(len(sweep)):
        prediction, top5 = sweep.predict(head, features, y.numpy())
        assert (prediction == y.numpy()).mean() == accuracy[head]
        assert top5.all()  # of five classes
    with pytest.raises(IndexError):
        sweep.predict(len(sweep), features, y.numpy())
