"""The light decoder: tokens go back to their places, among mask tokens."""

import pytest
import torch
from torch import Tensor

from bench.errors import SpecError
from tests.trainers.tiny import shaken
from trainers.blocks.decoder import LightDecoder
from trainers.blocks.vit import sincos_positions


@pytest.fixture
def decoder() -> LightDecoder:
    torch.manual_seed(0)
    return shaken(LightDecoder(in_dim=10, dim=8, depth=2, heads=2, out_dim=7, grid=3))


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Class tokens (2, 10), visible tokens (2, 4, 10) and their places among 9."""
    g = torch.Generator().manual_seed(0)
    keep = torch.stack([torch.randperm(9, generator=g)[:4] for _ in range(2)])
    return torch.randn(2, 10, generator=g), torch.randn(2, 4, 10, generator=g), keep


def test_predictions_equal_a_sequence_filled_token_by_token(decoder: LightDecoder) -> None:
    cls, visible, keep = inputs()
    found = decoder(cls, visible, keep)
    assert found.shape == (2, 9, 7)
    positions = sincos_positions(8, 3, prefix=1)[0]
    for i in range(2):
        tokens = [decoder.embed(cls[i])] + [decoder.mask_token[0, 0]] * 9
        for token, place in zip(visible[i], keep[i].tolist(), strict=True):
            tokens[1 + place] = decoder.embed(token)
        x = (torch.stack(tokens) + positions)[None]
        for block in decoder.blocks:
            x = block(x)
        expected = decoder.predict(decoder.norm(x))[0, 1:]
        torch.testing.assert_close(found[i], expected, atol=1e-5, rtol=1e-4)


def test_the_order_of_visible_tokens_does_not_matter(decoder: LightDecoder) -> None:
    cls, visible, keep = inputs()
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        decoder(cls, visible[:, order], keep[:, order]), decoder(cls, visible, keep)
    )


def test_every_prediction_depends_on_the_class_token_and_every_visible_one(
    decoder: LightDecoder,
) -> None:
    cls, visible, keep = inputs()
    for place in range(9):
        c, v = cls.clone().requires_grad_(), visible.clone().requires_grad_()
        decoder(c, v, keep)[0, place].sum().backward()
        assert (c.grad[0] != 0).any()
        assert (v.grad[0] != 0).any(-1).all()
        assert not v.grad[1].any()


def test_positions_are_fixed_and_not_stored(decoder: LightDecoder) -> None:
    names = [name for name, _ in decoder.named_parameters()] + list(decoder.state_dict())
    assert not any("position" in name for name in names)
    torch.testing.assert_close(decoder.positions, sincos_positions(8, 3, prefix=1))


@pytest.mark.parametrize(("dim", "heads"), [(30, 3), (32, 5)])
def test_a_width_that_positions_or_heads_cannot_share_is_refused(dim: int, heads: int) -> None:
    with pytest.raises(SpecError, match="divisible"):
        LightDecoder(in_dim=10, dim=dim, depth=1, heads=heads, out_dim=7, grid=3)


def test_the_mask_token_starts_small_and_linears_without_bias() -> None:
    torch.manual_seed(0)
    decoder = LightDecoder(in_dim=64, dim=128, depth=1, heads=4, out_dim=7, grid=3)
    assert 0.016 < decoder.mask_token.std() < 0.024
    assert not decoder.embed.bias.any()
    bound = (6 / (64 + 128)) ** 0.5
    assert 0.95 * bound < decoder.embed.weight.abs().max() <= bound
