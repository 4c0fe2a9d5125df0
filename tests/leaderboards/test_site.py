"""The leaderboard page: self-contained, safe against strangers' names, usable without a mouse."""

import base64
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bench.errors import StoreError
from bench.records import Metric, Result
from bench.store import Store
from leaderboards.board import board
from leaderboards.site.details import command, written
from leaderboards.site.page import page

Make = Callable[..., Result]
Fill = Callable[..., Store]
ATTACK = "<script>alert(1)</script>"
VOID = {"meta", "input", "img", "wbr", "br"}


class Reader(HTMLParser):
    """Every start tag with its attributes, the text of each script, and whether tags balance."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def attacked(store_of: Fill, result: Make) -> str:
    """A page on which every text that a result carries tries to be a script."""
    hostile = result(
        ATTACK,
        0.5,
        method=f'">{ATTACK}',
        arch=f"'{ATTACK}",
        headline=f"top{ATTACK}",
        fields={f"k{ATTACK}": ATTACK},
        pretrain={"dataset": ATTACK, "recipe": {ATTACK: [ATTACK]}},
        spec=f"knn@folder[path={ATTACK}]?a={ATTACK}",
        warnings=(f"</template></dialog>{ATTACK}",),
        dataset={ATTACK: ATTACK},
        provenance={"command_line": f'x" onclick="{ATTACK}'},
        cost={ATTACK: 1},
    )
    return page(board(store_of(hostile, result("<!-- $x ${y}", 0.4))))


def test_no_text_of_a_result_becomes_markup(attacked: str) -> None:
    read = Reader(attacked)
    assert len(read.scripts) == 1
    assert ATTACK not in attacked
    assert "alert(1)" not in read.scripts[0]
    known = {"data-details", "data-value", "data-first", "style", "class", "id", "aria-haspopup"}
    for tag in ("td", "th", "button", "span", "code", "dd", "p"):
        for attributes in read.all(tag):
            assert set(attributes) <= known | {
                "type",
                "scope",
                "aria-sort",
                "aria-label",
                "hidden",
                "role",
            }
    assert "&lt;script&gt;" in attacked


def test_only_the_pages_own_script_may_run(attacked: str) -> None:
    (script,) = Reader(attacked).scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', attacked)
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_page_loads_nothing(attacked: str) -> None:
    read = Reader(attacked)
    assert not re.search(r"(https?:)?//[a-z0-9.-]+\.[a-z]{2,}", attacked)
    assert not [tag for tag, _ in read.tags if tag in {"link", "iframe", "object", "embed", "base"}]
    assert not [a for _, a in read.tags if {"src", "href", "srcset", "action"} & set(a)]
    assert "@import" not in attacked
    assert "url(" not in attacked


def test_columns_sort_by_button_and_say_how(store_of: Fill, result: Make) -> None:
    depth = result("a", spec="depth@nyu", headline="rmse", metric=Metric(0.5))
    store = store_of(result("a", 0.5), result("b", 0.4), depth)
    heads = [a for a in Reader(page(board(store))).all("th") if a.get("scope") == "col"]
    heads = [a for a in heads if "data-first" in a]
    assert [a["aria-sort"] for a in heads] == ["none", "ascending", "none", "none", "none"]
    assert [a["data-first"] for a in heads[3:]] == ["ascending", "descending"]  # RMSE, top-1
    by_knn = Reader(page(board(store, sort="knn"))).all("th")
    assert [a.get("aria-sort") for a in by_knn[:5]] == ["none"] * 4 + ["descending"]


def test_every_cell_has_a_bar_inside_its_column_and_details(store_of: Fill, result: Make) -> None:
    shown = board(store_of(*(result(f"m{i}", 0.1 * i) for i in range(1, 10))))
    text = page(shown)
    bars = re.findall(r"--low:([\d.]+);--width:([\d.]+);--value:([\d.]+)", text)
    assert len(bars) == 9
    for low, width, value in (map(float, bar) for bar in bars):
        assert 0 <= low <= value <= low + width <= 100.01
    read = Reader(text)
    wanted = [a["data-details"] for a in read.all("button") if "data-details" in a]
    assert wanted == [a["id"] for a in read.all("template")]
    assert all(a["type"] == "button" for a in read.all("button") if "data-details" in a)


def test_details_tell_what_made_the_number(store_of: Fill, result: Make) -> None:
    one = result("mae", 0.5, fields={"k": 10}, seed=3, warnings=("k was clipped",))
    text = page(board(store_of(one)))
    for fact in (
        one.identity.digest,
        one.identity.weights,
        one.identity.dataset,
        "k was clipped",
        "0123abc",
        "512 MB",
        "wilson95",
        "sslbench eval runs/mae --tasks &#x27;knn@imagenet1k?k=20&#x27; --seed 3",
    ):
        assert fact in text, fact


def test_every_seed_has_its_own_details(store_of: Fill, result: Make) -> None:
    runs = [result("mae", 0.5 + s / 100, seed=s) for s in range(2)]
    text = page(board(store_of(*runs)))
    assert all(run.identity.digest in text for run in runs)
    assert "2 seeds 50.0–51.0" in text


def test_command_is_quoted_for_a_shell(result: Make) -> None:
    line = command(result("a b; rm -rf x", 0.5))
    assert "eval 'runs/a b; rm -rf x' --tasks 'knn@imagenet1k?k=20'" in line


def test_banner_stands_on_pages_of_the_mini_benchmark_only(store_of: Fill, result: Make) -> None:
    def banner(*results: Result) -> bool:
        return 'class="banner"' in page(board(store_of(*results)))

    assert not banner(result("a", 0.5))
    assert banner(result("a", 0.5), result("a", 0.5, spec="knn@mini_objects", manifest="f" * 64))


def test_pictures_are_embedded_and_the_svg_is_preferred(
    store_of: Fill, result: Make, tmp_path: Path
) -> None:
    for kind in ("png", "svg", "csv"):
        (tmp_path / f"my_curve.{kind}").write_text(f"<svg>{kind}</svg>")
    files = [tmp_path / f"my_curve.{kind}" for kind in ("png", "svg", "csv")]
    (image,) = Reader(page(board(store_of(result("a", 0.5))), files)).all("img")
    assert image["alt"] == "Curve: my curve"
    assert Reader(page(board(store_of()), files[1:2])).all("img") == [image]  # the SVG alone
    kind, _, data = image["src"].partition(";base64,")
    assert kind == "data:image/svg+xml"
    assert base64.b64decode(data) == b"<svg>svg</svg>"


def test_a_missing_picture_is_one_line_of_advice(store_of: Fill, result: Make) -> None:
    with pytest.raises(StoreError, match="sslbench curve"):
        page(board(store_of(result("a", 0.5))), [Path("nowhere.svg")])


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("peak_memory_bytes", 2_500_000_000, "2,500 MB"),
        ("images", 1281167, "1,281,167"),
        ("git_dirty", True, "yes"),
        ("packages", {"torch": "2.15.0", "timm": "1.0"}, "torch 2.15.0, timm 1.0"),
        ("lr", [0.1, 0.01], "0.1, 0.01"),
    ],
)
def test_records_are_written_for_people(name: str, value: object, text: str) -> None:
    assert written(name, value) == text
