"""A closed vocabulary: every token has one meaning, and comes back to it."""

import pytest
import torch

from bench.errors import SpecError
from tasks.vocabulary import Vocabulary


def test_every_token_has_exactly_one_meaning() -> None:
    v = Vocabulary(classes=7, bins=11)
    marks = [v.PAD, v.BOS, v.EOS, v.PROMPT]
    classes = list(range(*v.class_tokens.indices(v.size)))
    coordinates = list(range(*v.coordinate_tokens.indices(v.size)))
    assert (len(classes), len(coordinates)) == (7, 11)
    assert sorted(marks + classes + coordinates) == list(range(v.size))


def test_the_usual_vocabulary_has_a_thousand_bins() -> None:
    assert Vocabulary(10).size == 4 + 10 + 1000


def test_classes_come_back() -> None:
    v, classes = Vocabulary(5), torch.arange(5)
    tokens = v.of_class(classes)
    assert torch.equal(v.class_of(tokens), classes)
    assert v.mask(v.class_tokens)[tokens].all()


def test_coordinates_come_back_within_half_a_bin() -> None:
    v, values = Vocabulary(3), torch.linspace(0, 1, 4097)
    tokens = v.of_coordinate(values)
    assert v.mask(v.coordinate_tokens)[tokens].all()
    assert (v.coordinate_of(tokens) - values).abs().max() <= 0.5 / 1000 + 1e-6
    assert torch.equal(v.of_coordinate(v.coordinate_of(tokens)), tokens)


def test_coordinates_outside_take_the_bin_at_the_edge() -> None:
    v = Vocabulary(0, bins=10)
    tokens = v.of_coordinate(torch.tensor([-3.0, 0.0, 0.0999, 0.1, 1.0, 7.0]))
    assert (tokens - v.coordinate_tokens.start).tolist() == [0, 0, 0, 1, 9, 9]


def test_masks_allow_what_they_name() -> None:
    v = Vocabulary(2, bins=3)
    assert v.mask(v.class_tokens, v.EOS).int().tolist() == [0, 0, 1, 0, 1, 1, 0, 0, 0]
    assert not v.mask().any()


@pytest.mark.parametrize("sizes", [(-1, 10), (3, -1)])
def test_negative_sizes_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(SpecError, match="negative"):
        Vocabulary(*sizes)
