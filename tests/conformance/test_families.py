"""What every checkpoint family must hold; a new file is tested here unasked."""

import re
from pathlib import Path

import pytest
import torch

from bench import registry
from bench.checkpoint import Family, load_model
from bench.errors import CheckpointError, SpecError
from bench.records import ModelRecord


@pytest.fixture(params=registry.names("family"))
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = registry.load("family", str(request.param))()
    return found


def test_its_example_loads_whole_and_the_same_twice(family: Family, tmp_path: Path) -> None:
    source = family.example(tmp_path)
    model, again = load_model(source), load_model(source)
    record, report = model.record, model.report
    name = type(family).__module__.rpartition(".")[2]
    assert (record.family, record.source) == (name, source)
    assert re.fullmatch("[0-9a-f]{64}", record.weights)
    assert record.weights == again.record.weights
    assert not report.missing
    assert report.loaded in (0, report.total), "all tensors from the checkpoint, or random weights"
    assert ModelRecord.from_dict(record.to_dict()) == record
    size = record.input["size_px"]
    pixels = torch.randint(256, (2, 3, size, size), dtype=torch.uint8)
    assert not model.backbone.training
    with torch.no_grad():
        tokens = model.backbone.tokens(model.backbone.input.normalise(pixels))
        same = again.backbone.tokens(again.backbone.input.normalise(pixels))
    assert torch.equal(tokens.patches, same.patches)
    assert torch.isfinite(tokens.patches).all()


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
