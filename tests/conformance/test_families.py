"""What every checkpoint family must hold; a new file is tested here unasked."""

from pathlib import Path

import pytest

from bench import registry
from bench.checkpoint import Family
from bench.errors import CheckpointError, SpecError


@pytest.fixture(params=registry.names("family"))
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = registry.load("family", str(request.param))()
    return found


def test_it_claims_neither_garbage_nor_what_is_not_there(family: Family, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.bin"
    garbage.write_bytes(b"not a checkpoint")
    for source in (str(garbage), str(tmp_path), str(tmp_path / "nothing"), "other:name"):
        assert not family.claims(source), source


def test_what_it_cannot_load_is_one_line_of_advice(family: Family, tmp_path: Path) -> None:
    prefix = type(family).__module__.rpartition(".")[2]
    for source in (str(tmp_path), f"{prefix}:{tmp_path / 'nothing'}"):
        with pytest.raises((CheckpointError, SpecError)) as caught:
            family.load(source)
        assert "\n" not in str(caught.value)
