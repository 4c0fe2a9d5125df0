"""The site's files: whole, safe against strangers' texts, and alone in their folder."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bench import registry
from bench.errors import SpecError, StoreError
from bench.matrix import canonical
from bench.records import Metric, Result
from bench.spec import parse
from bench.store import Store
from bench.summary import Summary
from leaderboards.board import render
from leaderboards.paper import Score
from leaderboards.ranking import board
from leaderboards.series import points_of
from leaderboards.site.board_data import key, pretraining_data
from leaderboards.site.build import write_site
from leaderboards.site.shell import data_script
from leaderboards.site.stored_text import origin

Make = Callable[..., Result]
Fill = Callable[..., Store]
ATTACK = "</script><script>alert(1)</script>\u2028'\"\\"
PUT = re.compile(r"sslbench\.put\((\".*?\"), JSON\.parse\('(.*)'\)\);\n")
VENDOR = Path(__file__).parents[2] / "leaderboards" / "site" / "vendor"


def put(file: Path) -> Any:
    """What a script of data puts, read as a browser's JavaScript does."""
    found = PUT.fullmatch(file.read_text())
    assert found, file
    literal = re.sub(
        r"\\(x3c|n|.)", lambda m: {"x3c": "<", "n": "\n"}.get(m[1], m[1]), found[2], flags=re.DOTALL
    )
    return json.loads(literal)


@pytest.fixture
def site(store_of: Fill, result: Make, tmp_path: Path) -> Callable[..., Path]:
    """Writes the site of the given results; returns its folder."""

    def write(*results: Result, **options: Any) -> Path:
        made = board(store_of(*(results or (result("a", 0.5), result("b", 0.4)))))
        return write_site(made, tmp_path / "site", **options).parent

    return write


