"""Errors are one line of advice."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bench import errors
from bench.errors import MissingPackage, SSLBenchError, nearest, require


def test_every_error_is_advice_and_exits_with_two() -> None:
    kinds = [
        v for v in vars(errors).values() if isinstance(v, type) and v.__module__ == "bench.errors"
    ]
    assert len(kinds) == 8
    for kind in kinds:
        assert issubclass(kind, SSLBenchError)
        assert kind("what mends it").exit_code == 2
        assert str(kind("what mends it")) == "what mends it"


def test_require_returns_the_module() -> None:
    assert require("math") is math


def test_require_names_the_extra_that_brings_the_package() -> None:
    with pytest.raises(MissingPackage, match=r"no_such_sim .*pip install 'sslbench\[robot\]'$"):
        require("no_such_sim.envs", extra="robot")


def test_require_names_the_package_where_no_extra_brings_it() -> None:
    with pytest.raises(MissingPackage, match=r"pip install no-such-sim$"):
        require("no_such_sim")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_dependency", "half_there is installed, but no_such_dependency"),
        ("raise ImportError('libEGL.so:\\n not found')", r"\(libEGL.so: not found\); pip install"),
    ],
)
def test_require_tells_a_broken_package_from_a_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    (tmp_path / "half_there.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingPackage, match=said) as caught:
        require("half_there")
    assert "\n" not in str(caught.value)


def test_nearest_guesses_and_lists() -> None:
    assert nearest("kn", ["linear", "knn"]) == "did you mean 'knn'? valid: knn, linear"
    assert nearest("KNN", ["knn"]) == "did you mean 'knn'? valid: knn"
    assert nearest("zzz", ["knn", "linear"]) == "valid: knn, linear"
    assert nearest("zzz", []) == "there are none"


def test_nearest_keeps_the_list_short() -> None:
    text = nearest("zzz", (f"task{i:02}" for i in range(40)))
    assert text.endswith("task11, and 28 more")
