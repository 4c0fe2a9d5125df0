"""The site as a reader uses it: opened from the disk in a real Chromium, by mouse and keyboard."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.records import Metric, Outcome, Result
from bench.store import Store
from bench.summary import Summary
from leaderboards.columns import Column
from leaderboards.formats import interval, seeds
from leaderboards.ranking import Board, board
from leaderboards.site.board_data import key
from leaderboards.site.build import write_site

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium"),
    pytest.mark.xdist_group("browser"),
]

Make = Callable[..., Result]
ATTACK = (
    '<img src=x onerror="window.hacked=1">\'"</script><script>window.hacked=1</script>\u2028`${1}'
)
PAGES = ("index", "curves", "costs", "compare", "tables")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # root, as in a container, has no sandbox
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens pages; afterwards all must have been silent and have read files of the site only."""
    said: list[str] = []
    asked: list[tuple[str, Path]] = []
    contexts = []

    def open_page(site: Path, name: str = "index.html", **options: Any) -> Any:
        context = chromium.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append((request.url, site)))
        page.goto(f"{site.as_uri()}/{name}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said
    assert asked
    assert not [url for url, site in asked if not url.startswith(site.as_uri())]


def _results(make: Make) -> list[Result]:
    """Six models on four tasks of two families, one of them an error; one cell is missing."""
    found = []
    sizes = (1000, 2000, 4000, 8000)
    models = {f"mae-{n}": ("mae", "imagenet1k", n, 0.40 + 0.05 * i) for i, n in enumerate(sizes)}
    models |= {"dino": ("dino", "coco", 4000, 0.58), "simclr": ("simclr", "imagenet1k", 8000, 0.47)}
    for i, (name, (method, data, images, quality)) in enumerate(models.items()):
        about = {
            "method": method,
            "pretrain": {
                "dataset": data if images == 8000 else f"{data}[n={images},seed=0]",
                **{"images": images, "views_seen": images * 10, "flops": images * 1e12},
                **{"epochs": 10.0, "seed": 0},
            },
        }
        for task, shift in (("knn@imagenet1k?k=20", 0.0), ("segknn@voc2012", -0.1)):
            for seed in range(1 + (name == "dino")):
                spread = quality + shift + 0.01 * seed
                found.append(make(name, spread, spec=task, seed=seed, **about))
        if name != "simclr":
            error = Metric(1 - quality, 0.98 - quality, 1.02 - quality, 500, "bootstrap95")
            found.append(make(name, spec="depth@nyu", headline="rmse", metric=error, **about))
        found.append(make(name, 0.5 + 0.002 * i, spec="linear@imagenet1k", n=500, **about))
    return found


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, result: Make) -> tuple[Path, Board]:
    """A site, and the board that it shows."""
    folder = tmp_path_factory.mktemp("shown")
    store = Store(folder / "results")
    for one in _results(result):
        store.write(one, Outcome({"id": np.array(["a", "b"])}))
    picture = folder / "mae-1000_slots.svg"
    picture.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    made = board(store)
    return write_site(made, folder / "site", (picture,)).parent, made


@pytest.fixture(scope="module")
def site(shown: tuple[Path, Board]) -> Path:
    return shown[0]


@pytest.fixture
def leaderboard(site: Path, opened: Callable[..., Any]) -> Any:
    """The first page, drawn."""
    page = opened(site)
    page.wait_for_selector(".tabulator-row")
    return page


def names(page: Any) -> list[str]:
    """The models on show, from top to bottom."""
    found: list[str] = page.locator(".tabulator-row .name").all_inner_texts()
    return found


def heading(page: Any, text: str) -> Any:
    return page.locator(".tabulator-col", has_text=text).first


