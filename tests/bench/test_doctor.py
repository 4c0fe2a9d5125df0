"""The doctor: packages against our own requirements, devices, and each dataset or its tree."""

import importlib.metadata
import json
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement
from PIL import Image

from bench import doctor, gl, registry
from bench.doctor import Check, Report, report
from tests.bench.trees import write_photographs


@pytest.fixture(autouse=True)
def _no_data_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSLBENCH_DATA", raising=False)


def checks(found: Report, section: str) -> dict[str, Check]:
    return {check.name: check for check in found.checks if check.section == section}


def write_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (2, 2)).save(folder / f"n1_{number}.JPEG", "PNG")


def test_every_base_requirement_is_reported() -> None:
    found = checks(report(), "packages")
    names = {
        need.name
        for need in map(Requirement, importlib.metadata.requires("sslbench") or [])
        if "extra" not in str(need.marker)
    }
    assert names | {"python", "sslbench"} == set(found)
    assert found["numpy"].found == importlib.metadata.version("numpy")


def test_missing_and_old_packages_come_with_the_line_that_mends_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("timm", "gymnasium"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.1" if name == "pillow" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    whole = report()
    found = checks(whole, "packages")
    assert (found["timm"].status, found["timm"].found) == ("broken", "not installed")
    assert found["timm"].mend.startswith("pip install 'timm>=")
    assert found["pillow"].found.startswith("0.1, expected >=")
    robot = checks(whole, "extras")["robot"]
    assert robot.status == "absent"
    assert "gymnasium not installed" in robot.found
    assert robot.mend == "pip install 'sslbench[robot]'"
    assert not whole.healthy


def test_absent_extras_do_not_make_the_machine_unfit() -> None:
    assert Report((Check("extras", "robot", "absent", "nothing"),)).healthy
    assert not Report((Check("packages", "torch", "broken", "gone"),)).healthy


def test_no_data_root_says_how_to_give_one() -> None:
    found = checks(report(), "data")
    assert list(found) == ["data root"]
    assert found["data root"].status == "absent"
    assert "--data DIR" in found["data root"].found
    assert "sslbench mini DIR" in found["data root"].found


def test_data_root_that_is_no_folder_is_broken(tmp_path: Path) -> None:
    assert checks(report(tmp_path / "gone"), "data")["data root"].status == "broken"


def test_datasets_are_counted_or_shown_as_a_tree(tmp_path: Path) -> None:
    write_images(tmp_path / "imagenette2/train/n1", 3)
    write_images(tmp_path / "imagenette2/val/n1", 2)
    write_images(tmp_path / "coco/val2017", 2)
    (tmp_path / "ILSVRC2012").mkdir()
    whole = report(tmp_path)
    found = checks(whole, "data")
    assert found["imagenette"].status == "ok"
    assert "train 3 images of 1 classes; val 2 images of 1 classes" in found["imagenette"].found
    assert found["coco"].status == "ok"
    assert "val 2 images without labels; train: no folder train2017/" in found["coco"].found
    assert "annotations/" in found["coco"].mend
    assert found["imagenet1k"].status == "broken"
    assert "no folder train/" in found["imagenet1k"].found
    assert found["cifar10"].status == "absent"
    assert found["cifar10"].mend.startswith("expected:\n  cifar-10-batches-py/")
    assert not whole.healthy
    elsewhere = {"folder", "franka_kitchen", "metaworld"}  # given as a path, or simulated
    assert set(found) == {"data root", *registry.names("dataset")} - elsewhere


def test_sets_without_train_are_counted_by_their_own_splits(tmp_path: Path) -> None:
    truth = {"imlist": ["a", "b"], "qimlist": ["c"], "gnd": [{"bbx": [0, 0, 2, 2], "easy": [1]}]}
    truth["gnd"][0] |= {"hard": [], "junk": []}
    write_photographs(tmp_path / "roxford5k", truth)
    (tmp_path / "roxford5k/gnd_roxford5k.pkl").write_bytes(pickle.dumps(truth))
    (tmp_path / "rparis6k/jpg").mkdir(parents=True)
    write_images(tmp_path / "resisc45/lake", 2)
    found = checks(report(tmp_path), "data")
    assert found["roxford5k"].found.startswith("database 2 images without labels; query 1 images")
    assert (found["roxford5k"].status, found["roxford5k"].mend) == ("ok", "")
    assert found["rparis6k"].status == "broken"
    assert "query, query_crop: no file gnd_rparis6k.pkl" in found["rparis6k"].found
    assert found["rparis6k"].mend.startswith("expected:\n  rparis6k/")
    assert found["resisc45"].status == "broken"
    assert found["imagenet9"].status == "absent"


def test_what_several_splits_lack_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "rparis6k/jpg").mkdir(parents=True)
    found = checks(report(tmp_path), "data")["rparis6k"].found
    assert found.startswith("database, query, query_crop: no file gnd_rparis6k.pkl (")


