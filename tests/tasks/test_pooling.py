"""Pooling blocks equal their equations, written out token by token in float64."""

import math

import numpy as np
import pytest
import torch

from bench.errors import SpecError
from bench.network import build_network
from tasks.pooling import MapBigVision, MapVoltron, encoder_heads, pooling_block

WIDTH, HEADS = 12, 3


def block_and_tokens(name: str, tokens: int = 7) -> tuple[torch.nn.Module, torch.Tensor]:
    """A block in float64 whose biases and gains are not those of its start, and tokens."""
    torch.manual_seed(0)
    block = pooling_block(name, WIDTH, HEADS).double()
    for parameter in block.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return block, torch.randn(4, tokens, WIDTH, dtype=torch.float64) * 2


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def linear(state: dict, name: str, x: np.ndarray) -> np.ndarray:
    y = state[f"{name}.weight"] @ x
    return y + state[f"{name}.bias"] if f"{name}.bias" in state else y


def attention(state: dict, query: np.ndarray, tokens: np.ndarray, heads: int) -> np.ndarray:
    """One image, (t, d): every head by itself, with keys and values spelled out."""
    size = WIDTH // heads
    q = linear(state, "attention.query", query)
    keys = [linear(state, "attention.key", x) for x in tokens]
    values = [linear(state, "attention.value", x) for x in tokens]
    answer = np.empty(WIDTH)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        weights = softmax(np.array([q[part] @ k[part] for k in keys]) / math.sqrt(size))
        answer[part] = sum(w * v[part] for w, v in zip(weights, values, strict=True))
    return linear(state, "attention.out", answer)


def map_bigvision(state: dict, tokens: np.ndarray) -> np.ndarray:
    x = attention(state, state["probe"], tokens, HEADS)
    y = (x - x.mean()) / np.sqrt(x.var() + 1e-6) * state["norm.weight"] + state["norm.bias"]
    y = linear(state, "mlp.0", y)
    y = 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
    return x + linear(state, "mlp.2", y)


def rms_norm(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
    return x / max(math.sqrt((x**2).mean()), 1e-8) * gain


def map_voltron(state: dict, tokens: np.ndarray) -> np.ndarray:
    inputs = np.stack([linear(state, "inputs", x) for x in tokens])
    x = state["latent"] + attention(state, state["latent"], inputs, 2 * HEADS)
    x = rms_norm(x, state["attention_norm.gain"])
    value, gate = np.split(linear(state, "mlp.0.project", x), 2)
    y = linear(state, "mlp.1", value * gate / (1 + np.exp(-gate)))
    return rms_norm(x + y, state["mlp_norm.gain"])


BLOCKS = {"map_bigvision": map_bigvision, "map_voltron": map_voltron}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_equal_their_equations(name: str) -> None:
    block, tokens = block_and_tokens(name)
    state = {key: value.numpy() for key, value in block.state_dict().items()}
    expected = np.stack([BLOCKS[name](state, image) for image in tokens.numpy()])
    np.testing.assert_allclose(block(tokens).detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_order_of_the_tokens_does_not_matter_but_each_token_does(name: str) -> None:
    block, tokens = block_and_tokens(name)
    shuffled = tokens[:, torch.randperm(tokens.shape[1])]
    torch.testing.assert_close(block(shuffled), block(tokens))
    for place in range(tokens.shape[1]):
        changed = tokens.clone()
        changed[:, place] += 1
        assert (block(changed) - block(tokens)).abs().amax(dim=1).min() > 1e-4


@pytest.mark.parametrize("name", BLOCKS)
def test_an_image_is_pooled_the_same_in_any_batch(name: str) -> None:
    block, tokens = block_and_tokens(name)
    alone = torch.cat([block(image[None]) for image in tokens])
    torch.testing.assert_close(block(tokens), alone)


@pytest.mark.parametrize("name", BLOCKS)
def test_one_token_takes_all_attention(name: str) -> None:
    block, tokens = block_and_tokens(name, tokens=1)
    many = tokens.repeat(1, 5, 1)
    torch.testing.assert_close(block(many), block(tokens))


@pytest.mark.parametrize("name", BLOCKS)
def test_gradients_reach_every_weight_and_the_tokens(name: str) -> None:
    block, tokens = block_and_tokens(name)
    tokens.requires_grad_()
    block(tokens).square().sum().backward()
    assert tokens.grad is not None
    for key, parameter in block.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key


def test_big_vision_starts_xavier_uniform_with_its_biases() -> None:
    torch.manual_seed(0)
    block, d = MapBigVision(96, 3), 96
    bounds = {
        "probe": math.sqrt(6 / (1 + d)),
        "attention.query.weight": math.sqrt(6 / (d + d)),
        "attention.out.weight": math.sqrt(6 / (d + d)),
        "mlp.0.weight": math.sqrt(6 / (d + 4 * d)),
        "mlp.2.weight": math.sqrt(6 / (d + 4 * d)),
    }
    for name, bound in bounds.items():
        value = block.get_parameter(name)
        assert value.abs().max() <= bound, name
        assert value.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15), name
    for name in ("query", "value", "out"):
        assert not block.get_parameter(f"attention.{name}.bias").any()
    assert 0 < block.get_parameter("mlp.0.bias").std() < 2e-6


def test_voltron_starts_from_a_small_latent_and_torch_s_layers() -> None:
    torch.manual_seed(0)
    block = MapVoltron(384, 6)
    assert block.latent.std().item() == pytest.approx(0.02, rel=0.15)
    assert block.attention.heads == 12
    assert block.attention.query.bias is block.attention.value.bias is None
    bound = 1 / math.sqrt(384)
    assert block.inputs.weight.abs().max() <= bound
    assert block.inputs.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert block.mlp[0].project.weight.shape == (2 * 4 * 384, 384)


def test_an_rms_of_zero_gives_zeros() -> None:
    block = MapVoltron(8, 2)
    assert not block.mlp_norm(torch.zeros(2, 8)).any()


def test_half_precision_stays_near_single() -> None:
    for name in BLOCKS:
        torch.manual_seed(0)
        block, tokens = pooling_block(name, 64, 2), torch.randn(3, 9, 64)
        with torch.autocast("cpu", torch.bfloat16):
            low = block(tokens)
        torch.testing.assert_close(low.float(), block(tokens), rtol=0.05, atol=0.05)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(SpecError, match="choose heads among 1, 2, 3, 4, 6, 12"):
        MapBigVision(12, 5)
    with pytest.raises(SpecError, match="10 heads do not divide"):
        MapVoltron(12, 5)


@pytest.mark.parametrize(
    ("arch", "heads"),
    [
        ("vit_small_patch16_224", 6),
        ("vit_base_patch16_224", 12),
        ("swin_tiny_patch4_window7_224", 24),
    ],
)
def test_heads_of_an_encoder_are_those_of_its_last_block(arch: str, heads: int) -> None:
    with torch.device("meta"):
        network = build_network(arch)
    assert encoder_heads(network) == heads


def test_a_network_without_attention_asks_for_the_heads() -> None:
    with pytest.raises(SpecError, match="give heads=N"):
        encoder_heads(torch.nn.Linear(2, 2))