def choose(page: Any, facet: str, *values: str) -> None:
    """Opens a list of choices, ticks some and closes it with the keyboard."""
    box = page.locator(".facet", has=page.locator("summary", has_text=facet))
    box.locator("summary").click()
    for value in values:
        box.get_by_label(value, exact=True).click()
    page.keyboard.press("Escape")
    assert not box.evaluate("element => element.open")


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_from_the_disk(name: str, site: Path, opened: Callable[..., Any]) -> None:
    page = opened(site, f"{name}.html")
    page.wait_for_load_state("load")
    assert page.locator("h1").count() == 1
    assert page.locator("main").count() == 1
    assert page.locator("nav a[aria-current=page]").get_attribute("href") == f"{name}.html"


# The leaderboard


def test_the_best_comes_first_and_the_rank_is_sorted_at_first(
    leaderboard: Any, shown: tuple[Path, Board]
) -> None:
    assert names(leaderboard) == [row.name for row in shown[1].rows]
    assert heading(leaderboard, "Rank").get_attribute("aria-sort") == "ascending"


@pytest.mark.parametrize("task", ["knn", "depth"])
def test_a_heading_sorts_best_first_then_worst_first_and_the_missing_last(
    task: str, leaderboard: Any, shown: tuple[Path, Board]
) -> None:
    made = shown[1]
    j = next(j for j, column in enumerate(made.columns) if column.task == task)
    cells = {row.name: row.cells[j] for row in made.rows}
    scores = {name: cell.value for name, cell in cells.items() if cell is not None}
    best = sorted(scores, key=scores.__getitem__, reverse=not made.columns[j].lower_is_better)
    missing = [name for name, cell in cells.items() if cell is None]
    heading(leaderboard, task).locator("button").click()
    assert names(leaderboard) == best + missing
    first = "ascending" if made.columns[j].lower_is_better else "descending"
    assert heading(leaderboard, task).get_attribute("aria-sort") == first
    heading(leaderboard, task).locator("button").click()
    assert names(leaderboard) == best[::-1] + missing
    assert heading(leaderboard, "Rank").get_attribute("aria-sort") == "none"


def test_words_filter_models_in_any_order(leaderboard: Any) -> None:
    leaderboard.get_by_label("Filter models").fill("8,000 mae")
    assert names(leaderboard) == ["mae-8000"]
    assert "1 of 6 models" in leaderboard.locator("#count").inner_text()
    leaderboard.get_by_label("Filter models").fill("nothing is called so")
    assert names(leaderboard) == []
    assert leaderboard.get_by_text("No model fits").is_visible()


def test_choices_of_method_and_data_narrow_and_all_come_back(leaderboard: Any) -> None:
    before = names(leaderboard)
    choose(leaderboard, "Pre-training data", "imagenet1k")
    assert set(names(leaderboard)) == {n for n in before if n != "dino"}
    choose(leaderboard, "Method", "simclr")
    assert names(leaderboard) == ["simclr"]
    leaderboard.get_by_role("button", name="Show all").click()
    assert names(leaderboard) == before
    assert not leaderboard.get_by_role("button", name="Show all").is_visible()


def test_a_task_family_leaves_its_columns_and_their_mean_rank(
    leaderboard: Any, shown: tuple[Path, Board]
) -> None:
    choose(leaderboard, "Task family", "dense")
    shown_tasks = leaderboard.locator(".tabulator-col .what").all_inner_texts()
    assert [t for t in shown_tasks if t in ("knn", "linear", "depth", "segknn")] == ["segknn"]
    made = shown[1]
    j = next(j for j, column in enumerate(made.columns) if column.task == "segknn")
    ranks = {row.name: f"{row.ranks[j]:.1f}" for row in made.rows}
    told = leaderboard.locator(".tabulator-row [tabulator-field=rank]").all_inner_texts()
    shown_ranks = [text.split()[0] for text in told]
    assert dict(zip(names(leaderboard), shown_ranks, strict=True)) == ranks


