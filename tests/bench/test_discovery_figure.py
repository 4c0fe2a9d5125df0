"""The figure of discovery: the tasks' numbers, the truth beside, its page, what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.annotations import annotations_of, boxes_of, semantic_of
from bench.checkpoint import load_model
from bench.engine import Settings, evaluate
from bench.errors import DataError, SpecError
from bench.figure import Photos, draw
from bench.figures import _truth, discovery
from bench.figures._discovery_page import BOX, discovery_page
from bench.figures._overlay import at_size, painted
from bench.figures._truth import Truth
from bench.figures.discovery import Discovery, Found, Scene
from bench.page import distinct_colours, png, style
from bench.photos import sort_out
from bench.store import Store
from tests.bench.pages import clashes, texts, tile_pixels
from tests.bench.prototyped import write_prototyped

RANDOM = "random:vit_mini_patch4_32?seed=0"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_prototyped(tmp_path_factory.mktemp("runs") / "prototyped")


def photos_of(mini: Path, text: str = "mini_voc", most: int = 8) -> Photos:
    return Photos(sort_out([text], most, 0, mini)[1])


def outcome(model: str, spec: str, mini: Path, folder: Path) -> dict[str, dict[str, float]]:
    """What a task stores of each image."""
    store = Store(folder)
    settings = Settings(data=mini, cache=folder / "cache", workers=0)
    report = evaluate([model], [spec], store, settings)
    columns = store.outcome(report.ran[0]).columns
    names = [name for name in columns if name != "id"]
    rows = zip(*(columns[name].tolist() for name in names), strict=True)
    return {
        id_: dict(zip(names, row, strict=True))
        for id_, row in zip(columns["id"].tolist(), rows, strict=True)
    }


@pytest.mark.parametrize(
    "options", ["protocol=jacc_dino&size_px=48", "protocol=jacc_slotmim&size_px=48"]
)
def test_overlaps_are_those_of_the_task(options: str, run: str, mini: Path, tmp_path: Path) -> None:
    stored = outcome(run, f"discovery@mini_voc?{options}", mini, tmp_path / "store")
    paths = draw(f"discovery?images=8&{options}", [run, "mini_voc"], tmp_path / "a", data=mini)
    images = json.loads(paths[1].read_text())["images"]
    assert len(images) == 8
    for image in images:
        row = stored[image["image"]]
        assert image["jaccard"] == pytest.approx(row["value"], abs=1e-12)
        assert (image["masks"], len(image["regions"])) == (row["candidates"], row["regions"])
        ious = [region["iou"] for region in image["regions"]]
        assert np.mean(ious) == pytest.approx(row["value"], abs=1e-12)


def test_boxes_are_those_of_the_task(run: str, mini: Path, tmp_path: Path) -> None:
    stored = outcome(run, "corloc@mini_voc", mini, tmp_path / "store")
    photos = photos_of(mini, "mini_voc[split=trainval]")
    found = Discovery(size_px=32).look(load_model(run), photos, "cpu")
    rights = []
    for image in json.loads(Discovery().numbers(found))["images"]:
        row = stored[image["image"]]
        assert image["box"] == [row[f"box_{side}"] for side in ("left", "top", "right", "bottom")]
        assert image["box_iou"] == pytest.approx(row["best_iou"], abs=1e-12)
        assert image["box_right"] == bool(row["value"])
        rights.append(image["box_right"])
    assert len(rights) == 8


def test_overlaps_are_counted_by_hand(run: str, mini: Path) -> None:
    photos = photos_of(mini, most=3)
    found = Discovery(protocol="jacc_dino", size_px=64).look(load_model(run), photos, "cpu")
    for photo, scene in zip(photos.items, found.scenes, strict=True):
        assert photo.sample is not None
        split, index = photo.sample
        labels = np.asarray(
            Image.fromarray(semantic_of(split, index)).resize((64, 64), Image.Resampling.NEAREST)
        )
        classes = annotations_of(split, "semantic").classes
        regions = [v for v in np.unique(labels) if classes[v % 255] != "background" and v != 255]
        assert scene.regions == regions
        for place, region in enumerate(regions):
            true = labels == region
            ious = [(mask & true).sum() / (mask | true).sum() for mask in scene.masks]
            np.testing.assert_allclose(scene.ious[:, place], ious, rtol=1e-12)
            assert scene.best[place] == int(np.argmax(ious))


def test_the_truth_stands_beside_in_its_names_and_boxes(run: str, mini: Path) -> None:
    photos = photos_of(mini, most=2)
    found = Discovery(size_px=64).look(load_model(run), photos, "cpu")
    with style():
        written = texts(discovery_page(found))
    for photo, scene in zip(photos.items, found.scenes, strict=True):
        assert photo.sample is not None
        split, index = photo.sample
        classes = annotations_of(split, "semantic").classes
        present = set(np.unique(semantic_of(split, index)).tolist()) - {0, 255}
        assert {scene.truth.name(region) for region in scene.regions} == {
            classes[value] for value in present
        }
        assert all(classes[value][:10] in " ".join(written) for value in present)
        assert scene.truth.boxes is not None
        np.testing.assert_array_equal(scene.truth.boxes, boxes_of(split, index))


def scene(
    size: tuple[int, int] = (120, 90), regions: int = 2, masks: int = 3, boxes: int | None = 2
) -> Scene:
    """An image of (width, height) with quarters for masks and for regions."""
    rng = np.random.default_rng(regions)
    width, height = size
    labels = np.zeros((height, width), np.uint8)
    for region in range(1, regions + 1):
        labels[: height // 2, (region - 1) * width // regions : region * width // regions] = region
    candidates = np.zeros((masks, 24, 24), bool)
    for mask in range(masks):
        candidates[mask, : 12 + mask, mask * 4 :] = True
    true = None if boxes is None else np.array([[5.0, 5, 50, 40], [60, 10, 100, 80]])[:boxes]
    image = Image.fromarray(rng.integers(90, 160, (height, width, 3), np.uint8))
    return Scene(
        name="a/long_folder_name/and_a_file_name_that_is_long.jpeg",
        image=image,
        masks=candidates,
        box=np.array([10.0, 20, 70, 60]),
        truth=Truth(labels, 0, (), true),
        regions=list(range(1, regions + 1)),
        ious=rng.random((masks, regions)),
        box_ious=None if boxes is None else np.array([0.3, 0.6])[:boxes],
    )


def found_of(*scenes: Scene) -> Found:
    record = replace(load_model(RANDOM).record, name="a model of a name that is long " * 3)
    return Found(record, "jacc_dino", 24, "attn_cls", 0.5, scenes)


def test_nothing_overlaps_whatever_is_known() -> None:
    scenes = [
        scene(),
        scene((60, 240), regions=30),
        scene((400, 50), regions=9, boxes=0),
        scene((20, 20), regions=0, boxes=None),
        scene(masks=0),
        replace(scene(), truth=Truth(), regions=[], ious=np.zeros((3, 0)), box_ious=None),
    ]
    with style():
        page = discovery_page(found_of(*scenes))
        assert clashes(page) == []
    written = texts(page)
    assert any(text.startswith("and ") and text.endswith(" more") for text in written)
    assert {"not annotated", "no region"} <= set(written)
    assert "right in 3 of 3 images" in " ".join(written)
    bare = replace(scenes[-1], image=scenes[1].image)
    with style():
        page = discovery_page(found_of(bare))
        assert clashes(page) == []
    assert "truth" not in texts(page)
    assert len(page.axes) == 3


def test_tiles_show_the_best_masks_the_box_and_the_truth() -> None:
    shown = scene((300, 300), regions=2)
    with style():
        page = discovery_page(found_of(shown))
        picture = png(page)
    photo, masks, boxes, truth = (tile_pixels(axes, picture) for axes in page.axes)
    assert np.abs(photo.mean((0, 1)) - np.asarray(shown.image).mean((0, 1))).max() < 3
    colours, drawn = distinct_colours(3), at_size(shown.image)
    regions = [(shown.truth.labels == r, colours[r - 1]) for r in (1, 2)]
    best = sorted(range(2), key=lambda r: shown.ious[:, r].max())
    layers = [(shown.masks[shown.best[r]], colours[r]) for r in best]
    for tile, expected in ((masks, painted(drawn, layers)), (truth, painted(drawn, regions))):
        for rows in (slice(0, 80), slice(100, 200), slice(300, 400)):
            part = slice(*(round(end * len(tile) / 420) for end in (rows.start, rows.stop)))
            seen, wanted = tile[part].mean((0, 1)), 255 * expected[rows].mean((0, 1))
            assert np.abs(seen - wanted).max() < 12  # the boxes' lines are thin
    orange = np.array([int(BOX[i : i + 2], 16) for i in (1, 3, 5)])
    line = np.argwhere(np.abs(boxes.astype(int) - orange).sum(-1) < 30) / len(boxes) * 300
    np.testing.assert_allclose(line.min(0), [20, 10], atol=4)
    np.testing.assert_allclose(line.max(0), [60, 70], atol=4)
    assert not (np.abs(photo.astype(int) - orange).sum(-1) < 30).all()


def test_masks_on_top_are_those_that_fit_best() -> None:
    photo = np.zeros((40, 40, 3))
    whole, half = np.ones((2, 2), bool), np.array([[True, False], [True, False]])
    red, blue = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
    seen = painted(photo, [(whole, red), (half, blue)])
    assert (seen[20, 10] == 0.55 * blue).all()
    assert (seen[20, 30] == 0.55 * red).all()
    assert (seen[20, 19] == blue).all(), "the border of the upper one"


def test_image_files_have_no_truth_and_all_masks(run: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (50, 90, 3), np.uint8)).save(tmp_path / "a.png")
    photos = Photos(sort_out([str(tmp_path / "a.png")], 1)[1])
    found = Discovery(size_px=32).look(load_model(run), photos, "cpu")
    assert (found.protocol, found.maps) == ("jacc_slotmim", "proto")
    (image,) = json.loads(Discovery().numbers(found))["images"]
    assert (image["jaccard"], image["box_iou"], image["true_boxes"]) == (None, None, None)
    assert image["regions"] == []
    assert image["masks"] == len(image["mask_shares"]) > 1


def test_a_model_without_prototypes_shows_its_heads(mini: Path) -> None:
    found = Discovery(size_px=32).look(load_model(RANDOM), photos_of(mini, most=1), "cpu")
    assert (found.protocol, found.maps) == ("jacc_dino", "attn_cls")
    assert len(found.scenes[0].masks) == 3


def test_large_images_are_shrunk_for_lost_and_the_box_comes_back(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photo,) = photos_of(mini, most=1).items
    image = photo.open()
    image.resize((image.width * 8, image.height * 8)).save(tmp_path / "large.png")
    photos = Photos(sort_out([str(tmp_path / "large.png")], 1)[1])
    monkeypatch.setattr(discovery, "MOST", image.width * image.height // 16)
    found = Discovery(size_px=32).look(load_model(RANDOM), photos, "cpu")
    small = image.resize((image.width * 8, image.height * 8)).resize(image.size)
    from tasks.dense.corloc import CorLoc

    expected = CorLoc().look(load_model(RANDOM), small, "cpu") * 8
    np.testing.assert_allclose(found.scenes[0].box, expected)
    assert found.scenes[0].image.width == image.width * 8


def test_an_image_whose_masks_are_missing_keeps_its_boxes(
    mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise DataError("mask x.png is missing")

    monkeypatch.setattr(_truth, "semantic_of", missing)
    found = Discovery(size_px=32).look(load_model(RANDOM), photos_of(mini, most=1), "cpu")
    (image,) = json.loads(Discovery().numbers(found))["images"]
    assert image["missing"] == ["mask x.png is missing"]
    assert image["jaccard"] is None
    assert image["true_boxes"]
    assert image["box_iou"] is not None
    with style():
        assert "without masks" in texts(discovery_page(found))


def test_regions_may_be_objects(mini: Path) -> None:
    photos = photos_of(mini, most=4)
    found = Discovery(size_px=64, objects="instance").look(load_model(RANDOM), photos, "cpu")
    for scene_ in found.scenes:
        assert scene_.truth.labels is not None
        assert scene_.truth.background == 0
        assert [scene_.truth.name(r) for r in scene_.regions] == [
            f"object {r}" for r in scene_.regions
        ]
    frames = photos_of(mini, "mini_davis", most=1)
    found = Discovery(size_px=64).look(load_model(RANDOM), frames, "cpu")
    assert found.scenes[0].jaccard is not None, "videos have objects only"


REQUESTS = {
    "two models": ("discovery", [RANDOM, RANDOM, "mini_voc"], "discovery draws one model"),
    "border": ("discovery?size_px=33", [RANDOM, "mini_voc"], "size_px=33 for patches of 4 px"),
    "no prototypes": (
        "discovery?protocol=jacc_slotmim",
        [RANDOM, "mini_voc"],
        "has no prototypes of patches",
    ),
    "no attention": (
        "discovery",
        ["random:swin_tiny_patch4_window14_224?seed=0", "mini_voc"],
        "has no CLS token|has no attention",
    ),
    "no objects": (
        "discovery?objects=instance&size_px=32",
        [RANDOM, "mini_ade"],
        "says nothing of which object a pixel belongs to",
    ),
    "no protocol": ("discovery?protocol=dino", [RANDOM, "mini_voc"], "jacc_dino"),
}


@pytest.mark.parametrize("request_", REQUESTS)
def test_what_cannot_be_drawn_is_told_in_a_line(request_: str, mini: Path, tmp_path: Path) -> None:
    spec, things, words = REQUESTS[request_]
    with pytest.raises(SpecError, match=words) as caught:
        draw(spec, things, tmp_path / "out", data=mini)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
