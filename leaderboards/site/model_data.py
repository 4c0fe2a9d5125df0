"""What the page of a model shows, and the dialog of each of its scores: everything behind them."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

from bench.summary import Setting, Summary
from leaderboards.ranking import Row
from leaderboards.site.pictures import Picture
from leaderboards.site.stored_text import origin


class Pool:
    """JSON texts, each kept once."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, text: str) -> int:
        """Where the text stands in `to_json`."""
        return self._places.setdefault(text, len(self._places))

    def to_json(self) -> str:
        """The texts as a list."""
        return f"[{','.join(self._places)}]"


class Shared:
    """What results of several models have in common, each once for the whole site."""

    def __init__(self) -> None:
        self.data, self.made, self._settings = Pool(), Pool(), Pool()
        self._known: dict[int, tuple[Setting, int]] = {}  # holds them, so that ids stay theirs

    def place(self, setting: Setting) -> int:
        """Where a setting stands among the settings."""
        if id(setting) not in self._known:
            text = json.dumps(_setting_data(setting), separators=(",", ":"))
            self._known[id(setting)] = setting, self._settings.place(text)
        return self._known[id(setting)][1]

    def to_json(self) -> str:
        """Settings, descriptions of data, and provenance."""
        parts = {"settings": self._settings, "data": self.data, "made": self.made}
        return "{" + ",".join(f'"{name}":{pool.to_json()}' for name, pool in parts.items()) + "}"


def _setting_data(setting: Setting) -> dict[str, Any]:
    words = ["--tasks", setting.task_spec]
    if setting.seed:
        words += ["--seed", str(setting.seed)]
    return {
        "task": setting.measurement.task,
        "version": setting.measurement.version,
        "manifest": setting.measurement.manifest,
        "headline": setting.measurement.headline,
        "fields": setting.fields,
        "seed": setting.seed,
        "spec": setting.task_spec,
        "warnings": setting.warnings,
        "command": shlex.join(words),
    }


def model_json(row: Row, shared: Shared, pictures: Sequence[Picture] = ()) -> str:
    """JSON of everything recorded of a model and of its results, by the position of their column.

    A result is its `model` (place in the list beside), its `setting`, `data` and `made` (places in
    what is `shared`), its `digest`, what it alone has of provenance (`own`), and `details`: metrics
    and cost.
    """
    models: dict[int, dict[str, Any]] = {}
    places: dict[int, int] = {}

    def result_json(result: Summary) -> str:
        record = id(result.model)
        if record not in models:
            places[record] = len(models)
            models[record] = result.model
        parts = origin(result)
        return (
            f'{{"setting":{shared.place(result.setting)},"model":{places[record]},'
            f'"data":{shared.data.place(parts.dataset)},"made":{shared.made.place(parts.made)},'
            f'"digest":"{result.digest}","own":{parts.own},"details":{result.details.decode()}}}'
        )

    results = ",".join(
        f'"{j}":[{",".join(map(result_json, cell.results))}]'
        for j, cell in enumerate(row.cells)
        if cell is not None
    )
    sources = [str(record["source"]) for record in models.values()]
    head = {
        "name": row.name,
        "models": list(models.values()),
        "commands": [shlex.join(["sslbench", "eval", source]) for source in sources],
        "inspect": shlex.join(["sslbench", "inspect", sources[0]]),
        "pictures": [{"src": picture.path, "name": picture.name} for picture in pictures],
    }
    return json.dumps(head, separators=(",", ":"))[:-1] + f',"results":{{{results}}}}}'