def test_columns_are_chosen(leaderboard: Any) -> None:
    assert heading(leaderboard, "Views").count() == 0
    choose(leaderboard, "Columns", "Views", "knn@imagenet1k?k=20")
    assert heading(leaderboard, "Views").count() == 1
    assert "knn" not in leaderboard.locator(".tabulator-col .what").all_inner_texts()
    row = leaderboard.locator(".tabulator-row", has_text="mae-1000")
    assert row.locator("[tabulator-field=c_views]").inner_text() == "10k"


@pytest.mark.parametrize(
    ("most", "cost", "left"),
    [
        ("2000", "Images", {"mae-1000", "mae-2000"}),
        ("40k", "Views", {"mae-1000", "mae-2000", "mae-4000", "dino"}),
        ("1e15", "FLOPs", {"mae-1000"}),
    ],
)
def test_a_budget_keeps_what_costs_no_more(
    most: str, cost: str, left: set[str], leaderboard: Any
) -> None:
    leaderboard.get_by_label("of which cost").select_option(label=cost)
    leaderboard.get_by_label("At most").fill(most)
    assert set(names(leaderboard)) == left


def test_a_budget_that_is_no_number_is_told_and_filters_nothing(leaderboard: Any) -> None:
    leaderboard.get_by_label("At most").fill("cheap")
    assert leaderboard.get_by_role("alert").inner_text().startswith("expected a number")
    assert leaderboard.get_by_label("At most").get_attribute("aria-invalid") == "true"
    assert len(names(leaderboard)) == 6


def test_cells_show_what_the_command_prints(leaderboard: Any, shown: tuple[Path, Board]) -> None:
    made = shown[1]
    for row in made.rows:
        line = leaderboard.locator(".tabulator-row", has=leaderboard.get_by_text(row.name))
        for j, (column, cell) in enumerate(zip(made.columns, row.cells, strict=True)):
            told = line.locator(f"[tabulator-field=t{j}]")
            if cell is None:
                assert "not evaluated" in told.inner_text()
                continue
            assert told.locator(".score").inner_text() == column.show(cell.value)
            assert told.locator(".interval").inner_text() == interval(cell, column)
            assert "".join(told.locator(".seeds").all_inner_texts()) == seeds(cell, column)
            group = f"tie group {cell.group}" if cell.group > 1 else ""
            assert "".join(told.locator(".group").all_text_contents()) == group
            assert ("not separable" in told.inner_text()) == cell.tied_with_best


def test_numbers_are_rounded_as_the_command_rounds_them(leaderboard: Any) -> None:
    rng = np.random.default_rng(0)
    values = [*(k / 1600 for k in range(1601)), *rng.uniform(-1, 1, 2000), 0.15, 0.25, 0.3125]
    for percent, decimals in ((True, 1), (False, 1), (False, 2), (False, 3)):
        column = Column("", "", "", "", 1, "m", percent, False, decimals, False)
        script = f"""values => values.map((value) =>
            sslbench.show({{ percent: {str(percent).lower()}, decimals: {decimals} }}, value))"""
        assert leaderboard.evaluate(script, [float(v) for v in values]) == [
            column.show(float(value)) for value in values
        ]


def test_a_score_tells_what_made_it_and_gives_the_focus_back(
    leaderboard: Any, shown: tuple[Path, Board]
) -> None:
    made = shown[1]
    row = next(row for row in made.rows if row.name == "dino")
    j = next(j for j, column in enumerate(made.columns) if column.task == "knn")
    line = leaderboard.locator(".tabulator-row", has_text="dino")
    button = line.locator(f"[tabulator-field=t{j}] button")
    button.click()
    dialog = leaderboard.get_by_role("dialog", name="dino")
    for result in row.cells[j].results:  # type: ignore[union-attr]
        told = dialog.locator("details", has_text=f"evaluation seed {result.identity.seed}")
        if not told.evaluate("element => element.open"):
            told.locator("summary").click()
        for fact in (
            *(result.identity.digest, result.identity.weights, result.identity.dataset),
            *("0123abc", "torch 2.15.0", "512 MB", "wilson95", "4,000"),
        ):
            assert fact in told.inner_text(), fact
        seed = f" --seed {result.identity.seed}" if result.identity.seed else ""
        command = f"sslbench eval runs/dino --tasks 'knn@imagenet1k?k=20'{seed}"
        assert told.locator(".command pre").first.inner_text() == command
    leaderboard.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert button.evaluate("element => element === document.activeElement")


