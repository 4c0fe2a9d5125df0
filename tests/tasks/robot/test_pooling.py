"""Attentive pooling: the folded form, the plain form and the equation are one function."""

import math

import numpy as np
import pytest
import torch

from bench.errors import SpecError
from tasks.robot.cloning.pooling import AttentivePooling

SHAPES = [(8, 2, 5), (12, 12, 7), (24, 1, 3), (32, 4, 1), (192, 6, 50)]  # width, heads, tokens


def pooling_and_tokens(
    dim: int, heads: int, t: int, b: int = 3
) -> tuple[AttentivePooling, torch.Tensor]:
    """A block in float64 whose biases and gains are not those of its start, and tokens."""
    generator = torch.Generator().manual_seed(0)
    pooling = AttentivePooling(dim, heads).double()
    for parameter in pooling.parameters():
        start = 0.3 * torch.randn(parameter.shape, generator=generator).double()
        parameter.data = start + (parameter.data == 1)  # gains about one
    return pooling, 2 * torch.randn(b, t, dim, generator=generator).double()


# ---------------------------------------------------------------- the equation, in numpy


def linear(state: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    y = state[f"{name}.weight"] @ x
    return y + state[f"{name}.bias"] if f"{name}.bias" in state else y


def rms_norm(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
    return x / (math.sqrt(sum(v * v for v in x)) * len(x) ** -0.5) * gain


def reference(pooling: AttentivePooling, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of one image (t, d): the pooled vector (d,) and the attention (heads, t)."""
    state = {name: value.numpy() for name, value in pooling.state_dict().items()}
    latent, d = state["latent"], image.shape[1]
    size = d // pooling.heads
    inputs = [linear(state, "projection", x) for x in image]
    query = linear(state, "query", latent)
    pairs = [linear(state, "key_value", x) for x in inputs]  # keys, then values
    answer, attention = np.empty(d), np.empty((pooling.heads, len(image)))
    for head in range(pooling.heads):
        part = slice(head * size, (head + 1) * size)
        scores = np.array([query[part] @ pair[:d][part] for pair in pairs]) * size**-0.5
        attention[head] = np.exp(scores - scores.max())
        attention[head] /= attention[head].sum()
        answer[part] = sum(
            w * pair[d:][part] for w, pair in zip(attention[head], pairs, strict=True)
        )
    x = rms_norm(latent + linear(state, "out", answer), state["attention_norm.gain"])
    value, gate = np.split(linear(state, "mlp.0.project", x), 2)
    y = linear(state, "mlp.1", value * gate / (1 + np.exp(-gate)))
    return rms_norm(x + y, state["mlp_norm.gain"]), attention


@pytest.mark.parametrize(("dim", "heads", "t"), SHAPES)
def test_both_forms_and_the_attention_equal_the_equation(dim: int, heads: int, t: int) -> None:
    pooling, tokens = pooling_and_tokens(dim, heads, t)
    expected = [reference(pooling, image) for image in tokens.numpy()]
    for found in (pooling(tokens), pooling.plain(tokens)):
        np.testing.assert_allclose(found.detach(), np.stack([e[0] for e in expected]), atol=1e-12)
    attention = pooling.attention(tokens).detach()
    assert attention.shape == (3, heads, t)
    np.testing.assert_allclose(attention, np.stack([e[1] for e in expected]), atol=1e-12)
    np.testing.assert_allclose(attention.sum(dim=-1), 1.0, atol=1e-12)


@pytest.mark.parametrize(("dim", "heads", "t"), SHAPES)
def test_folded_and_plain_have_the_same_values_and_gradients(dim: int, heads: int, t: int) -> None:
    pooling, tokens = pooling_and_tokens(dim, heads, t)
    weights = torch.randn(3, dim, generator=torch.Generator().manual_seed(1)).double()
    found = []
    for form in (pooling.forward, pooling.plain):
        inputs = tokens.clone().requires_grad_()
        pooling.zero_grad()
        value = form(inputs)
        (value * weights).sum().backward()
        grads = {name: p.grad.clone() for name, p in pooling.named_parameters()}
        found.append({"value": value.detach(), "tokens": inputs.grad} | grads)
    for name, folded in found[0].items():
        plain = found[1][name]
        scale = max(1.0, float(plain.abs().max()))
        assert float((folded - plain).abs().max()) < 1e-12 * scale, name
        attending = name in ("query.weight", "tokens") and t == 1  # nothing to choose between
        assert attending or plain.abs().max() > 1e-6, name


def test_pooling_equals_that_of_voltron() -> None:
    """siddk/voltron-robotics 1b299bf, `MAPBlock(1, 8, 2)` in float64, ran on these weights.

    At widths 12, 192 and 384 it was within 7e-15 of ours in values and all gradients, relatively.
    """
    pooling, rng = AttentivePooling(8, 4).double(), np.random.default_rng(7)
    for _, parameter in sorted(pooling.named_parameters()):
        parameter.data = torch.from_numpy(rng.random(tuple(parameter.shape)) - 0.5)
    tokens = torch.from_numpy(4 * rng.random((2, 5, 8)) - 2).requires_grad_()
    pooled = pooling(tokens)
    (pooled * torch.arange(16.0).reshape(2, 8)).sum().backward()
    expected = [
        [-0.211375814795134, 0.01577245950851, -0.11715136253103, 0.254381774852642]
        + [0.30571183876726, 0.123149725118428, 0.017473025707623, -0.670423082886548],
        [-0.222521108604042, 0.038373856912373, -0.140391804759375, 0.28907089598683]
        + [0.183767301324501, 0.126222678844907, 0.052791147064647, -0.386071158553481],
    ]
    np.testing.assert_allclose(pooled.detach(), expected, atol=1e-12)
    latent = [-0.051927421674609, -1.90047322001466, 1.390906609858656, 1.152012368652974]
    latent += [3.535618186137212, -4.853360772193153, -0.763040943203391, -10.670659786524554]
    np.testing.assert_allclose(pooling.latent.grad, latent, atol=1e-12)
    token = [0.16923103016896, 0.267583603903477, 0.120454036766379, -0.084386436535947]
    token += [-0.593455562778387, -0.402918452501048, -0.438352509250774, 0.235316576794975]
    np.testing.assert_allclose(tokens.grad[1, 3], token, atol=1e-12)


# ---------------------------------------------------------------- properties


def test_the_products_of_queries_and_tokens_are_the_attention() -> None:
    pooling, tokens = pooling_and_tokens(24, 4, 6)
    assert pooling.queries().shape == (4, 24)
    scores = torch.einsum("hd,btd->bht", pooling.queries(), tokens)
    torch.testing.assert_close(scores.softmax(-1), pooling.attention(tokens), rtol=0, atol=1e-12)


def test_the_order_of_the_tokens_does_not_matter_but_each_token_does() -> None:
    pooling, tokens = pooling_and_tokens(24, 4, 6)
    torch.testing.assert_close(pooling(tokens.flip(1)), pooling(tokens))
    for place in range(6):
        changed = tokens.clone()
        changed[:, place] += 1
        assert (pooling(changed) - pooling(tokens)).abs().amax(dim=1).min() > 1e-4


def test_an_image_is_pooled_the_same_in_any_batch() -> None:
    pooling, tokens = pooling_and_tokens(24, 4, 6)
    alone = torch.cat([pooling(image[None]) for image in tokens])
    torch.testing.assert_close(pooling(tokens), alone, rtol=0, atol=1e-12)


def test_weights_start_as_voltron_s() -> None:
    torch.manual_seed(0)
    pooling = AttentivePooling(384, 12)
    assert pooling.latent.std().item() == pytest.approx(0.02, rel=0.15)
    assert pooling.query.bias is pooling.key_value.bias is None
    assert pooling.mlp[0].project.weight.shape == (2 * 4 * 384, 384)
    bound = 384**-0.5  # of torch's own layers
    layers = pooling.projection, pooling.query, pooling.key_value, pooling.out
    for layer in (*layers, pooling.mlp[0].project):
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert pooling.out.bias.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)


@pytest.mark.parametrize(("heads", "best"), [(5, 4), (7, 8), (400, 384)])
def test_heads_that_do_not_divide_the_width_are_refused(heads: int, best: int) -> None:
    with pytest.raises(SpecError) as caught:
        AttentivePooling(384, heads)
    message = str(caught.value)
    assert "\n" not in message
    assert f"heads={heads} do not divide the tokens' width 384" in message
    near = int(message.rsplit(" ", 1)[1])
    assert 384 % near == 0
    assert abs(near - heads) == abs(best - heads)
