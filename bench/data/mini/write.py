"""Write the mini benchmark: small data sets in official layouts, from installed packages only.

    >>> write_mini(Path("mini"))                                        # doctest: +SKIP

makes ``mini/mini_objects`` (ImageNet), ``mini/mini_scenes`` (COCO 2017), ``mini/mini_cifar``
(CIFAR-10), ``mini/mini_clevr`` (CLEVR), ``mini/mini_in9`` (ImageNet-9), ``mini/mini_oxford``
(Revisited Oxford), ``mini/mini_voc`` (VOC2012), ``mini/mini_ade`` (ADE20K) and ``mini/mini_davis``
(DAVIS-2017). It is a benchmark of this harness, not of the methods.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.data.mini import ade, cifar, clevr, davis, in9, objects, oxford, scenes, voc
from bench.data.mini.plan import IMAGES, Plan, Report, Size
from bench.errors import DataError

MARKER = "mini.json"
LOCK = ".mini.lock"
_TEMPORARY = ".mini-writing-"

Writer = Callable[[Path, Plan, Report], None]
DATA_SETS: dict[str, Writer] = {
    objects.NAME: objects.write,
    scenes.NAME: scenes.write,
    cifar.NAME: cifar.write,
    clevr.NAME: clevr.write,
    in9.NAME: in9.write,
    oxford.NAME: oxford.write,
    voc.NAME: voc.write,
    ade.NAME: ade.write,
    davis.NAME: davis.write,
}


def write_mini(
    folder: Path,
    size: Size = "small",
    seed: int = 0,
    images: int | None = None,
    progress: Report | None = None,
) -> None:
    """Write every data set of the mini benchmark that is not in ``folder`` yet.

    Each one appears whole or not at all, and holds a ``mini.json`` that says what it is; running
    again with the same arguments changes nothing. ``size`` gives 32 px (small) or 64 px (medium)
    objects; ``images`` the number of object-centric train images (about; the classes stay
    balanced), to which all others stay in proportion. ``progress`` is called with the data set's
    name, the images written so far and those to be written.

    Raises:
        DataError: The folder holds a data set of that name that was written otherwise.
    """
    plan = Plan(size=size, seed=seed, images=IMAGES if images is None else images)
    if size not in ("small", "medium"):
        raise DataError(f"mini benchmark of size {size!r}: expected small or medium")
    if plan.images < 1:
        raise DataError(f"mini benchmark with {plan.images} images: expected 1 or more")
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        for name in DATA_SETS:
            _refuse_others(folder / name, plan)
        for name, write in DATA_SETS.items():
            if not (folder / name).exists():
                _write_whole(folder / name, write, plan, progress or _silent)


def _silent(name: str, done: int, total: int) -> None:
    """Report nothing."""


def _refuse_others(target: Path, plan: Plan) -> None:
    """Accept a data set written by the same plan, or none."""
    if not target.exists():
        return
    try:
        found = json.loads((target / MARKER).read_text())
    except (OSError, ValueError):
        raise DataError(
            f"{target} exists but was not written by `sslbench mini` (no readable {MARKER} in it); "
            "choose another folder, or move it away"
        ) from None
    if found != plan.marker():
        raise DataError(
            f"{target} was written with {_listed(found)}, wanted {_listed(plan.marker())}; choose "
            f"another folder, or delete {target} to have it written anew"
        )


def _listed(marker: dict[str, object]) -> str:
    return " ".join(f"{key}={marker[key]}" for key in sorted(marker))


def _write_whole(target: Path, write: Writer, plan: Plan, progress: Report) -> None:
    """Write into a temporary neighbour and rename it: a killed run leaves no half of a data set."""
    work = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=target.parent))
    try:
        write(work, plan, progress)
        (work / MARKER).write_text(json.dumps(plan.marker(), sort_keys=True) + "\n")
        work.chmod(0o755)  # mkdtemp's folder is closed to everybody else
        work.rename(target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, and clear away what killed runs left behind.

    The lock goes with its process: whoever holds it knows that no other writer is alive, so that
    temporary folders found then belong to nobody.
    """
    import fcntl

    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob(_TEMPORARY + "*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