def test_the_keyboard_alone_sorts_moves_and_opens(
    leaderboard: Any, shown: tuple[Path, Board]
) -> None:
    page = leaderboard
    page.locator("#filter").focus()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("Boolean(document.activeElement.closest('#board'))"):
            break
    assert page.evaluate("document.activeElement.textContent").startswith("Model")
    page.keyboard.press("Enter")
    assert names(page) == sorted(row.name for row in shown[1].rows)
    for key_pressed in ("ArrowDown", "ArrowDown", "End"):
        page.keyboard.press(key_pressed)
        page.wait_for_timeout(120)
    where = page.evaluate(
        """() => {
          const cell = document.activeElement.closest(".tabulator-cell");
          return [cell.closest(".tabulator-row").querySelector(".name").textContent,
                  cell.getAttribute("tabulator-field")];
        }"""
    )
    assert where == [sorted(row.name for row in shown[1].rows)[1], "t3"]
    page.keyboard.press("Enter")
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")  # one stop only: the next one is behind the table
    assert not page.evaluate("Boolean(document.activeElement.closest('#board'))")


# Other pages


def test_the_page_of_a_model_shows_all_that_is_stored(
    site: Path, shown: tuple[Path, Board], opened: Callable[..., Any]
) -> None:
    page = opened(site)
    page.locator(".tabulator-row .name", has_text="mae-1000").click()
    page.wait_for_selector("#scores")
    assert page.locator("h1").inner_text() == "mae-1000"
    assert page.title().startswith("mae-1000")
    row = next(row for row in shown[1].rows if row.name == "mae-1000")
    lines = page.locator("#model tbody tr").filter(has=page.locator("button.plain"))
    assert lines.count() == row.filled
    assert lines.filter(has_text="top-5 accuracy 0.9 [0.88, 0.92]").count() == row.filled
    assert "imagenet1k[n=1000,seed=0]" in page.locator("#model").inner_text()
    assert "batch_size 512" in page.locator("#model").inner_text()
    assert page.get_by_text("sslbench inspect runs/mae-1000").is_visible()
    record = page.locator("details.record", has_text="knn@imagenet1k")
    record.locator("summary").click()
    (result,) = row.cells[[c.task for c in shown[1].columns].index("knn")].results  # type: ignore
    assert result.identity.digest in record.inner_text()
    image = page.locator("figure img")
    assert image.get_attribute("alt") == "mae-1000 slots"
    assert image.evaluate("element => element.complete && element.naturalWidth") == 9


def test_an_unknown_model_is_told(site: Path, opened: Callable[..., Any]) -> None:
    page = opened(site, "model.html?model=../../data/board")
    assert "no such model" in page.get_by_role("alert").inner_text()


def test_any_two_models_are_compared(
    site: Path, shown: tuple[Path, Board], opened: Callable[..., Any]
) -> None:
    page = opened(site, "compare.html")
    page.get_by_label("A", exact=True).fill("mae-8000")
    page.get_by_label("B", exact=True).fill("mae-1000")
    lines = page.locator("table.compared tbody tr")
    assert lines.count() == 4
    told = {line.locator(".what").inner_text(): line.inner_text() for line in lines.all()}
    assert "+15.0" in told["knn"]
    assert "A is better" in told["knn"]
    assert "−0.15" in told["depth"]  # an error: smaller is better
    assert "A is better" in told["depth"]
    assert "intervals overlap" in told["linear"]
    assert "A is better on 3, B on 0; on 1 the intervals overlap" in page.inner_text("main")
    assert "sslbench compare mae-8000 mae-1000" in page.locator(".command pre").inner_text()
    page.get_by_role("button", name="Swap").click()
    assert "B is better on" not in page.inner_text("main")
    assert "A is better on 0, B on 3" in page.inner_text("main")
    page.get_by_label("B", exact=True).fill("simclr")
    assert "only one of them has" in page.inner_text("main")
    page.get_by_label("B", exact=True).fill("no such")
    assert page.get_by_label("B", exact=True).get_attribute("aria-invalid") == "true"
    assert page.locator("table.compared").count() == 0


