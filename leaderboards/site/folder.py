"""The folder of a site: what is written into it, and what an earlier site left there."""

import json
import os
from pathlib import Path
from types import TracebackType

from bench.errors import SpecError, StoreError

MANIFEST = "site.json"


class Folder:
    """Writes files below `root`, and at the end removes those of the site that was there before.

    Only files that an earlier site lists as its own are ever replaced or removed, so that a folder
    which is published may hold other things too.

    Raises:
        SpecError: `root` is named like a page.
        StoreError: `root` holds other things and no site, or cannot be written.
    """

    def __init__(self, root: Path) -> None:
        if root.suffix.lower() in (".html", ".htm") or root.is_file():
            raise SpecError(
                f"--out {root} is a file, but --format html writes a folder of pages; "
                f"give a folder, such as {root.with_suffix('')}, and open index.html in it"
            )
        self.root = root
        self._before = _listed(root)
        self._files: set[str] = set()

    def __enter__(self) -> "Folder":
        return self

    def write(self, name: str, content: str | bytes) -> None:
        """Writes one file, `name` being its path below the root with forward slashes."""
        # A lone surrogate, which a stranger's name may hold, cannot be written.
        data = content.encode(errors="replace") if isinstance(content, str) else content
        path = self.root / name
        try:
            if name not in self._files and not path.parent.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise self._refused(path, error) from error
        self._files.add(name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            for name in self._before - self._files:
                _remove(self.root, name)
            self._before = set()
        # After a failure the list covers both sites, so that the next try may go on here.
        files = sorted(self._files | self._before)
        if files:
            text = json.dumps({"made_by": "sslbench board", "files": files}, indent=0)
            try:
                (self.root / MANIFEST).write_text(text + "\n", encoding="utf-8")
            except OSError as problem:
                if kind is None:
                    raise self._refused(self.root / MANIFEST, problem) from problem

    def _refused(self, path: Path, error: OSError) -> StoreError:
        return StoreError(f"cannot write {path} ({error.strerror}); give another --out")


def _listed(root: Path) -> set[str]:
    """The files of the site that is there; `StoreError` where something else is."""
    try:
        inside = [name for name in os.listdir(root) if not name.startswith(".")]
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise StoreError(f"cannot read {root} ({error.strerror}); give another --out") from error
    if not inside:
        return set()
    try:
        found = json.loads((root / MANIFEST).read_text(encoding="utf-8"))["files"]
        return {str(name) for name in found}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{root} holds other things and no leaderboard ({MANIFEST} is not there or broken): "
            "give a new or an empty folder as --out"
        ) from error


def _remove(root: Path, name: str) -> None:
    """Removes a file that the old list names, unless it lies elsewhere: lists can be forged."""
    path = root / name
    if not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(root)):
        return
    if path.name.startswith(".") or not path.is_file():
        return
    path.unlink()
    folder = path.parent
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
