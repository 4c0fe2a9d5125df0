"""What of a model's name is a seed."""

import pytest

from leaderboards.models import without_seed


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("mae-seed0", "mae"),
        ("mae_s1", "mae"),
        ("random:vit?seed=12", "random:vit"),
        ("mae-seed16", "mae"),
        ("mae-s16", "mae-s16"),
        ("mae-s8", "mae"),
        ("mae?s=16", "mae"),
        ("deit_s14", "deit_s14"),
        ("vit-b16", "vit-b16"),
    ],
)
def test_a_seed_at_the_end_is_left_out_and_a_patch_size_is_not(name: str, stem: str) -> None:
    assert without_seed(name) == stem
