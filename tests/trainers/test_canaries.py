"""Collapse canaries against cases with a known answer."""

import numpy as np
import pytest
import torch

from trainers.blocks.canaries import collapse, feature_std, prototype_entropy


def test_the_spread_of_features_is_1_in_all_directions_and_0_in_one() -> None:
    torch.manual_seed(0)
    assert feature_std(torch.randn(4000, 64)).item() == pytest.approx(1, abs=0.02)
    assert feature_std(torch.randn(1, 64).expand(50, -1)).item() == pytest.approx(0, abs=1e-6)
    assert feature_std(torch.randn(1, 64)).item() == 1


def test_the_spread_does_not_depend_on_the_length_of_features() -> None:
    torch.manual_seed(0)
    x = torch.randn(20, 8)
    lengths = torch.rand(20, 1) + 0.5
    assert feature_std(x * lengths).item() == pytest.approx(feature_std(x).item(), rel=1e-5)


def test_the_entropy_of_targets_tells_use_from_collapse() -> None:
    even, one = torch.eye(6), torch.eye(6)[:1].expand(6, -1)
    assert prototype_entropy(even).item() == pytest.approx(np.log(6))
    assert prototype_entropy(one).item() == 0
    assert prototype_entropy(even.view(2, 3, 6)).item() == pytest.approx(np.log(6))
    assert prototype_entropy(even[:0]).item() == pytest.approx(np.log(6))


def test_collapse_is_said_in_words_and_only_then() -> None:
    assert collapse({"loss": 1.0}) == ""
    assert collapse({"feature_std": 0.3, "prototype_entropy": 2.0}) == ""
    assert "feature_std 0.001 of 1" in collapse({"feature_std": 0.001})
    assert "1.01 in use" in collapse({"feature_std": 0.3, "prototype_entropy": 0.01})
