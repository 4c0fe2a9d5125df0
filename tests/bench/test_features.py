"""Features: one exact pass, whatever the batches, workers and processes, and after kills."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.backbone import Backbone
from bench.checkpoint import LoadedModel, load_model
from bench.errors import CheckpointError, DataError, SpecError, StoreError
from bench.feature_file import PartialFeatures, runs
from bench.features import FeatureCache
from bench.loader import ImageBatch, PixelCache, by_size, image_batches
from bench.network import seeded_network
from bench.records import KeyReport
from bench.transforms import EvalTransform, InputSpec, ThumbnailTransform

MODEL = "random:vit_mini_patch4_32"


@dataclass(frozen=True)
class Noise:
    """A split of random images, image i from seed i; `bad` ones cannot be read."""

    n: int = 50
    bad: tuple[int, ...] = ()
    manifest: str = "noise"
    name: str = "noise"
    split: str = "train"
    classes: tuple[str, ...] = ("a", "b")
    seconds: float = 0.0
    origin: None = None

    @property
    def ids(self):
        return tuple(f"image-{i}" for i in range(self.n))

    @property
    def targets(self):
        return np.arange(self.n) % 2

    @property
    def images_digest(self) -> str:
        """Of the name and the number of images."""
        return f"{self.manifest} {len(self)}"

    def __len__(self):
        return self.n

    def image(self, index):
        time.sleep(self.seconds)
        if index in self.bad:
            raise DataError(f"cannot read image {index}.jpg")
        rng = np.random.default_rng(index)
        return Image.fromarray(rng.integers(0, 256, (36, 48, 3), np.uint8))


@pytest.fixture
def model() -> LoadedModel:
    """Random weights."""
    return load_model(MODEL)


@pytest.fixture
def cache(tmp_path) -> FeatureCache:
    """An empty cache with small shards."""
    return FeatureCache(tmp_path / "cache", shard_rows=16)


TRANSFORM = EvalTransform(InputSpec(32))


def forwarded(model: LoadedModel) -> list[int]:
    """Grows by the size of every batch that the backbone sees."""
    sizes: list[int] = []
    model.backbone.vit.patch_embed.proj.register_forward_hook(
        lambda module, inputs, output: sizes.append(len(output))
    )
    return sizes


def direct(model: LoadedModel, split: Noise, recipe: str) -> np.ndarray:
    """The recipe image by image, without loader, cache or half precision."""
    rows = []
    for index in range(len(split)):
        pixels = TRANSFORM(split.image(index))[None]
        with torch.no_grad():
            images = model.backbone.input.normalise(pixels)
            rows.append(model.backbone.features(images, [recipe])[recipe][0].numpy())
    return np.stack(rows)


# The table


@pytest.mark.parametrize("recipe", ["cls", "avg", "avg_fcnorm", "cls4", "cls+avg", "cls4+avg"])
def test_every_recipe_is_that_of_the_backbone(model, cache, recipe):
    split = Noise(20)
    table = cache.extract(model, split, TRANSFORM, batch_size=8)
    found = table.get(recipe)
    assert found.dtype == np.float16
    assert table.available(recipe)
    np.testing.assert_allclose(found, direct(model, split, recipe), rtol=2e-3, atol=2e-3)


def test_neighbouring_columns_are_read_only_views_of_the_map(model, cache):
    table = cache.extract(model, Noise(), TRANSFORM)
    for recipe in ("cls", "cls4", "cls+avg", "cls4+avg", "avg_fcnorm"):
        found = table.get(recipe)
        assert np.shares_memory(found, table.get("cls@-1+avg")) or recipe == "avg_fcnorm"
        assert not found.flags.writeable
        assert isinstance(found.base, np.memmap) or isinstance(found, np.memmap)
    apart = table.get("cls+avg_fcnorm")
    np.testing.assert_array_equal(apart[:, :96], table.get("cls"))
    np.testing.assert_array_equal(apart[:, 96:], table.get("avg_fcnorm"))


def test_rows_are_the_split_in_its_order(model, cache):
    split = Noise(37)
    table = cache.extract(model, split, TRANSFORM, batch_size=10)
    assert table.ids == split.ids
    np.testing.assert_array_equal(table.targets, split.targets)
    assert table.classes == split.classes
    assert len(table) == len(table.get("cls")) == 37
    assert json.loads((table.path / "ids.json").read_text()) == list(split.ids)
    np.testing.assert_array_equal(np.load(table.path / "targets.npy"), split.targets)


def test_backbones_without_cls_store_the_averages(cache):
    vit = seeded_network("vit_mini_patch4_32", 0, class_token=False)
    names = {"name": "x", "source": "x", "family": "x", "arch": "x"}
    model = LoadedModel.of(Backbone(vit, InputSpec(32)), KeyReport(0, 0), **names)
    table = cache.extract(model, Noise(10), TRANSFORM)
    assert table.blocks == ("avg", "avg_fcnorm")
    assert not table.available("cls")
    assert table.get("avg").shape == (10, 96)
    with pytest.raises(SpecError, match="needs cls@-1"):
        table.get("cls")


# Independence


def test_results_do_not_depend_on_batches_or_workers(model, tmp_path):
    split = Noise(45)
    tables = [
        FeatureCache(tmp_path / f"{size}-{workers}").extract(
            model, split, TRANSFORM, batch_size=size, workers=workers
        )
        for size, workers in [(45, 0), (7, 0), (7, 2), (16, 1)]
    ]
    for table in tables[1:]:
        assert table.ids == tables[0].ids
        np.testing.assert_allclose(
            table.get("cls4+avg"), tables[0].get("cls4+avg"), rtol=2e-3, atol=2e-3
        )
    # The same batches are the same numbers, whoever decodes.
    np.testing.assert_array_equal(tables[1].get("cls4+avg"), tables[2].get("cls4+avg"))


def test_two_processes_give_the_same_features_and_agree_on_what_is_stored(
    model, processes, tmp_path
):
    whole = FeatureCache(tmp_path / "one").extract(model, Noise(45), TRANSFORM, batch_size=8)
    processes(
        f"""
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_features import MODEL, TRANSFORM, FeatureCache, Noise, Path, load_model, forwarded
        from bench.task import TaskData
        model = load_model(MODEL)
        sizes = forwarded(model)
        cache = FeatureCache(Path(folder) / "two", shard_rows=8)
        table = cache.extract(model, Noise(45), TRANSFORM, batch_size=8)
        assert sum(sizes) == len(dist.shard(45)), sizes
        assert len(table) == 45

        # Their disks differ: one has room for tokens.
        data = TaskData((), None, FeatureCache(Path(folder) / "cache"))
        data.cache.token_bytes = 2**35 if rank == 0 else 0
        assert data.prepare(model, Noise(), TRANSFORM, tokens=True)["images"] == 50
        assert data.prepare(model, Noise(), TRANSFORM, tokens=True) == {{}}
        assert data.tokens(model, Noise(), TRANSFORM).stored
        """,
        2,
    )
    again = FeatureCache(tmp_path / "two").extract(_untouchable(model), Noise(45), TRANSFORM)
    np.testing.assert_allclose(again.get("cls4+avg"), whole.get("cls4+avg"), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_is_close_and_another_entry(model, cache, precision):
    exact = cache.extract(model, Noise(10), TRANSFORM)
    table = cache.extract(model, Noise(10), TRANSFORM, precision=precision)
    assert table.path != exact.path
    np.testing.assert_allclose(table.get("cls"), exact.get("cls"), atol=0.1)


def test_extraction_leaves_the_generators_and_the_mode(model, cache):
    model.backbone.train()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    cache.extract(model, Noise(10), TRANSFORM, workers=1)
    assert torch.equal(torch.rand(2), expected)
    assert model.backbone.training


# The cache


def _untouchable(model: LoadedModel) -> LoadedModel:
    """The same model, which fails when it is run."""

    def fail(*args):
        raise AssertionError("the model was run")

    twin = load_model(model.record.source)
    twin.backbone.vit.patch_embed.proj.register_forward_hook(fail)
    return twin


def test_a_second_call_touches_neither_model_nor_images(model, cache, tmp_path):
    first = cache.extract(model, Noise(), TRANSFORM)
    blind = Noise(bad=tuple(range(50)))  # the same manifest, unreadable by now
    again = FeatureCache(tmp_path / "cache").extract(_untouchable(model), blind, TRANSFORM)
    np.testing.assert_array_equal(first.get("cls4+avg"), again.get("cls4+avg"))


def test_whatever_changes_a_feature_changes_the_key(model, cache):
    def path(m=model, split=Noise(6), transform=TRANSFORM, **options):
        return cache.extract(m, split, transform, **options).path

    spec = InputSpec(32)
    other_mean = LoadedModel(
        Backbone(model.backbone.vit, replace(spec, mean=(0.5, 0.5, 0.5))),
        model.record,
        model.report,
    )
    dino = LoadedModel(Backbone(model.backbone.vit, spec, "dino"), model.record, model.report)
    paths = [
        path(),
        path(load_model(f"{MODEL}?seed=1")),
        path(split=Noise(6, manifest="other")),
        path(split=Noise(7)),
        path(transform=EvalTransform(InputSpec(32, crop_pct=1.0))),
        path(transform=EvalTransform(InputSpec(36))),
        path(precision="bf16"),
        path(blocks=("cls@-1",)),
        path(other_mean),
        path(dino),
    ]
    assert len(set(paths)) == len(paths)
    assert path(batch_size=3, workers=1) == paths[0]


def test_a_new_abi_is_a_new_key(model, cache, monkeypatch):
    before = cache.extract(model, Noise(6), TRANSFORM).path
    monkeypatch.setattr("bench.features.ABI", 10_000)
    assert cache.extract(model, Noise(6), TRANSFORM).path != before


def test_small_splits_stay_decoded_for_the_next_model(model, cache):
    read: list[int] = []

    class Counted(Noise):
        def image(self, index):
            read.append(index)
            return super().image(index)

    first = cache.extract(model, Counted(), TRANSFORM, batch_size=8)
    assert read == list(range(50))
    other = cache.extract(load_model(f"{MODEL}?seed=1"), Counted(), TRANSFORM, batch_size=13)
    assert len(read) == 50
    assert not np.array_equal(first.get("cls"), other.get("cls"))
    assert len(cache.pixels._kept) == 1
    fresh = FeatureCache(cache.root.with_name("fresh"), pixels=PixelCache(budget_bytes=0))
    again = fresh.extract(load_model(f"{MODEL}?seed=1"), Counted(), TRANSFORM, batch_size=13)
    assert len(read) == 100
    np.testing.assert_array_equal(other.get("cls4+avg"), again.get("cls4+avg"))
    assert not fresh.pixels._kept


def test_the_pixel_budget_is_kept_and_the_oldest_goes_first():
    pixels = PixelCache(budget_bytes=2 * 10 * 3 * 32 * 32)
    for key in ("a", "b", "a", "c"):
        for _ in pixels.batches(key, Noise(10), TRANSFORM, np.arange(10), 4):
            pass
    assert list(pixels._kept) == ["a", "c"]
    for _ in pixels.batches("d", Noise(21), TRANSFORM, np.arange(21), 4):
        pass
    assert list(pixels._kept) == ["a", "c"]  # too large to be kept


# Killed and continued

KILLED = """
import sys
sys.path.insert(0, {tests!r})
from test_features import MODEL, TRANSFORM, FeatureCache, Noise, Path, load_model
cache = FeatureCache(Path({root!r}), shard_rows=16)
cache.extract(load_model(MODEL), Noise(200, seconds=0.02), TRANSFORM, batch_size=8)
"""


def test_a_pass_killed_in_the_middle_continues_without_repeating_shards(model, tmp_path):
    root = tmp_path / "killed"
    script = KILLED.format(tests=str(Path(__file__).parent), root=str(root))
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        lines = 0
        for _ in range(3000):
            logs = list(root.glob("*.part/done-0.jsonl"))
            lines = logs[0].read_text().count("runs") if logs else 0
            if lines >= 3 or process.poll() is not None:
                break
            time.sleep(0.01)
        assert lines >= 3
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    (part,) = root.glob("*.part")
    with open(part / "done-0.jsonl", "a") as stream:
        stream.write('\n{"runs": [[0, 20')  # a line that the kill cut short
    done = sum(
        json.loads(line)["runs"][0][1] - json.loads(line)["runs"][0][0]
        for line in (part / "done-0.jsonl").read_text().splitlines()[:-1]
        if line
    )
    assert 48 <= done < 200
    assert not [p for p in root.iterdir() if p.is_dir() and p.suffix != ".part"]

    sizes = forwarded(model)
    table = FeatureCache(root, shard_rows=16).extract(model, Noise(200), TRANSFORM, batch_size=8)
    assert sum(sizes) == 200 - done
    assert not list(root.glob("*.part"))
    fresh = FeatureCache(tmp_path / "fresh").extract(model, Noise(200), TRANSFORM, batch_size=8)
    np.testing.assert_array_equal(table.get("cls4+avg"), fresh.get("cls4+avg"))


def test_an_error_in_the_middle_keeps_what_was_written(model, cache):
    sizes = forwarded(model)
    with pytest.raises(DataError, match=r"40\.jpg"):
        cache.extract(model, Noise(60, bad=(40,)), TRANSFORM, batch_size=8)
    before = sum(sizes)
    assert before >= 40
    cache.extract(model, Noise(60), TRANSFORM, batch_size=8)  # the file was mended meanwhile
    assert sum(sizes) == 60


def test_runs_group_neighbours():
    assert runs(np.array([], dtype=np.int64)) == []
    assert runs(np.array([3])) == [(3, 4)]
    assert runs(np.array([0, 1, 2, 5, 7, 8])) == [(0, 3), (5, 6), (7, 9)]


def test_rows_that_were_never_written_forbid_the_end(tmp_path):
    part = PartialFeatures(tmp_path / "key", (6, 2))
    part.create()
    part.write(np.array([0, 1, 4]), np.ones((3, 2), np.float16), {2: "broken"})
    assert part.missing().tolist() == [2, 3, 5]
    with pytest.raises(StoreError, match="2 rows were not written"):
        part.finish({}, list("abcdef"), np.zeros(6, np.int64))


def test_a_disk_without_room_is_refused_before_the_work(model, cache, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(StoreError, match="GB free: make room"):
        cache.extract(model, Noise(), TRANSFORM)


def test_a_disk_that_fills_up_says_how_to_go_on(model, cache, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StoreError, match=r"No space left.*continues here"):
            cache.extract(model, Noise(), TRANSFORM)
    assert len(cache.extract(model, Noise(), TRANSFORM)) == 50


# Two processes


def test_the_second_process_waits_says_so_and_computes_nothing(model, cache, monkeypatch, capfd):
    monkeypatch.setenv("SSLBENCH_PROGRESS", "plain")
    folder = cache.extract(model, Noise(), TRANSFORM).path
    hidden = folder.rename(folder.with_name("hidden"))
    blind = _untouchable(model)
    with open(f"{folder}.lock", "w") as stream:  # as a process that is at work would hold it
        fcntl.flock(stream, fcntl.LOCK_EX)
        tables = []
        thread = threading.Thread(
            target=lambda: tables.append(cache.extract(blind, Noise(), TRANSFORM))
        )
        thread.start()
        deadline, said = time.monotonic() + 20, ""
        while "waiting for another process" not in said and time.monotonic() < deadline:
            time.sleep(0.02)
            said += capfd.readouterr().err
        assert "waiting for another process" in said
        assert not tables
        hidden.rename(folder)  # the other one has finished
    thread.join(20)
    assert len(tables[0]) == 50


# Bad images, bad numbers, bad requests


def test_bad_images_are_counted_and_named(model, cache):
    split = Noise(50, bad=(3, 20), manifest="bad")
    with pytest.raises(DataError, match=r"20\.jpg \[2 unreadable images so far, 1 allowed"):
        cache.extract(model, split, TRANSFORM, skip_bad=1)
    table = cache.extract(model, split, TRANSFORM, skip_bad=2)
    kept = [i for i in range(50) if i not in (3, 20)]
    assert table.ids == tuple(f"image-{i}" for i in kept)
    np.testing.assert_array_equal(table.targets, np.array(kept) % 2)
    assert table.skipped == ("cannot read image 3.jpg", "cannot read image 20.jpg")
    whole = cache.extract(model, Noise(50), TRANSFORM)
    np.testing.assert_allclose(
        table.get("cls+avg"), whole.get("cls+avg")[kept], rtol=2e-3, atol=2e-3
    )
    # Who tolerates less than what was skipped must hear of it later too.
    with pytest.raises(DataError, match=r"3\.jpg \[2 unreadable images.*delete"):
        cache.extract(model, split, TRANSFORM, skip_bad=1)


def test_whole_batches_of_bad_images_are_possible(model, cache):
    split = Noise(20, bad=tuple(range(4, 12)), manifest="bad")
    table = cache.extract(model, split, TRANSFORM, batch_size=4, skip_bad=8)
    assert len(table) == len(table.get("cls")) == 12


def test_features_that_are_not_finite_stop_the_run(model, cache):
    with torch.no_grad():
        model.backbone.vit.norm.weight[0] = 1e6  # beyond float16
    with pytest.raises(CheckpointError, match=r"not finite in float16 for .* first image-0"):
        cache.extract(model, Noise(), TRANSFORM)
    assert not [p for p in cache.root.iterdir() if p.is_dir() and p.suffix != ".part"]


def test_requests_that_make_no_sense_are_refused(model, cache):
    with pytest.raises(DataError, match="has no images"):
        cache.extract(model, Noise(0), TRANSFORM)
    with pytest.raises(SpecError, match="no precision 'bf61'; did you mean 'bf16'"):
        cache.extract(model, Noise(), TRANSFORM, precision="bf61")
    with pytest.raises(SpecError, match="has 4 blocks"):
        cache.extract(model, Noise(), TRANSFORM, blocks=("cls@-7",))


# The loader


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_each_image_once(workers):
    rows = np.array([4, 9, 2, 7, 7, 30])
    batches = list(image_batches(Noise(bad=(9,)), TRANSFORM, rows, 4, workers))
    assert [batch.rows.tolist() for batch in batches] == [[4, 2, 7], [7, 30]]
    assert [batch.bad for batch in batches] == [{9: "cannot read image 9.jpg"}, {}]
    assert batches[0].pixels.dtype == torch.uint8
    assert torch.equal(batches[1].pixels[1], TRANSFORM(Noise().image(30)))


@pytest.mark.parametrize("workers", [0, 1])
def test_other_errors_of_a_decoder_are_not_swallowed(workers):
    class Broken(Noise):
        def image(self, index):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(image_batches(Broken(), TRANSFORM, np.arange(4), 2, workers))


def test_a_loader_that_is_left_early_stops_its_thread():
    batches = image_batches(Noise(1000), TRANSFORM, np.arange(1000), 2)
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


@dataclass(frozen=True)
class Photos(Noise):
    """Images of three sizes, as photographs come."""

    def image(self, index):
        rng = np.random.default_rng(index)
        size = ((40, 56), (56, 40), (20, 24))[index % 3]
        return Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (4, 0), (16, 1)])
def test_images_of_unequal_size_go_by_size_and_come_back_in_order(
    batch_size, workers, model, tmp_path
):
    transform = ThumbnailTransform(48, scales=(1.0, 2**-0.5))
    cache = FeatureCache(tmp_path, shard_rows=7)
    table = cache.extract(model, Photos(20), transform, batch_size=batch_size, workers=workers)
    assert len(table) == 20
    for index in (0, 1, 2, 19):
        image = model.backbone.input.normalise(transform(Photos(20).image(index))[None])
        half = torch.nn.functional.interpolate(
            image, scale_factor=2**-0.5, mode="bilinear", align_corners=False
        )
        with torch.no_grad():
            one, two = (model.backbone.features(x, ["cls"])["cls"] for x in (image, half))
        np.testing.assert_allclose(table.get("cls")[index], ((one + two) / 2)[0], atol=4e-3)


def test_few_forwards_serve_images_of_few_sizes(model, cache):
    sizes = forwarded(model)
    cache.extract(model, Photos(60), ThumbnailTransform(48), batch_size=10)
    assert sizes == [10] * 6


def test_buckets_wait_for_a_bounded_number_of_images():
    def images():
        for index in range(40):
            read.append(index)
            pixels = torch.zeros(1, 3, 8, 8 + index, dtype=torch.uint8)
            yield ImageBatch(torch.tensor([index]), pixels, {})

    read: list[int] = []
    found = by_size(images(), batch_size=2, waiting=4)
    next(found)
    assert len(read) == 8
    assert sorted([0, *(int(row) for batch in found for row in batch.rows)]) == list(range(40))


def test_unreadable_images_among_unequal_ones_are_told(model, tmp_path):
    cache = FeatureCache(tmp_path)

    @dataclass(frozen=True)
    class Broken(Photos):
        def image(self, index):
            if index == 5:
                raise DataError("cannot read image 5.jpg")
            return super().image(index)

    with pytest.raises(DataError, match=r"5\.jpg"):
        cache.extract(model, Broken(9), ThumbnailTransform(48))
    table = cache.extract(model, Broken(9), ThumbnailTransform(48), skip_bad=1)
    assert len(table) == 8
    assert "image-5" not in table.ids


def test_tokens_of_unequal_images_are_refused(model, cache):
    with pytest.raises(SpecError, match="one size"):
        cache.extract(model, Photos(), ThumbnailTransform(48), blocks=("tokens",))