def test_unreadable_images_are_seen(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_images(tmp_path / f"imagenette2/{split}/n1", 1)
        (tmp_path / f"imagenette2/{split}/n1/n1_0.JPEG").write_text("version https://git-lfs")
    found = checks(report(tmp_path), "data")["imagenette"]
    assert found.status == "broken"
    assert "n1_0.JPEG" in found.found


def test_quick_look_reads_no_images(tmp_path: Path) -> None:
    (tmp_path / "imagenette2").mkdir()
    assert checks(report(tmp_path, scan=False), "data")["imagenette"].status == "ok"


def test_broken_torch_does_not_stop_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    whole = report(tmp_path)
    assert checks(whole, "device")["torch"].status == "broken"
    assert "data root" in checks(whole, "data")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize(
    ("driver", "status"), [(None, "absent"), ("/usr/bin/nvidia-smi", "broken")]
)
@pytest.mark.usefixtures("no_gpu")
def test_gpu_that_torch_does_not_see_is_a_fault_only_where_there_is_a_driver(
    driver: str | None, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _: driver)
    found = checks(report(), "device")["cuda"]
    assert found.status == status
    assert bool(found.mend) == (status == "broken")


@pytest.mark.parametrize(
    ("working", "expected"),
    [
        ({"egl", "osmesa"}, {"egl": "ok"}),
        ({"osmesa"}, {"osmesa": "ok"}),
        (set(), {"egl": "broken", "osmesa": "broken"}),
    ],
)
def test_rendering_takes_the_first_back_end_that_works(
    working: set[str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda _: "3.3.0")
    gl.failure.cache_clear()

    def run(*_: Any, env: dict[str, str], **__: Any) -> SimpleNamespace:
        works = env["MUJOCO_GL"] in working
        return SimpleNamespace(returncode=not works, stderr="Trace\nlibEGL.so not found\n")

    monkeypatch.setattr(gl.subprocess, "run", run)
    try:
        found = checks(Report(tuple(doctor._rendering())), "rendering")
    finally:
        gl.failure.cache_clear()
    assert {name: check.status for name, check in found.items()} == {"mujoco": "ok"} | expected
    if not working:
        assert found["egl"].found == "libEGL.so not found"
        assert "apt-get install" in found["egl"].mend


def test_rendering_that_hangs_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise subprocess.TimeoutExpired("python", 120)

    monkeypatch.setattr(gl.subprocess, "run", run)
    assert gl.failure.__wrapped__("egl") == "no image after 120 s"


@pytest.mark.parametrize(("version", "unfit"), [("3.3.0", ()), ("3.12.1", ("franka_kitchen",))])
def test_a_mujoco_that_a_suite_does_not_run_on_is_named(
    version: str, unfit: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda _: version)
    (check,) = doctor._mujoco()
    assert (check.status == "broken") == bool(unfit)
    assert all(name in check.found for name in unfit)
    assert ("mujoco==3.3.0" in check.mend) == bool(unfit)


def test_report_is_text_for_people_and_json_for_machines(tmp_path: Path) -> None:
    whole = report(tmp_path)
    text = whole.text()
    for section in ("packages", "extras", "device", "rendering", "data"):
        assert f"\n{section}\n" in f"\n{text}\n"
    assert "pip install 'sslbench[scale]'" in text or "ray" in text
    content = json.loads(json.dumps(whole.to_json()))
    assert content["healthy"] == whole.healthy
    assert len(content["checks"]) == len(whole.checks)


def test_importing_the_doctor_does_not_import_torch() -> None:
    code = "import sys, bench.doctor; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
