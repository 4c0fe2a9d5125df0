"""What works on this machine, what does not, and the command that mends it.

Nothing is repaired and nothing is downloaded. Packages are judged by the installed metadata
against sslbench's own requirements, so that this page cannot drift from `pyproject.toml`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

# Not among our own requirements: lightning-fabric, which is, cannot be installed without it.
from packaging.requirements import Requirement

from bench import gl, registry
from bench.dataset import Dataset, data_root
from bench.errors import SSLBenchError

DISTRIBUTION = "sslbench"

#: The first MuJoCo on which each robot suite fails.
_UNFIT = {"franka_kitchen": (3, 12), "metaworld": (3, 17)}


@dataclass(frozen=True)
class Check:
    """One finding. `absent` is optional and not there; `broken` is there, or needed, and unfit."""

    section: str
    name: str
    status: Literal["ok", "absent", "broken"]
    found: str
    mend: str = ""


@dataclass(frozen=True)
class Report:
    """All findings, in the order in which they are shown."""

    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing is broken; what is merely absent does not count."""
        return all(check.status != "broken" for check in self.checks)

    def text(self) -> str:
        """The report for people: one line per finding, what mends it indented below."""
        lines: list[str] = []
        section = ""
        for check in self.checks:
            if check.section != section:
                section = check.section
                lines += ["", section] if lines else [section]
            lines.append(f"  {check.status:<7} {check.name}: {check.found}")
            lines += [f"          {line}" for line in check.mend.splitlines()]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The report for machines."""
        return {"healthy": self.healthy, "checks": [asdict(check) for check in self.checks]}


def report(data: Path | None = None, scan: bool = True) -> Report:
    """All checks of this machine and of the data root (`--data`, else `SSLBENCH_DATA`).

    Args:
        data: the data root.
        scan: count the images of each dataset found and decode one of each split; False only
            looks for the folders, which is quick on a slow disk.
    """
    checks = (
        *_packages(),
        *_extras(),
        *_device(),
        *_rendering(),
        *_datasets(data, scan),
    )
    return Report(checks)


# Packages


def _packages() -> Iterator[Check]:
    yield Check("packages", "python", "ok", f"{platform.python_version()}, {platform.platform()}")
    try:
        yield Check("packages", DISTRIBUTION, "ok", importlib.metadata.version(DISTRIBUTION))
    except importlib.metadata.PackageNotFoundError:
        mend = "pip install -e .   (in the folder of pyproject.toml)"
        yield Check("packages", DISTRIBUTION, "broken", "runs without being installed", mend)
    for need in _requirements(""):
        found, fits = _installed(need)
        mend = "" if fits else f"pip install '{_plain(need)}'"
        yield Check("packages", need.name, "ok" if fits else "broken", found, mend)


def _extras() -> Iterator[Check]:
    metadata = _metadata()
    for extra in metadata.get_all("Provides-Extra") or [] if metadata else []:
        needs = [need for need in _requirements(extra) if need.name != DISTRIBUTION]
        if not needs:  # "all" only repeats the others
            continue
        states = {need.name: _installed(need) for need in needs}
        missing = [f"{name} {found}" for name, (found, fits) in states.items() if not fits]
        if missing:
            mend = f"pip install '{DISTRIBUTION}[{extra}]'"
            yield Check("extras", extra, "absent", "; ".join(missing), mend)
        else:
            found = ", ".join(f"{name} {version}" for name, (version, _) in states.items())
            yield Check("extras", extra, "ok", found)


def _metadata() -> Any:
    try:
        return importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements(extra: str) -> list[Requirement]:
    """Our requirements on this platform: those of one extra alone, or of none ("")."""
    metadata = _metadata()
    needs = (
        [Requirement(text) for text in (metadata.get_all("Requires-Dist") or [])]
        if metadata
        else []
    )

    def applies(need: Requirement, name: str) -> bool:
        return need.marker is None or need.marker.evaluate({"extra": name})

    return [need for need in needs if applies(need, extra) and (not extra or not applies(need, ""))]


def _installed(need: Requirement) -> tuple[str, bool]:
    """What is installed of a requirement, in words, and whether it fits."""
    try:
        version = importlib.metadata.version(need.name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed", False
    if not need.specifier.contains(version, prereleases=True):
        return f"{version}, expected {need.specifier}", False
    return version, True


def _plain(need: Requirement) -> str:
    return f"{need.name}{need.specifier}"


# Devices


def _device() -> Iterator[Check]:
    try:
        import torch  # late: the rest of the report must not wait for it, nor fall with it
    except Exception as error:  # a broken installation can raise anything
        found = f"torch does not import ({type(error).__name__}: {error})"
        yield Check("device", "torch", "broken", found, "pip install --force-reinstall torch")
        return
    with warnings.catch_warnings(record=True) as caught:  # torch warns of an unfit driver
        warnings.simplefilter("always")
        cuda = torch.cuda.is_available()
    threads = f"{torch.get_num_threads()} threads on {os.cpu_count()} cores"
    yield Check("device", "cpu", "ok", threads)
    for index in range(torch.cuda.device_count() if cuda else 0):
        yield _gpu(index)
    if torch.backends.mps.is_available():
        yield Check("device", "mps", "ok", "Apple GPU")
    if not cuda:
        reason = f" ({caught[0].message})" if caught else ""
        driver = shutil.which("nvidia-smi") is not None
        yield Check(
            "device",
            "cuda",
            "broken" if driver else "absent",
            f"torch {torch.__version__} sees no NVIDIA GPU{reason}",
            "an NVIDIA driver is installed: install the torch build for it, see `nvidia-smi` for "
            "its CUDA version"
            if driver
            else "",
        )


def _gpu(index: int) -> Check:
    import torch

    name = f"cuda:{index}"
    try:
        about = torch.cuda.get_device_properties(index)
        torch.ones(8, 8, device=name).matmul(torch.ones(8, 8, device=name)).sum().item()
        kinds = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
    except RuntimeError as error:
        mend = "install a torch build that supports this GPU, or free it"
        return Check("device", name, "broken", str(error).partition("\n")[0], mend)
    return Check(
        "device", name, "ok", f"{about.name}, {about.total_memory / 2**30:.0f} GiB, {kinds}"
    )


def _rendering() -> Iterator[Check]:
    """Renders one image with each back-end, in a process of its own: drivers may crash."""
    if importlib.util.find_spec("mujoco") is None:
        mend = f"pip install '{DISTRIBUTION}[robot]'"
        yield Check("rendering", "mujoco", "absent", "not installed", mend)
        return
    yield from _mujoco()
    failures: dict[str, str] = {}
    for backend in gl.candidates():
        failures[backend] = gl.failure(backend)
        if not failures[backend]:
            yield Check("rendering", backend, "ok", "renders")
            return
    for backend, failure in failures.items():
        yield Check("rendering", backend, "broken", failure, gl.mend(backend))


def _mujoco() -> Iterator[Check]:
    """Versions of MuJoCo on which a suite does not run, as far as is known."""
    version = importlib.metadata.version("mujoco")
    number = tuple(int(part) for part in version.split(".")[:2])
    unfit = [name for name, first in _UNFIT.items() if number >= first]
    if unfit:
        found = f"{version}, on which {' and '.join(unfit)} do not run"
        yield Check("rendering", "mujoco", "broken", found, "pip install 'mujoco==3.3.0'")
    else:
        yield Check("rendering", "mujoco", "ok", version)


# Data


def _datasets(data: Path | None, scan: bool) -> Iterator[Check]:
    try:
        root = data_root(data)
    except SSLBenchError as error:
        missing = data is None and "no data root" in str(error)
        yield Check("data", "data root", "absent" if missing else "broken", str(error))
        return
    yield Check("data", "data root", "ok", str(root))
    for name in registry.names("dataset"):
        try:
            cls: type[Dataset] = registry.load("dataset", name)
        except Exception as error:  # also a plug-in's own mistakes
            yield Check("data", name, "broken", f"{type(error).__name__}: {error}")
            continue
        if cls.folders:
            yield _dataset(name, cls, root, scan)


def _dataset(name: str, cls: type[Dataset], root: Path, scan: bool) -> Check:
    try:
        folder = cls.locate(root)
    except SSLBenchError as error:
        found, tree = _head_and_tree(error)
        return Check("data", name, "absent", found, tree)
    if not scan:
        return Check("data", name, "ok", str(folder))
    dataset = cls(folder)
    splits: dict[str, str] = {}
    unfit: dict[str, str] = {}
    tree = ""
    for split in cls.splits:
        try:
            table = dataset.scan(split)
            dataset.image(split, table.keys[0])
        except SSLBenchError as error:
            unfit[split], tree = _head_and_tree(error)
            continue
        labels = f" of {len(table.classes)} classes" if table.classes else " without labels"
        splits[split] = f"{split} {len(table.ids):,} images{labels}"
    alike: dict[str, list[str]] = {}  # one file that is missing spoils several splits
    for split, why in unfit.items():
        alike.setdefault(why, []).append(split)
    found = "; ".join([*splits.values(), *(f"{', '.join(of)}: {why}" for why, of in alike.items())])
    # where there are train and val, the others are optional ("unlabeled")
    needed = unfit.keys() & ({"train", "val"} & set(cls.splits) or set(cls.splits))
    status: Literal["ok", "broken"] = "ok" if splits else "broken"
    return Check("data", name, status, f"{found} ({folder})", tree if needed else "")


def _head_and_tree(error: SSLBenchError) -> tuple[str, str]:
    """First line of a layout error, and its expected tree; the listing between is left out."""
    head, _, rest = str(error).partition("\n")
    _, mark, tree = rest.partition("expected:\n")
    return head.partition(": ")[2] if mark else head, mark + tree
