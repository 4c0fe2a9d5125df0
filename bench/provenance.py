"""Where a number came from: code, packages, device, command line.

Names neither the user nor the machine: no environment variables, no host name, and the home
folder in a command line is written `~`.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

_PROCESS_STARTED = datetime.now(UTC)
_CODE = ("bench", "trainers", "tasks", "leaderboards")
# packages that sslbench's own metadata does not name, because others bring them
_INDIRECT = ("mujoco", "faiss-cpu", "faiss-gpu-cu12")


def collect(started: datetime | None = None) -> dict[str, Any]:
    """What `Result.provenance` holds; `started` defaults to the start of this process (UTC).

    `git_commit` and `git_dirty` are None unless the package runs from its own source checkout;
    GPUs are named only where torch is imported already.
    """
    commit, dirty = _git_state(Path(__file__).resolve().parent.parent)
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "packages": dict(_packages()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": _device(),
        "command_line": command_line(sys.argv),
        "started": (started or _PROCESS_STARTED).astimezone(UTC).isoformat(timespec="seconds"),
    }


def command_line(argv: Sequence[str]) -> str:
    """The command as one shell line, without the folder of the program or the user's home."""
    words = [os.path.basename(argv[0]) if argv else "", *argv[1:]]
    homes = {str(Path.home()), os.path.realpath(Path.home())} - {"/"}
    for home in sorted(homes, key=len, reverse=True):
        # the end of the word or a slash must follow: /root is not the start of /rooted
        pattern = re.compile(rf"{re.escape(home.rstrip('/'))}(?=/|$|[^\w.-])")
        words = [pattern.sub("~", word) for word in words]
    return " ".join(map(_quoted, words)).strip()


def _quoted(word: str) -> str:
    """The word quoted for a shell, its leading `~` left outside the quotes."""
    home = "~" if word == "~" else "~/" if word.startswith("~/") else ""
    rest = word.removeprefix(home)
    return home + shlex.quote(rest) if rest or not home else home


@cache
def _git_state(root: Path) -> tuple[str | None, bool | None]:
    """Commit and dirty flag of a source checkout at `root`; (None, None) where it is none.

    Dirty means that code differs from the commit, files not yet tracked included: a new method
    is code too. Results and data lying about in the checkout do not count.
    """
    if not (root / ".git").exists():
        return None, None
    if _git(root, "ls-files", "--error-unmatch", "bench/provenance.py") is None:
        return None, None  # some other repository that this package merely lies in
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", *_CODE)
    if commit is None or changes is None:
        return None, None
    return commit, bool(changes)


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints, or None where it fails or is not there."""
    # inside a git hook, GIT_DIR points to the repository of the hook
    environment = {k: value for k, value in os.environ.items() if not k.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            env=environment,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@cache
def _packages() -> tuple[tuple[str, str], ...]:
    """(name, version) of sslbench and of what it builds on, as far as installed."""
    from importlib import metadata

    try:
        required = metadata.requires("sslbench") or []
    except metadata.PackageNotFoundError:  # run from a bare source folder
        required = []
    names = {"sslbench", *_INDIRECT}
    for requirement in required:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if name and "extra == 'dev'" not in requirement.replace('"', "'"):
            names.add(name.group().lower())
    found = []
    for wanted in sorted(names):
        try:
            found.append((wanted, metadata.version(wanted)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(found)


def _device() -> dict[str, Any]:
    device: dict[str, Any] = {"cpu": _cpu_model(), "cpu_count": os.cpu_count(), "gpus": []}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        count = torch.cuda.device_count()
        device["gpus"] = [torch.cuda.get_device_name(index) for index in range(count)]
    return device


@cache
def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            for line in stream:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