def test_the_address_names_the_two_models(site: Path, opened: Callable[..., Any]) -> None:
    page = opened(site, f"compare.html?a={key('dino')}&b={key('simclr')}")
    assert page.get_by_label("A", exact=True).input_value() == "dino"
    assert page.get_by_label("B", exact=True).input_value() == "simclr"


def traces(page: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate(
        """() => document.getElementById("picture").data.map((trace) => ({ name: trace.name,
          mode: trace.mode, x: [...trace.x], y: [...trace.y], dash: trace.line?.dash ?? "",
          fill: trace.fill ?? "", above: trace.error_y ? [...trace.error_y.array] : [] }))"""
    )
    return found


def test_curves_show_points_intervals_and_the_law(
    site: Path, shown: tuple[Path, Board], opened: Callable[..., Any]
) -> None:
    page = opened(site, "curves.html")
    page.locator("#task").select_option(label="knn@imagenet1k?k=20")
    page.locator("#axis").select_option(label="Pre-training images")
    points = next(one for one in traces(page) if str(one["name"]).startswith("mae"))
    assert points["x"] == [1000, 2000, 4000, 8000]
    assert points["y"] == pytest.approx([40, 45, 50, 55])
    made = shown[1]
    j = [column.task for column in made.columns].index("knn")
    cells = {row.name: row.cells[j] for row in made.rows}
    high = [100 * (c.high - c.value) for n in (1, 2, 4, 8) if (c := cells[f"mae-{n}000"])]
    assert points["above"] == pytest.approx(high, abs=1e-4)
    lines = [one for one in traces(page) if one["mode"] == "lines"]
    solid = next(one for one in lines if not one["dash"] and not one["fill"])
    assert [solid["x"][0], solid["x"][-1]] == pytest.approx([1000, 8000])
    assert solid["y"][-1] == pytest.approx(55, abs=1.5)
    dashed = next(one for one in lines if one["dash"] == "dash")
    assert dashed["x"][-1] == pytest.approx(16000, rel=1e-3)
    assert re.search(r"mae.*: a = 0\.\d+ ± 0\.\d+", page.inner_text("#said"))
    page.get_by_label("Bands of the laws").uncheck()
    assert not [one for one in traces(page) if one["fill"]]


def test_the_numbers_of_a_curve_are_a_table_too(site: Path, opened: Callable[..., Any]) -> None:
    page = opened(site, "curves.html")
    page.get_by_text("The numbers").click()
    rows = page.locator("#numbers tbody tr")
    assert rows.count() == sum(len(one["x"]) for one in traces(page) if one["above"])
    assert "table below" in page.locator("#picture").get_attribute("aria-label")


def test_the_front_of_quality_and_cost_is_that_of_the_definition(
    site: Path, shown: tuple[Path, Board], opened: Callable[..., Any]
) -> None:
    page = opened(site, "costs.html")
    page.get_by_label("Quality").select_option(label="knn@imagenet1k?k=20: top-1 accuracy %")
    page.get_by_label("Cost").select_option(label="FLOPs")
    made = shown[1]
    j = [column.task for column in made.columns].index("knn")
    points = {row.name: (row.model["pretrain"]["flops"], row.cells[j].value) for row in made.rows}  # type: ignore
    front = {
        name
        for name, (cost, score) in points.items()
        if not any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points.values())
    }
    page.get_by_text("The numbers").click()
    rows = page.locator("#numbers tbody tr").all()
    assert len(rows) == 6
    told = {r.locator("th").inner_text() for r in rows if r.inner_text().endswith("yes")}
    assert told == front
    assert 0 < len(front) < 6


