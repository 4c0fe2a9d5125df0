"""The decoder equals its equations in float64, never looks ahead, and says only what it may."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bench.errors import SpecError
from tasks.token_decoder import DecoderLayer, TokenDecoder, sequence_loss
from tasks.token_heads import AttentiveHead, DecoderHead, decayed
from tasks.vocabulary import Vocabulary

V = Vocabulary(classes=5, bins=6)
WIDTH, HEADS, IMAGE = 8, 2, 6


def decoder_of(layers: int = 2, length: int = 4) -> TokenDecoder:
    """Untrained, in float64 and eval mode, with biases and gains unlike those of the start."""
    torch.manual_seed(0)
    decoder = TokenDecoder(V, IMAGE, WIDTH, HEADS, layers, length).double().eval()
    for parameter in decoder.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return decoder


def image_of(n: int = 3, tokens: int = 5) -> torch.Tensor:
    return torch.randn(n, tokens, IMAGE, generator=torch.Generator().manual_seed(1)).double()


def layer_norm(x: np.ndarray, state: dict, name: str) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * state[f"{name}.weight"] + state[f"{name}.bias"]


def softmax_mean(q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool) -> np.ndarray:
    """(l, w), (t, w), (t, w) -> (l, w), head by head and place by place."""
    out, size = np.zeros_like(q), WIDTH // HEADS
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        for place in range(len(q)):
            seen = place + 1 if causal else len(k)
            powers = np.exp(k[:seen, part] @ q[place, part] / math.sqrt(size))
            out[place, part] = powers / powers.sum() @ v[:seen, part]
    return out


def linear(x: np.ndarray, state: dict, name: str) -> np.ndarray:
    y = x @ state[f"{name}.weight"].T
    return y + state[f"{name}.bias"] if f"{name}.bias" in state else y


def reference(decoder: TokenDecoder, image: np.ndarray, sequence: np.ndarray) -> np.ndarray:
    """One image (t, d) and sequence (l,) -> logits (l, v)."""
    state = {key: value.numpy() for key, value in decoder.state_dict().items()}
    x = state["embedding.weight"][sequence] + state["positions"][: len(sequence)]
    gelu = np.vectorize(lambda z: 0.5 * z * (1 + math.erf(z / math.sqrt(2))))
    for i in range(len(decoder.layers)):
        at = f"layers.{i}"
        y = layer_norm(x, state, f"{at}.norms.0")
        y = y @ state[f"{at}.itself.in_proj_weight"].T + state[f"{at}.itself.in_proj_bias"]
        y = softmax_mean(*np.split(y, 3, axis=1), causal=True)
        x = x + linear(y, state, f"{at}.itself.out_proj")
        q = linear(layer_norm(x, state, f"{at}.norms.1"), state, f"{at}.image.query")
        k, v = (linear(image, state, f"{at}.image.{name}") for name in ("key", "value"))
        x = x + linear(softmax_mean(q, k, v, causal=False), state, f"{at}.image.out")
        y = gelu(linear(layer_norm(x, state, f"{at}.norms.2"), state, f"{at}.mlp.0"))
        x = x + linear(y, state, f"{at}.mlp.3")
    return linear(layer_norm(x, state, "norm"), state, "out")


def test_logits_equal_the_equations() -> None:
    decoder, image = decoder_of(), image_of()
    sequence = torch.tensor([[1, 5, 9], [1, 4, 4], [1, 3, 12]])
    logits = decoder(image, sequence).detach().numpy()
    for i in range(3):
        expected = reference(decoder, image[i].numpy(), sequence[i].numpy())
        np.testing.assert_allclose(logits[i], expected, atol=1e-12)


def test_a_layer_equals_torch_s_decoder_layer_in_values_and_gradients() -> None:
    torch.manual_seed(0)
    ours = DecoderLayer(WIDTH, HEADS, WIDTH, dropout=0.1).double().eval()
    theirs = nn.TransformerDecoderLayer(
        WIDTH, HEADS, 4 * WIDTH, 0.1, "gelu", batch_first=True, norm_first=True
    )
    theirs = theirs.double().eval()
    for parameter in theirs.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    state, at = theirs.state_dict(), "multihead_attn"
    weights, biases = (state[f"{at}.in_proj_{name}"].chunk(3) for name in ("weight", "bias"))
    renamed = {f"itself.{k[10:]}": v for k, v in state.items() if k.startswith("self_attn.")}
    renamed |= {f"norms.{int(k[4]) - 1}{k[5:]}": v for k, v in state.items() if k[:4] == "norm"}
    renamed |= {
        f"mlp.{'03'[int(k[6]) - 1]}{k[7:]}": v for k, v in state.items() if k[:6] == "linear"
    }
    for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
        renamed |= {f"image.{name}.weight": weight, f"image.{name}.bias": bias}
    del renamed["image.key.bias"]  # which changes nothing, as this test says
    renamed |= {f"image.out.{n}": state[f"{at}.out_proj.{n}"] for n in ("weight", "bias")}
    ours.load_state_dict(renamed)
    for steps in (1, 4):
        x = torch.randn(3, steps, WIDTH, dtype=torch.float64)
        image = torch.randn(3, 5, WIDTH, dtype=torch.float64)
        mask = torch.ones(steps, steps, dtype=torch.bool).triu(1)
        a, b = ours(x, image), theirs(x, image, tgt_mask=mask)
        torch.testing.assert_close(a, b)
        gradients = [
            torch.autograd.grad(found.square().sum(), weight)[0]
            for found, weight in ((a, ours.mlp[0].weight), (b, theirs.linear1.weight))
        ]
        torch.testing.assert_close(*gradients)


def test_layers_start_from_different_weights() -> None:
    decoder = TokenDecoder(V, IMAGE, WIDTH, HEADS)
    first, second = decoder.layers[0], decoder.layers[1]
    assert len(decoder.layers) == 4
    assert not torch.equal(first.mlp[0].weight, second.mlp[0].weight)


def test_later_tokens_do_not_change_earlier_logits_but_earlier_ones_do() -> None:
    decoder, image = decoder_of(), image_of(1)
    sequence = torch.tensor([[1, 5, 9, 6]])
    logits = decoder(image, sequence)
    for place in range(1, 4):
        changed = sequence.clone()
        changed[0, place] = 13
        others = decoder(image, changed)
        torch.testing.assert_close(others[:, :place], logits[:, :place])
        assert (others[:, place:] - logits[:, place:]).abs().max() > 1e-3


def test_a_short_sequence_gives_what_its_start_gives_in_a_long_one() -> None:
    decoder, image = decoder_of(), image_of()
    sequence = torch.tensor([[1, 5, 9, 6]]).expand(3, -1)
    for steps in (1, 2, 3):
        torch.testing.assert_close(
            decoder(image, sequence[:, :steps]), decoder(image, sequence)[:, :steps]
        )


def test_the_order_of_the_image_tokens_does_not_matter_but_each_does() -> None:
    decoder, image, start = decoder_of(), image_of(), torch.ones(3, 1, dtype=torch.long)
    logits = decoder(image, start)
    torch.testing.assert_close(decoder(image[:, [3, 0, 4, 2, 1]], start), logits)
    for place in range(5):
        changed = image.clone()
        changed[:, place] += 1
        assert (decoder(changed, start) - logits).abs().amax(dim=(1, 2)).min() > 1e-4


# ---------------------------------------------------------------------- the loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_mean_over_all_places_that_are_not_padding(smoothing: float) -> None:
    logits = torch.randn(3, 4, V.size, generator=torch.Generator().manual_seed(0)).double()
    sequence = torch.tensor([[5, 6, 2, 0], [7, 2, 0, 0], [8, 9, 10, 2]])
    logs = logits.numpy() - np.log(np.exp(logits.numpy()).sum(-1, keepdims=True))
    terms = [
        -(1 - smoothing) * logs[i, j, token] - smoothing * logs[i, j].mean()
        for i, row in enumerate(sequence.tolist())
        for j, token in enumerate(row)
        if token != V.PAD
    ]
    assert len(terms) == 9
    found = sequence_loss(logits, sequence, smoothing).item()
    assert found == pytest.approx(np.mean(terms), rel=1e-6)


def test_longer_padding_changes_no_loss() -> None:
    decoder, image = decoder_of(length=6), image_of(2)
    sequence = torch.tensor([[5, 6, 2], [7, 2, 0]])
    padded = F.pad(sequence, (0, 3))
    torch.testing.assert_close(decoder.loss(image, padded, 0.1), decoder.loss(image, sequence, 0.1))


def test_teacher_forcing_shows_each_place_the_true_tokens_before_it() -> None:
    decoder, image = decoder_of(), image_of(1)
    sequence = torch.tensor([[5, 6, 2]])
    logits = decoder(image, torch.tensor([[V.BOS, 5, 6]]))
    torch.testing.assert_close(decoder.loss(image, sequence), sequence_loss(logits, sequence))


def test_more_tokens_than_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="5 tokens, but 4 positions"):
        decoder_of()(image_of(), torch.ones(3, 5, dtype=torch.long))


# ---------------------------------------------------------------------- decoding


def test_decoding_is_greedy_step_by_step() -> None:
    decoder, image = decoder_of(), image_of(3)
    found = decoder.decode(image, torch.ones(V.size, dtype=torch.bool), length=4)
    for i in range(3):
        said = [V.BOS]
        for _ in range(4):
            if V.EOS in said:
                said.append(V.PAD)
                continue
            said.append(int(reference(decoder, image[i].numpy(), np.array(said))[-1].argmax()))
        assert found[i].tolist() == said[1:]


def test_decoding_says_only_what_is_allowed_at_each_place() -> None:
    decoder, image = decoder_of(), image_of(40)
    allowed = torch.stack([V.mask(V.coordinate_tokens)] * 2 + [V.mask(V.class_tokens)])
    found = decoder.decode(image, allowed, length=3)
    assert V.mask(V.coordinate_tokens)[found[:, :2]].all()
    assert V.mask(V.class_tokens)[found[:, 2]].all()
    assert len(found.unique(dim=0)) > 1


def test_nothing_is_said_after_the_end() -> None:
    decoder, image = decoder_of(), image_of(4)
    decoder.out.bias.data[V.EOS] += 100
    found = decoder.decode(image, torch.ones(V.size, dtype=torch.bool), length=3)
    assert found.tolist() == [[V.EOS, V.PAD, V.PAD]] * 4


def test_a_place_where_nothing_is_allowed_is_refused() -> None:
    with pytest.raises(ValueError, match="no token is allowed"):
        decoder_of().decode(image_of(), V.mask(), length=2)


def test_a_decoder_learns_sequences_of_unequal_length() -> None:
    torch.manual_seed(0)
    decoder = TokenDecoder(V, IMAGE, 16, 2, layers=1, length=3, dropout=0.0)
    image = torch.eye(IMAGE)[:3, None]  # one token each
    sequence = torch.tensor([[4, 9, 2], [12, 2, 0], [2, 0, 0]])
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        decoder.loss(image, sequence).backward()
        optimizer.step()
    every = torch.ones(V.size, dtype=torch.bool)
    assert decoder.eval().decode(image, every, 3).tolist() == sequence.tolist()


# ---------------------------------------------------------------------- as a classifier


def test_class_scores_are_the_logits_of_the_class_tokens_alone() -> None:
    decoder, image = decoder_of(), image_of()
    decoder.out.bias.data[V.BOS] += 50  # likelier than any class
    decoder.out.bias.data[V.coordinate_tokens] += 50
    scores = DecoderHead(decoder, smoothing=0.1).scores(image)
    assert scores.shape == (3, V.classes)
    said = decoder.decode(image, V.mask(V.class_tokens), length=1)[:, 0]
    assert torch.equal(V.class_of(said), scores.argmax(dim=1))
    expected = reference(decoder, image[0].numpy(), np.array([V.BOS]))[0, V.class_tokens]
    np.testing.assert_allclose(scores[0].detach().numpy(), expected, atol=1e-12)


def test_weight_decay_acts_on_matrices_only() -> None:
    head = DecoderHead(TokenDecoder(V, IMAGE, WIDTH, HEADS, layers=1), 0.1)
    names = {id(parameter): name for name, parameter in head.named_parameters()}
    assert sorted(names[id(p)].removeprefix("decoder.") for p in decayed(head)) == [
        "layers.0.image.key.weight",
        "layers.0.image.out.weight",
        "layers.0.image.query.weight",
        "layers.0.image.value.weight",
        "layers.0.itself.in_proj_weight",
        "layers.0.itself.out_proj.weight",
        "layers.0.mlp.0.weight",
        "layers.0.mlp.3.weight",
        "out.weight",
    ]
    pooled = AttentiveHead("map_voltron", 8, 2, 3)
    assert all(parameter.ndim == 2 for parameter in decayed(pooled))
    assert len(decayed(pooled)) == 8


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(SpecError, match="3 heads do not divide the width 8"):
        TokenDecoder(V, IMAGE, 8, 3)
