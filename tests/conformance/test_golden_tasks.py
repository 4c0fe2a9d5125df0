"""What each task says of one untrained network on the mini benchmark, by version of the task.

A changed number with an unchanged `version` fails here. Where a change is meant, raise the version
and write the file anew by running this file under pytest with SSLBENCH_WRITE_GOLDENS=1.
"""

import json
import os
from pathlib import Path

import pytest

from bench import registry
from bench.engine import Settings, evaluate
from bench.store import Store
from bench.task import Task
from tests.conformance.test_tasks import MODEL, spec_of

FILE = Path(__file__).with_name("golden_tasks.json")
GOLDENS = json.loads(FILE.read_text()) if FILE.exists() else {}
WRITE = bool(os.environ.get("SSLBENCH_WRITE_GOLDENS"))
#: Samples that another processor's rounding may move, more where a network was trained.
SLACK = {"closed": 2, "trained": 4}
TRAINED = ("attentive", "clevr", "decoder", "finetune", "semi", "transfer")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One pass over each data set serves all tasks here."""
    return tmp_path_factory.mktemp("features")


@pytest.mark.parametrize("name", registry.names("task"))
def test_numbers_change_only_with_the_version(
    name: str, mini: Path, cache: Path, tmp_path: Path
) -> None:
    cls: type[Task] = registry.load("task", name)
    if name not in GOLDENS and not WRITE:
        pytest.skip(f"no golden numbers of {name} yet")
    settings = Settings(data=mini, cache=cache, workers=0, device="cpu")
    report = evaluate([MODEL], [spec_of(cls)], Store(tmp_path), settings)
    assert report.failed == {}
    (result,) = [found for found in report.ran if found.identity.task == name]
    found = {
        "version": cls.version,
        "spec": result.task_spec,
        "metrics": {key: metric.value for key, metric in sorted(result.metrics.items())},
    }
    if WRITE:
        everything = json.loads(FILE.read_text()) if FILE.exists() else {}
        FILE.write_text(json.dumps(everything | {name: found}, indent=1, sort_keys=True) + "\n")
        return
    golden = GOLDENS[name]
    assert found["version"] == golden["version"], "write the goldens anew, see the docstring"
    assert found["spec"] == golden["spec"]
    assert found["metrics"].keys() == golden["metrics"].keys()
    slack = SLACK["trained" if name in TRAINED else "closed"]
    for key, value in golden["metrics"].items():
        room = slack / (result.metrics[key].n or 1)
        assert found["metrics"][key] == pytest.approx(value, abs=room), key
