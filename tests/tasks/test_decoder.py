"""The decoder probe as a task: it says classes only, and each rate trains as it would alone."""

import numpy as np
import pytest
import torch

from bench.errors import DataError, SpecError
from bench.probing import run_probes
from bench.records import Outcome
from bench.task import warnings_of
from tasks.decoder_task import heads_of
from tasks.image.attentive import Attentive
from tasks.image.decoder import Decoder
from tasks.token_decoder import TokenDecoder
from tasks.token_heads import DecoderHead
from tasks.token_protocols import DECODER, TokenProtocol
from tasks.token_sweep import TokenSweep
from tasks.vocabulary import Vocabulary
from tests.tasks.token_fakes import MODEL, TokenData, token_data

SHORT = {"width": 32, "heads": 2, "layers": 2, "epochs": 12, "batch": 64, "lrs": (3e-3,)}


def run(data: TokenData, **fields: object) -> Outcome:
    return Decoder(**{**SHORT, **fields}).run(MODEL, data)


def top1(outcome: Outcome) -> float:
    return Decoder().score(outcome)["top1"].value


def test_tokens_that_tell_the_class_score_one() -> None:
    assert top1(run(token_data())) >= 0.99


def test_permuted_labels_score_chance_within_the_interval() -> None:
    data = token_data(n=900)
    for split in (data.train, data.val):  # val too: four clusters cannot score chance by themselves
        split.targets = np.random.default_rng(1).permutation(split.targets)
    metric = Decoder().score(run(data, epochs=3))["top1"]
    assert metric.low < 0.25 < metric.high


def test_an_untrained_decoder_says_a_class_too() -> None:
    outcome = run(token_data(), epochs=1, lrs=(1e-9,))
    assert set(outcome.columns["prediction"]) <= set(range(4))


def test_a_rate_of_a_sweep_trains_as_it_would_alone_dropout_included() -> None:
    data = token_data(strength=0.7)
    wide = run(data, lrs=(1e-3, 3e-3), epochs=4)
    for index, lr in enumerate((1e-3, 3e-3)):
        alone = run(data, lrs=(lr,), epochs=4)
        for name in ("test_accuracy", "held_out_accuracy"):
            np.testing.assert_array_equal(wide.extras[name][:, index], alone.extras[name][:, 0])


def test_sharing_a_stream_with_another_probe_changes_neither() -> None:
    data = token_data(strength=0.7)
    tasks = [Decoder(**SHORT), Attentive(heads=2, epochs=3, batch=64, lrs=(3e-3,))]
    together = run_probes([task.probe(MODEL, data) for task in tasks], MODEL, data)
    for task, shared in zip(tasks, together, strict=True):
        assert isinstance(shared, Outcome), shared
        alone = task.run(MODEL, data)
        np.testing.assert_array_equal(shared.columns["prediction"], alone.columns["prediction"])
        np.testing.assert_array_equal(shared.extras["test_accuracy"], alone.extras["test_accuracy"])


def sweep_of(precision: str) -> TokenSweep:
    protocol = TokenProtocol(lrs=(1e-3,), weight_decay=0.0)
    return TokenSweep(
        lambda: DecoderHead(TokenDecoder(Vocabulary(4), 8, 32, 2), 0.1),
        protocol,
        0,
        "cpu",
        precision,
    )


def test_low_precision_computes_low_and_keeps_weights_single() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens, target = torch.randn(32, 5, 8, generator=generator), torch.arange(32) % 4
    full, low, half = (sweep_of(precision) for precision in ("fp32", "bf16", "fp16"))
    for sweep in (full, low, half):
        sweep.step(tokens, target, 1.0)
        assert all(p.dtype == torch.float32 for p in sweep.heads[0].parameters())
    scores = [sweep.scores(tokens)[0] for sweep in (full, low, half)]
    np.testing.assert_array_equal(scores[0], scores[2])  # the heads do not train in fp16
    assert 0 < np.abs(scores[0] - scores[1]).max() < 0.1


def test_the_first_token_is_trained_to_be_the_class_among_all_tokens() -> None:
    v = Vocabulary(4)
    torch.manual_seed(0)
    head = DecoderHead(TokenDecoder(v, 8, 16, 2, dropout=0.0), smoothing=0.1)
    tokens, target = torch.randn(3, 5, 8), torch.tensor([0, 3, 1])
    start = torch.full((3, 1), v.BOS)
    logs = head.decoder(tokens, start)[:, 0].detach().double().log_softmax(dim=1)  # (3, v)
    terms = [0.9 * logs[i, v.of_class(c)] + 0.1 * logs[i].mean() for i, c in enumerate(target)]
    assert head.loss(tokens, target).item() == pytest.approx(-float(sum(terms)) / 3, rel=1e-5)


def test_sizes_follow_the_encoder() -> None:
    for image_width, width, heads in ((8, 384, 6), (768, 768, 12)):
        model = type(MODEL)(backbone=type(MODEL)(embed_dim=image_width))
        with torch.device("meta"):
            decoder = Decoder().head(model, classes=10)().decoder
        assert decoder.embedding.weight.shape == (1014, width)
        assert decoder.layers[0].image.heads == heads
        assert decoder.layers[0].image.key.in_features == image_width
        assert len(decoder.layers) == 4
    assert [heads_of(width) for width in (32, 64, 384, 432, 1408)] == [1, 1, 6, 6, 22]


def test_lengths_and_numbers_of_the_protocols() -> None:
    ab = DECODER["decoder_ab"]
    imagenet, pets = ab.length(1_281_167), ab.length(3_680)
    assert (imagenet.batch, imagenet.epochs) == (1024, 10)
    assert (pets.batch, pets.iterations, pets.epochs) == (256, 14, 715)
    assert (ab.lrs, ab.weight_decay, ab.warmup, ab.clip) == ((3e-4, 1e-3, 3e-3), 1e-4, 0.05, 1.0)
    assert ab.factor(0, 1000) == 0.0
    assert ab.factor(25, 1000) == pytest.approx(0.5)
    assert ab.factor(50, 1000) == 1.0
    assert ab.factor(525, 1000) == pytest.approx(0.5)
    assert DECODER["decoder_cached"].length(900).steps == 300


def test_one_class_is_nothing_to_tell_apart() -> None:
    with pytest.raises(DataError, match="needs two or more"):
        run(token_data(names=("only",)))


def test_what_must_be_known_comes_with_the_numbers() -> None:
    outcome = run(token_data(), selection="test", batch=4096, epochs=1, lrs=(1e-3, 3e-3))
    texts = " ".join(warnings_of(outcome))
    for part in ("selection=test", "clipped to 300", "of the sweep: widen lrs"):
        assert part in texts


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"layers": 0}, "layers=0 must be at least 1"),
        ({"layers": -1}, "layers=-1 must be at least 1"),
        ({"width": 0}, "width=0 must be at least 1"),
        ({"heads": -2}, "heads=-2 must be at least 1"),
        ({"width": 32, "heads": 5}, "heads=5 do not divide width=32"),
        ({"dropout": 1.0}, "dropout=1.0 must be in"),
        ({"smoothing": -0.1}, "smoothing=-0.1 must be in"),
        ({"lrs": ()}, "must all be above 0"),
    ],
)
def test_wrong_fields_are_refused_when_the_task_is_made(fields: dict, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        Decoder(**fields)