class Reader(HTMLParser):
    """Every start tag with its attributes; fails where tags do not balance."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "input", "img", "wbr", "link"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


# What pages are made of


def test_pages_name_files_of_the_site_and_nothing_else(site: Callable[..., Path]) -> None:
    folder = site()
    pages = sorted(folder.rglob("*.html"))
    assert {p.name for p in pages} >= {"index.html", "model.html", "compare.html", "tables.html"}
    for page in pages:
        read = Reader(page.read_text())
        policy = next(a["content"] for t, a in read.tags if "http-equiv" in a)
        assert str(policy).startswith("default-src 'none'")
        assert "script-src 'self';" in str(policy)
        for tag, attributes in read.tags:
            assert not [name for name in attributes if name.startswith("on")]
            named = attributes.get("src") or attributes.get("href")
            if tag in ("script", "link", "img") or (tag == "a" and not str(named).startswith("#")):
                target = (page.parent / str(named).partition("?")[0]).resolve()
                assert target.is_file(), f"{page}: {named}"
                assert target.is_relative_to(folder.resolve())


def test_libraries_are_those_that_the_readme_names(site: Callable[..., Path]) -> None:
    listed = dict(
        re.findall(r"\| `([\w.-]+)` \|.*`([0-9a-f]{64})` \|", (VENDOR / "README.md").read_text())
    )
    held = {f.name: f.read_bytes() for f in VENDOR.iterdir() if f.suffix in (".js", ".css")}
    assert listed == {name: hashlib.sha256(data).hexdigest() for name, data in held.items()}
    folder = site()
    assert {f.name for f in (folder / "vendor").glob("LICENSE*")} == {
        "LICENSE.plotly.txt",
        "LICENSE.tabulator.txt",
    }


@pytest.mark.parametrize(
    "value",
    [
        {"a": ATTACK, ATTACK: [1, None, True]},
        {"__proto__": {"x": 1}, "é\u2029\ud800": "\n\r\t"},
        ["\\", "\\'", "\\x3c", "<!--", 1e-300, 0.1],
    ],
)
def test_data_come_out_of_a_script_as_they_went_in(value: Any, tmp_path: Path) -> None:
    file = tmp_path / "data.js"
    file.write_text(data_script(f"n{ATTACK}", value))
    assert put(file) == value
    text = file.read_text()
    assert text.isascii()
    assert "</script" not in text.replace(json.dumps(f"n{ATTACK}"), "")


def test_numbers_that_json_does_not_know_become_null(tmp_path: Path) -> None:
    file = tmp_path / "data.js"
    file.write_text(data_script("n", {"a": [float("nan"), 1.0], "b": float("inf"), "NaN": "NaN"}))
    assert put(file) == {"a": [None, 1.0], "b": None, "NaN": "NaN"}


def test_no_text_of_a_result_becomes_markup(site: Callable[..., Path], result: Make) -> None:
    hostile = result(
        f"x{ATTACK}",
        0.5,
        method=ATTACK,
        arch=ATTACK,
        pretrain={"dataset": ATTACK, "recipe": {ATTACK: [ATTACK]}},
        warnings=(ATTACK,),
        dataset={ATTACK: ATTACK},
        provenance={"command_line": ATTACK, "x": ATTACK},
    )
    folder = site(hostile, title=ATTACK)
    for page in folder.rglob("*.html"):
        text = page.read_text()
        Reader(text)
        assert "<script>" not in text
    for file in folder.rglob("data/**/*.js"):
        assert "<" not in file.read_text()


# What the data hold


def test_a_models_file_holds_every_result_whole(site: Callable[..., Path], result: Make) -> None:
    results = [
        result("mae", 0.5 + seed / 100, seed=seed, fields={"k": 10}, warnings=("k was clipped",))
        for seed in range(3)
    ]
    results.append(
        result("mae", 0.3, spec="segknn@voc2012", headline="miou", provenance={}, dataset={})
    )
    folder = site(*results)
    model, shared = put(folder / f"data/models/{key('mae')}.js"), put(folder / "data/shared.js")
    stored = [one for found in model["results"].values() for one in found]
    by_digest = {one["digest"]: one for one in stored}
    assert len(stored) == 4
    for one in results:
        told = by_digest[one.identity.digest]
        setting = shared["settings"][told["setting"]]
        assert told["details"]["metrics"] == {n: vars(m) for n, m in one.metrics.items()}
        assert told["details"]["cost"] == one.cost
        assert shared["data"][told["data"]] == one.dataset
        assert told["own"] | shared["made"][told["made"]] == one.provenance
        assert model["models"][told["model"]] == one.model
        assert setting["fields"] == one.identity.fields
        assert setting["warnings"] == one.warnings
        seed = f" --seed {one.identity.seed}" if one.identity.seed else ""
        spec = f"'{one.task_spec}'" if "?" in one.task_spec else one.task_spec
        command = f"{model['commands'][told['model']]} {setting['command']}"
        assert command == f"sslbench eval runs/mae --tasks {spec}{seed}"


def test_commands_are_quoted_for_a_shell(site: Callable[..., Path], result: Make) -> None:
    folder = site(result("a b; rm -rf x", 0.5))
    model = put(folder / f"data/models/{key('a b; rm -rf x')}.js")
    assert model["commands"] == ["sslbench eval 'runs/a b; rm -rf x'"]
    assert put(folder / "data/board.js")["rows"][0]["word"] == "'a b; rm -rf x'"


PROVENANCE = [
    {"command_line": "sslbench eval 'x' \"y\", \\", "started": "2026", "packages": {"torch": "2"}},
    {"started": "now"},
    {"zeta": ["a,", "b"], "command_line": ["no", "text"], "started": None},
    {},
]


@pytest.mark.parametrize("provenance", PROVENANCE)
@pytest.mark.parametrize("indent", [1, 2, None])
def test_parts_of_a_stored_file_are_those_of_the_record(
    provenance: dict[str, Any], indent: int | None, store_of: Fill, result: Make
) -> None:
    one = result("a", 0.5, provenance=provenance, dataset={"provenance": {"x": "\n }"}})
    store = store_of(one)
    folder = store.path(one.identity, "a")
    text = json.loads((folder / "result.json").read_text())
    if indent != 1:  # as other hands may write it
        (folder / "result.json").write_text(json.dumps(text, indent=indent))
    found = origin(Summary.of(one, str(folder.parent)))
    assert json.loads(found.dataset) == one.dataset
    assert json.loads(found.own) | json.loads(found.made) == provenance


def test_the_board_is_that_of_the_command(site: Callable[..., Path], result: Make) -> None:
    found = [result(f"m{i}", 0.1 * i, seed=s) for i in range(1, 9) for s in range(1 + i % 2)]
    found.append(result("m3", spec="depth@nyu", headline="rmse", metric=Metric(0.5, 0.4, 0.6)))
    folder = site(*found)
    data, made = put(folder / "data/board.js"), board(Store(folder.parent / "results"))
    assert [row["name"] for row in data["rows"]] == [row.name for row in made.rows]
    for told, row in zip(data["rows"], made.rows, strict=True):
        assert told["rank"] == pytest.approx(row.mean_rank)
        assert told["score"] == pytest.approx(row.score)
        assert told["pareto"] == row.pareto
        for values, cell, rank in zip(told["cells"], row.cells, row.ranks, strict=True):
            if cell is None:
                assert values is None
                continue
            assert values[:4] == pytest.approx([cell.value, cell.low, cell.high, rank])
            assert values[4:6] == [cell.group, cell.tied_with_best]
            assert values[6:7] == [cell.seeds] * (cell.seeds > 1)
    assert [column["lower"] for column in data["columns"]] == [True, False]


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("imagenet1k[n=100,seed=1]", "imagenet1k"),
        ("coco[split=unlabeled,n=5]+coco[n=5]", "coco[split=unlabeled]+coco"),
        ("our own photos (2024)", "our own photos (2024)"),
        (None, ""),
    ],
)
def test_subsets_of_one_data_set_are_one_choice(dataset: str | None, name: str) -> None:
    assert pretraining_data({"pretrain": {"dataset": dataset}}) == name


def test_keys_are_file_names_that_tell_models_apart() -> None:
    names = ["a", "A", "a b", "a-b", "../../x", "é", "日本", "x" * 300, "x" * 301, "con", ""]
    keys = [key(name) for name in names]
    assert len({k.lower() for k in keys}) == len(names)
    assert all(re.fullmatch(r"[a-z0-9-]{8,80}", k) for k in keys)


def test_laws_are_those_of_the_curve_command(site: Callable[..., Path], result: Make) -> None:
    sizes = (1000, 2000, 4000, 8000, 16000)
    found = [
        result(f"mae-{n}", 1 - 3 * n**-0.3, pretrain={"images": n, "dataset": f"imagenet1k[n={n}]"})
        for n in sizes
    ]
    folder = site(*found)
    curves = put(folder / "data/curves.js")
    drawn = points_of(Store(folder.parent / "results"), task="knn", x="images")
    (series,) = next(axis for axis in curves["axes"] if axis["name"] == "images")["series"]
    rows = put(folder / "data/board.js")["rows"]
    assert [(x, rows[row]["name"]) for x, row in series["points"]] == [
        (n, f"mae-{n}") for n in sizes
    ]
    law = curves["laws"]["0"]["images"]["0"]
    assert law["text"] == str(drawn.series[0].law)
    assert law["y"][0] == pytest.approx(1 - 3 * 1000**-0.3, abs=0.01)
    assert law["x"][-1] == pytest.approx(32000, rel=1e-4)
    assert all(
        low < y < high for low, y, high in zip(law["low"], law["y"], law["high"], strict=True)
    )


def test_without_two_sizes_or_costs_there_is_no_page_of_them(
    site: Callable[..., Path], result: Make
) -> None:
    folder = site(result("timm", 0.5, pretrain={"dataset": None}, cost={}))
    assert not (folder / "curves.html").exists()
    assert "curves.html" not in (folder / "index.html").read_text()
    assert not (folder / "costs.html").exists()


# Papers' tables


def test_a_table_with_a_number_has_a_page_with_ours_beside_theirs(
    site: Callable[..., Path], result: Make
) -> None:
    table = registry.load("table", "slotmim").table("4")
    row = next(row for row in table.rows if row.mini and row.published)
    column, score = next(
        (c, c.measure) for c in table.columns if isinstance(c.measure, Score) and c.measure.mini
    )
    trained = {"dataset": "mini_scenes", "spec": canonical(row.mini)}
    headline = {"headline": score.metric, "spec": str(parse(score.mini))}
    folder = site(result("our <model>", 0.25, pretrain=trained, **headline))
    page = (folder / "tables/slotmim-4.html").read_text()
    Reader(page)
    assert f'<a href="../model.html?model={key("our <model>")}">' in page
    assert '<span class="score">25.0</span>' in page
    assert f"published {row.published[table.columns.index(column)]}<" in page
    assert "not comparable" in page
    listed = (folder / "tables.html").read_text()
    assert '<a href="tables/slotmim-4.html">' in listed
    papers = [registry.load("table", name) for name in registry.names("table")]
    assert listed.count('<th scope="row">') == sum(len(paper.tables) for paper in papers)


def test_without_a_number_no_table_has_a_page(site: Callable[..., Path]) -> None:
    folder = site()
    assert not (folder / "tables").exists()
    assert "Measured here" in (folder / "tables.html").read_text()


# Notes and pictures


def test_what_a_reader_must_know_stands_below_the_table(
    site: Callable[..., Path], result: Make
) -> None:
    chosen = result("a", 0.5, fields={"selection": "test"}, pretrain={"collapsed": "one `x` <b>"})
    folder = site(chosen)
    text = (folder / "index.html").read_text()
    assert "chosen on the split that is reported" in text
    assert "a collapsed in pre-training: one <code>x</code> &lt;b&gt;" in text
    cell = put(folder / "data/board.js")["rows"][0]["cells"][0]
    assert cell[5] & 2  # scripts/board.js draws the dagger of it


def test_banner_stands_on_sites_of_the_mini_benchmark_only(
    site: Callable[..., Path], result: Make
) -> None:
    assert 'class="banner"' not in (site() / "index.html").read_text()
    mini = result("a", 0.5, spec="knn@mini_objects", manifest="f" * 64)
    assert 'class="banner"' in (site(mini) / "index.html").read_text()


def test_pictures_go_to_the_model_whose_name_they_start_with(
    site: Callable[..., Path], result: Make, tmp_path: Path
) -> None:
    for kind in ("png", "svg", "csv"):
        (tmp_path / f"my_curve.{kind}").write_text(f"<svg>{kind}</svg>")
    (tmp_path / "mae-2_slots.png").write_bytes(b"png")
    names = ["my_curve.png", "my_curve.svg", "my_curve.csv", "mae-2_slots.png"]
    folder = site(
        result("mae", 0.5), result("mae-2", 0.4), pictures=[tmp_path / name for name in names]
    )
    images = [a for t, a in Reader((folder / "index.html").read_text()).tags if t == "img"]
    assert [image["alt"] for image in images] == ["my curve"]
    assert (folder / str(images[0]["src"])).read_text() == "<svg>svg</svg>"  # preferred
    assert put(folder / f"data/models/{key('mae')}.js")["pictures"] == []
    (picture,) = put(folder / f"data/models/{key('mae-2')}.js")["pictures"]
    assert picture["name"] == "mae-2 slots"
    assert (folder / picture["src"]).read_bytes() == b"png"


def test_a_missing_picture_is_one_line_of_advice(site: Callable[..., Path]) -> None:
    with pytest.raises(StoreError, match="sslbench curve"):
        site(pictures=[Path("nowhere.svg")])


# The folder


def test_the_site_is_written_without_torch_and_said_where(
    store_of: Fill, result: Make, tmp_path: Path
) -> None:
    store = store_of(result("a", 0.5))
    code = (
        "import sys\nfrom bench.cli import main\n"
        f"sys.argv = ['sslbench', 'board', '--results', {str(store.root)!r}, '--format', 'html',"
        f" '--out', {str(tmp_path / 'site')!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "assert not {'torch', 'torchvision', 'timm'} & set(sys.modules)"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"wrote {tmp_path / 'site' / 'index.html'}\n"


def test_a_site_needs_a_place_to_be_written_to(store_of: Fill, result: Make) -> None:
    with pytest.raises(SpecError, match="--out FOLDER"):
        render(board(store_of(result("a", 0.5))), "html")


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_a_new_site_replaces_the_old_one_and_leaves_other_files(
    store_of: Fill, result: Make, tmp_path: Path
) -> None:
    out = tmp_path / "site"
    write_site(board(store_of(result("old", 0.5))), out)
    (out / "CNAME").write_text("mine")
    write_site(board(store_of(result("new", 0.6))), out)
    now = files_of(out)
    assert now.pop("CNAME") == b"mine"
    fresh = tmp_path / "fresh"
    write_site(board(store_of()), fresh)
    assert now == files_of(fresh)  # the same store, the same bytes


def test_only_models_of_the_new_board_keep_their_files(
    store_of: Fill, result: Make, tmp_path: Path
) -> None:
    out, store = tmp_path / "site", store_of(result("a", 0.5), result("b", 0.6))
    write_site(board(store), out)
    write_site(board(store, models=["a"]), out)
    assert [f.name for f in (out / "data/models").iterdir()] == [f"{key('a')}.js"]


@pytest.mark.parametrize("name", ["board.html", "board.HTM"])
def test_a_path_of_a_page_is_refused_with_advice(
    name: str, store_of: Fill, result: Make, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match="folder of pages; give a folder"):
        write_site(board(store_of(result("a", 0.5))), tmp_path / name)


def test_a_folder_that_holds_other_things_is_left_alone(
    store_of: Fill, result: Make, tmp_path: Path
) -> None:
    out = tmp_path / "photos"
    out.mkdir()
    (out / "index.html").write_text("mine")
    with pytest.raises(StoreError, match="other things"):
        write_site(board(store_of(result("a", 0.5))), out)
    assert files_of(out) == {"index.html": b"mine"}


def test_a_forged_list_of_files_removes_nothing_outside(
    store_of: Fill, result: Make, tmp_path: Path
) -> None:
    out = tmp_path / "site"
    out.mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("mine")
    (out / "link").symlink_to(tmp_path / "kept")
    names = ["../mine.txt", str(tmp_path / "mine.txt"), "link/file", "..", "gone.js"]
    (out / "site.json").write_text(json.dumps({"files": names}))
    write_site(board(store_of(result("a", 0.5))), out)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "kept/file").read_text() == "mine"


def test_a_failed_site_can_be_written_again(
    store_of: Fill, result: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, made = tmp_path / "site", board(store_of(result("a", 0.5)))
    with monkeypatch.context() as patch:
        patch.setattr("leaderboards.site.build.curve_data", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_site(made, out, pictures=[_picture(tmp_path)])
    write_site(made, out)
    assert not (out / "pictures").exists()


def _picture(folder: Path) -> Path:
    path = folder / "curve.svg"
    path.write_text("<svg/>")
    return path
