"""Policies: one moment in, one action out, from weights that follow from a seed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench.errors import SpecError
from tasks.robot.cloning.policy import (
    HIDDEN,
    PIXELS,
    ActionHead,
    frozen_policy,
    pixel_policy,
    pooled,
    shrunk,
    state_policy,
)

STATES = np.random.default_rng(0).normal(size=(50, 6)) * [1, 1e-3, 50, 0, 1, 2] + [
    0,
    2,
    9,
    7,
    -3,
    1,
]
KINDS: dict[str, Callable[[int], nn.Module]] = {
    "map": lambda seed: frozen_policy("map", 24, 4, 3, seed),
    "cls": lambda seed: frozen_policy("cls", 24, 4, 3, seed),
    "mean": lambda seed: frozen_policy("mean", 24, 4, 3, seed),
    "pixels": lambda seed: pixel_policy(3, seed),
    "state": lambda seed: state_policy(STATES, 3, seed),
}


def seen(kind: str, n: int = 5, seed: int = 0) -> torch.Tensor:
    """What a policy of that kind looks at, n moments of it."""
    rng = np.random.default_rng(seed)
    if kind == "state":
        return torch.from_numpy(STATES[:n]).float()
    if kind == "pixels":
        return torch.from_numpy(rng.integers(0, 256, (n, PIXELS, PIXELS, 3), dtype=np.uint8))
    shape = (n, 7, 24) if kind == "map" else (n, 24)
    return torch.from_numpy(rng.normal(size=shape)).float()


@pytest.mark.parametrize("kind", KINDS)
def test_actions_are_in_range_and_those_of_a_moment_do_not_depend_on_others(kind: str) -> None:
    policy, moments = KINDS[kind](0), seen(kind)
    before = moments.clone()
    actions = policy(moments)
    assert actions.shape == (5, 3)
    assert actions.abs().max() < 1
    assert torch.equal(moments, before)
    alone = torch.cat([policy(moment[None]) for moment in moments])
    torch.testing.assert_close(actions, alone, rtol=0, atol=1e-5)
    assert (actions[0] - actions[1]).abs().max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_weights_follow_from_the_seed_alone_and_nothing_else_changes(kind: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = KINDS[kind](3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    same, other = KINDS[kind](3).state_dict(), KINDS[kind](4).state_dict()
    for name, value in one.state_dict().items():
        assert torch.equal(value, same[name]), name
    drawn = [name for name, value in one.state_dict().items() if value.ndim > 1]
    assert drawn
    assert not any(torch.equal(same[name], other[name]) for name in drawn)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_weight(kind: str) -> None:
    policy = KINDS[kind](0)
    policy(seen(kind)).square().sum().backward()
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


# ---------------------------------------------------------------- the action head


def test_the_head_starts_orthogonal_without_biases_as_that_of_hu_et_al() -> None:
    torch.manual_seed(0)
    head = ActionHead(384, 9)
    layers = [layer for layer in head if isinstance(layer, nn.Linear)]
    widths = [layer.out_features for layer in layers]
    assert widths == [512, 256, 128, 9] == [*HIDDEN, 9]
    for layer in layers:
        weight = layer.weight.detach().double()
        short = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
        torch.testing.assert_close(short, torch.eye(len(short)).double(), rtol=0, atol=1e-5)
        assert not layer.bias.any()


def test_the_head_equals_its_equation() -> None:
    policy = frozen_policy("cls", 24, 4, 3, 0).double()
    vectors = seen("cls").double()
    state = {name: value.numpy() for name, value in policy.state_dict().items()}
    x = vectors.numpy()
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    for place in (0, 2, 4):
        x = np.maximum(x @ state[f"head.{place}.weight"].T + state[f"head.{place}.bias"], 0)
    x = np.tanh(x @ state["head.6.weight"].T + state["head.6.bias"])
    np.testing.assert_allclose(policy(vectors).detach(), x, atol=1e-12)


# ---------------------------------------------------------------- pooling of tokens


def test_cls_is_the_first_token_and_the_mean_is_of_the_patches() -> None:
    tokens = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    assert pooled("map", tokens, True) is tokens
    assert torch.equal(pooled("cls", tokens, True), tokens[:, 0])
    torch.testing.assert_close(
        pooled("mean", tokens, True), sum(tokens[:, i] for i in range(1, 5)) / 4
    )
    torch.testing.assert_close(
        pooled("mean", tokens, False), sum(tokens[:, i] for i in range(5)) / 5
    )


def test_heads_that_do_not_divide_the_width_are_refused_with_one_line() -> None:
    with pytest.raises(SpecError, match=r"^heads=10 .* width 384: choose \d+$"):
        frozen_policy("map", 384, 10, 9, 0)


# ---------------------------------------------------------------- pixels


def test_a_small_frame_is_the_mean_of_each_square_of_the_large_one() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (70, 224, 224, 3), dtype=np.uint8)
    found = shrunk(frames)
    assert found.shape == (70, PIXELS, PIXELS, 3)
    assert found.dtype == torch.uint8
    means = frames.reshape(70, PIXELS, 2, PIXELS, 2, 3).mean(axis=(2, 4))
    assert np.abs(found.numpy() - means).max() <= 0.5
    assert torch.equal(found[64:], shrunk(frames[64:]))  # whatever stands before it


@pytest.mark.parametrize("side", [32, 112, 150, 300])
def test_frames_of_any_side_keep_their_colour_and_their_place(side: int) -> None:
    frames = np.full((1, side, side, 3), (10, 200, 30), np.uint8)
    assert (shrunk(frames)[0, ..., 1] == 200).all()
    frames[0, : side // 2, side // 2 :] = 255
    small = shrunk(frames)[0].numpy()
    assert (small[:50, 62:] == 255).all()
    assert (small[62:] == (10, 200, 30)).all()


def test_where_something_is_changes_what_is_done() -> None:
    frames = torch.zeros((3, PIXELS, PIXELS, 3), dtype=torch.uint8)
    frames[0, 10:26, 10:26] = frames[1, 80:96, 10:26] = frames[2, 80:96, 80:96] = 255
    actions = pixel_policy(3, 0)(frames)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert (actions[one] - actions[other]).abs().max() > 1e-3


# ---------------------------------------------------------------- states


def test_states_are_read_in_units_of_the_demonstrations() -> None:
    scale, shift = np.array([1e3, 0.1, 1, 10, 0.1, 7]), np.array([5, 0, -2, 1, 0.3, 0])
    moments = torch.from_numpy(STATES[:5])
    one = state_policy(STATES, 3, 0).double()
    other = state_policy(STATES * scale + shift, 3, 0).double()
    found = other(moments * torch.from_numpy(scale) + torch.from_numpy(shift))
    torch.testing.assert_close(found, one(moments), rtol=0, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, 7.0, -1e6])
def test_a_state_that_never_moved_does_not_blow_up(value: float) -> None:
    states = np.random.default_rng(0).normal(size=(40, 3))
    states[:, 1] = value
    policy = state_policy(states, 2, 0)
    rows: Any = torch.from_numpy(states).float()
    nudged = rows.clone()
    nudged[:, 1] += 1e-3 * max(abs(value), 1)
    assert policy(nudged).isfinite().all()
    if abs(value) < 10:
        assert (policy(nudged) - policy(rows)).abs().max() < 0.05
