"""CLEVR: whole images in a square, VTAB's labels, and no other data."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.clevr import LABELS
from bench.engine import Settings, evaluate
from bench.errors import DataError
from bench.store import Store
from bench.transforms import SquareTransform
from tasks.image.clevr import Clevr
from tasks.image.decoder import Decoder
from tests.tasks.token_fakes import MODEL, token_data

SHORT = {"width": 32, "heads": 2, "layers": 1, "epochs": 10, "batch": 64, "lrs": (3e-3,)}

#: nearest object's depth -> class, at and around each bound (VTAB: the largest bound below it)
DEPTHS = {
    0.1: 0,
    8.0: 0,
    8.01: 1,
    8.5: 1,
    8.6: 2,
    9.0: 2,
    9.4: 3,
    9.5: 3,
    9.75: 4,
    10.0: 4,
    10.5: 5,
    100.0: 5,
}


def write_scenes(root: Path) -> Path:
    """Twelve scenes in the official layout: 3 to 10 objects, and every edge of the depth bins."""
    folder = root / "CLEVR_v1.0"
    (folder / "scenes").mkdir(parents=True)
    for part in ("train", "val"):
        (folder / "images" / part).mkdir(parents=True)
        scenes = []
        for index, depth in enumerate(DEPTHS):
            name = f"CLEVR_{part}_{index:06d}.png"
            rng = np.random.default_rng(index)
            pixels = rng.integers(0, 256, (32, 48, 4), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / part / name)
            others = [depth + 1 + k for k in range(2 + index % 8)]
            objects = [{"pixel_coords": [9, 9, z]} for z in (*others[:1], depth, *others[1:])]
            scenes.append({"image_filename": name, "objects": objects})
        (folder / "scenes" / f"CLEVR_{part}_scenes.json").write_text(json.dumps({"scenes": scenes}))
    return root


@pytest.mark.parametrize("label", ["count", "distance"])
def test_labels_of_hand_written_scenes_equal_the_table(tmp_path: Path, label: str) -> None:
    text = "clevr" if label == "count" else "clevr[label=distance]"
    settings = Settings(data=write_scenes(tmp_path), cache=tmp_path / "c", workers=0, device="cpu")
    fields = "selection=test&epochs=1&lrs=0.001&width=32&layers=1"
    store = Store(tmp_path / "r")
    report = evaluate(["random:vit_mini_patch4_32"], [f"clevr@{text}?{fields}"], store, settings)
    assert report.failed == {}
    columns = store.outcome(report.ran[0]).columns
    expected = [i % 8 for i in range(12)] if label == "count" else list(DEPTHS.values())
    order = np.argsort(columns["id"])
    assert columns["target"][order].tolist() == expected
    assert report.ran[0].dataset["classes"] == (8 if label == "count" else 6)


@pytest.mark.parametrize("label", ["count", "distance"])
def test_tokens_that_tell_the_label_score_one(label: str) -> None:
    data = token_data(names=LABELS[label][1], strength=4.0, n=480)
    task = Clevr(**SHORT)
    assert task.score(task.run(MODEL, data))["top1"].value >= 0.99


def test_it_is_the_decoder_probe() -> None:
    data = token_data(names=LABELS["count"][1], strength=0.7)
    one, two = (task(**SHORT).run(MODEL, data) for task in (Clevr, Decoder))
    np.testing.assert_array_equal(one.columns["prediction"], two.columns["prediction"])


def test_the_whole_image_is_squeezed_so_that_nothing_is_lost() -> None:
    view = Clevr(size_px=64).view(MODEL, token_data())
    assert isinstance(view, SquareTransform)
    pixels = np.zeros((80, 120, 3), np.uint8)
    pixels[:, :8], pixels[:, -8:] = (255, 0, 0), (0, 0, 255)  # what a centre crop would lose
    seen = view(Image.fromarray(pixels))
    assert seen.shape == (3, 64, 64)
    assert seen[0, :, :2].float().mean() > 200
    assert seen[2, :, -2:].float().mean() > 200


def test_a_mirrored_image_comes_mirrored() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (80, 120, 3), dtype=np.uint8))
    view = Clevr(size_px=32).view(MODEL, token_data())
    mirrored = view(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).flip(2).int()
    assert torch.all((mirrored - view(image).int()).abs() <= 1)


def test_training_reads_the_squares_and_cuts_nothing() -> None:
    probe = Clevr(**SHORT).probe(MODEL, token_data(names=LABELS["count"][1]))
    assert probe.stream.transform == Clevr().view(MODEL, token_data())
    assert "augmentation" not in Clevr.__dataclass_fields__


def test_other_data_are_refused() -> None:
    with pytest.raises(DataError, match=r"are not CLEVR's counts or distances: evaluate on clevr"):
        Clevr(**SHORT).run(MODEL, token_data())


def test_p3_s_length() -> None:
    length = Clevr().numbers().length(63_000)
    assert (length.batch, length.iterations, length.epochs) == (1024, 61, 164)
