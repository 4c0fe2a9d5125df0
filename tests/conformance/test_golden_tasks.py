"""What each task says of one untrained network on the mini benchmark, by version of the task.

A changed number with an unchanged `version` fails here. Where a change is meant, raise the version
and write the file anew by running this file under pytest with SSLBENCH_WRITE_GOLDENS=1.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import registry
from bench.task import Task
from tests.conformance.tasks_on_mini import NAMES, Evaluated

FILE = Path(__file__).with_name("golden_tasks.json")
GOLDENS = json.loads(FILE.read_text()) if FILE.exists() else {}
WRITE = bool(os.environ.get("SSLBENCH_WRITE_GOLDENS"))
#: Samples that another processor's rounding may move, more where a network was trained.
SLACK = {"closed": 2, "trained": 4}
TRAINED = ("attentive", "clevr", "decoder", "finetune", "semi", "transfer")


@pytest.mark.parametrize("name", NAMES)
def test_numbers_change_only_with_the_version(
    name: str, evaluated: Callable[[str], Evaluated]
) -> None:
    cls: type[Task] = registry.load("task", name)
    if name not in GOLDENS and not WRITE:
        pytest.skip(f"no golden numbers of {name} yet")
    report = evaluated(name).report
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