def test_plots_offer_no_way_to_send_data_away(site: Path, opened: Callable[..., Any]) -> None:
    page = opened(site, "costs.html")
    titles = page.locator(".modebar-btn").evaluate_all("all => all.map((b) => b.dataset.title)")
    assert titles
    assert not [title for title in titles if re.search("cloud|share|chart studio", title, re.I)]
    context = page.evaluate("document.getElementById('picture')._context")
    assert context["plotlyServerURL"] == ""


# For everyone


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(
    scheme: str, site: Path, opened: Callable[..., Any]
) -> None:
    page = opened(site, color_scheme=scheme)
    pairs = [(text, page_) for text in ("text", "muted", "accent") for page_ in ("page", "raised")]
    pairs += [("tied-text", "tied"), ("muted", "tied"), ("text", "warn-page"), ("muted", "hover")]
    pairs += [("warn-text", "raised"), ("text", "hover")]
    for text, ground in pairs:
        colours = page.evaluate(
            """names => names.map((name) => {
              const probe = document.body.appendChild(document.createElement("i"));
              probe.style.color = `var(--${name})`;
              return getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(Number);
            })""",
            [text, ground],
        )
        light, dark = sorted(map(luminance, colours), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (scheme, text, ground)


def luminance(colour: list[float]) -> float:
    """Relative luminance of WCAG 2."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (value / 255 for value in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


EVERY = [*(f"{name}.html" for name in PAGES), f"model.html?model={key('dino')}"]


@pytest.mark.parametrize("name", EVERY)
def test_controls_have_names_and_pages_their_landmarks(
    name: str, site: Path, opened: Callable[..., Any]
) -> None:
    page = opened(site, name)
    page.wait_for_load_state("load")
    for facet in page.locator("summary").all():
        facet.click()
    bare = page.evaluate(
        """() => [...document.querySelectorAll("input, select, button, a, summary, img")]
          .filter((one) => one.offsetParent && !one.closest(".plotly"))
          .filter((one) => ![one.labels?.[0]?.textContent, one.getAttribute("aria-label"), one.alt,
                             one.textContent].some((text) => text?.trim()))
          .map((one) => one.outerHTML)"""
    )
    assert not bare
    for landmark in ("header", "nav[aria-label]", "main", "footer", "a.skip[href='#main']"):
        assert page.locator(landmark).count() == 1, landmark
    assert page.locator("html").get_attribute("lang") == "en"


def test_the_first_stop_skips_to_the_content(site: Path, opened: Callable[..., Any]) -> None:
    page = opened(site)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["y"] >= 0  # seen once it has the focus
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


@pytest.mark.parametrize("name", EVERY)
def test_a_narrow_page_does_not_scroll_sideways(
    name: str, site: Path, opened: Callable[..., Any]
) -> None:
    page = opened(site, name)
    page.set_viewport_size({"width": 400, "height": 800})
    page.reload()
    page.wait_for_load_state("load")
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_light_and_dark_are_chosen_and_kept(site: Path, opened: Callable[..., Any]) -> None:
    page = opened(site, color_scheme="light")

    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = ground()
    page.get_by_role("button", name="Dark").click()
    dark = ground()
    assert dark != light
    page.reload()
    assert ground() == dark
    page.emulate_media(color_scheme="light")
    assert ground() == dark
    page.get_by_role("button", name="Light").click()
    assert ground() == light


# Strangers' texts, and size


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory, result: Make) -> Path:
    """A site of which every text that a result carries tries to be a script."""
    folder = tmp_path_factory.mktemp("attacked")
    store = Store(folder / "results")
    for i, images in enumerate((100, 200, 400)):
        one = result(
            f"{ATTACK} {i}",
            0.5 + i / 100,
            method=f'">{ATTACK}',
            arch=f"'{ATTACK}",
            headline=f"top{ATTACK}",
            fields={f"k{ATTACK}": ATTACK, "__proto__": {"polluted": 1}},
            pretrain={"dataset": ATTACK, "images": images, "recipe": {ATTACK: [ATTACK]}},
            spec=f"knn@folder[path={ATTACK}]?a={ATTACK}",
            warnings=(f"</template></dialog>{ATTACK}",),
            dataset={ATTACK: ATTACK, "constructor": "x"},
            provenance={"command_line": f'x" onclick="{ATTACK}', "__proto__": ATTACK},
            cost={ATTACK: 1},
        )
        store.write(one, Outcome({"id": np.array(["a"])}))
    picture = folder / "<b>.svg"
    picture.write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>hacked=1</script></svg>")
    return write_site(board(store), folder / "site", (picture,), title=ATTACK).parent


@pytest.mark.parametrize("name", [*PAGES, "model"])
def test_no_text_of_a_stranger_becomes_markup(
    name: str, attacked: Path, opened: Callable[..., Any]
) -> None:
    query = f"?model={key(f'{ATTACK} 0')}" if name == "model" else ""
    page = opened(attacked, f"{name}.html{query}")
    page.wait_for_load_state("load")
    page.wait_for_timeout(200)
    if name == "index":
        page.wait_for_selector(".tabulator-row")
        page.locator("button.cell").first.click()
        page.wait_for_selector("#details dl")
        assert ATTACK in page.locator("#details").text_content()
        assert "polluted" in page.locator("#details").text_content()  # a key like any other
    if name == "model":
        for record in page.locator("details.record").all():
            record.locator("summary").click()
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("({}).polluted") is None
    assert not page.locator("img[src=x], [onerror], [onclick]").count()
    if name not in ("tables", "costs", "curves"):
        assert ATTACK.split("<")[0] in page.locator("main").text_content()
    if name == "curves":
        assert ATTACK in page.locator(".legendtext").first.text_content().replace("\xa0", " ")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, result: Make) -> Path:
    """A thousand models on twenty tasks, straight from memory."""
    rng = np.random.default_rng(0)
    kept = [
        result(
            f"m{m:03}", float(rng.uniform(0.2, 0.9)), spec=f"knn@imagenet1k?k={k}", fields={"k": k}
        )
        for m in range(1000)
        for k in range(1, 21)
    ]
    folder = tmp_path_factory.mktemp("large")
    with pytest.MonkeyPatch.context() as patch:
        found = [Summary.of(one) for one in kept]
        patch.setattr("leaderboards.ranking.select", lambda store, **_: found)
        return write_site(board(Store(folder)), folder / "site").parent


def test_of_a_thousand_models_only_those_in_sight_are_drawn(
    large: Path, opened: Callable[..., Any]
) -> None:
    page = opened(large)
    page.wait_for_selector(".tabulator-row")
    assert page.locator(".tabulator-row").count() < 60
    assert page.locator(".tabulator-cell").count() < 60 * 20
    assert page.locator("#board").get_attribute("aria-rowcount") == "1001"
    page.locator(".tabulator-row .name").first.focus()
    page.keyboard.press("Control+End")
    page.wait_for_selector(".tabulator-row[aria-rowindex='1001'] button:focus")
    field = "document.activeElement.closest('.tabulator-cell').getAttribute('tabulator-field')"
    assert page.evaluate(field) == "t19"
    assert page.locator(".tabulator-row").count() < 60
    page.get_by_label("Filter models").fill("m777")
    page.locator(".tabulator-row").nth(1).wait_for(state="detached")
    assert names(page) == ["m777"]
