"""The papers' tables: they hold every published cell, and ask for what can be trained and run."""

import csv
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from bench import registry
from bench.dataset import MODIFIERS
from bench.matrix import canonical
from bench.records import Result
from bench.spec import DatasetPart, bind, parse
from leaderboards import tables
from leaderboards.paper import (
    MINI_PRESET,
    SCALES,
    FlopsRatio,
    Gain,
    Paper,
    Row,
    Scale,
    Score,
    Table,
)
from trainers.loop import resolve
from trainers.recipe import Plan

SEEDS = {"ab", "asl", "loca", "slotmim", "sove"}
PAPERS = registry.names("table")
ROOT = Path(__file__).resolve().parents[2]
CSV = Path(__file__).with_name("paper_tables.csv")
# Of a protocol for which there is no golden.
MORE_METRICS = {"discovery": {"active_slots"}}
GOLDENS = json.loads((ROOT / "tests/conformance/golden_tasks.json").read_text())
METHODS, TASKS, DATASETS, FAMILIES = (
    set(registry.names(kind)) for kind in ("method", "task", "dataset", "family")
)
AXES = {"images", "views_seen", "epochs", "effective_epochs", "flops", "mask_ratio"}
IMAGES = {"paper": 50_000, "mini": 5_000}  # no more than what any row trains on
IMPORT_SECONDS = 0.3

Cell = tuple[str, ...]  # the fields of a line of the CSV

each_paper = pytest.mark.parametrize("name", PAPERS)
at_both_scales = pytest.mark.parametrize("scale", SCALES)


def paper(name: str) -> type[Paper]:
    return registry.load("table", name)


def rows(name: str) -> list[tuple[Table, Row]]:
    return [(table, row) for table in paper(name).tables for row in table.rows]


def trained(name: str, scale: Scale) -> list[str]:
    """The different training specs of a paper."""
    return sorted({row.model(scale)[0] for _, row in rows(name)} - {""})


def scores(name: str) -> Iterator[tuple[Table, Score]]:
    for table in paper(name).tables:
        for column in table.columns:
            measures = column.measure if isinstance(column.measure, tuple) else (column.measure,)
            yield from ((table, found) for found in measures if isinstance(found, Score))


def evaluated(name: str, scale: Scale) -> list[tuple[str, str]]:
    """The different (task spec, metric) of a paper."""
    found = {(s.spec if scale == "paper" else s.mini, s.metric) for _, s in scores(name)}
    return sorted(pair for pair in found if pair[0])


def declared(name: str) -> Iterator[Cell]:
    """Every printed cell of a paper, as the CSV writes it."""
    source = paper(name).source
    for table, row in rows(name):
        model = (row.label, row.arch or table.arch, row.data or table.data)
        epochs = row.epochs or table.epochs
        for position, column in enumerate(table.columns):
            if value := row.published[position]:
                cell = (column.task, column.metric, value, row.note(position))
                yield (source, table.printed, *model, epochs, *cell)


def published() -> list[Cell]:
    with CSV.open(newline="") as file:
        return [tuple(line.values()) for line in csv.DictReader(file)]


def check_dataset(part: DatasetPart) -> None:
    if part.name in DATASETS:
        found = registry.load("dataset", part.name)
        options = dict(part.modifiers)
        assert options.keys() <= {*MODIFIERS, *found.modifiers}
        assert options.get("split", found.splits[0]) in found.splits


# Every published cell


def test_the_five_papers_are_there() -> None:
    assert set(PAPERS) >= SEEDS


def test_the_five_papers_publish_881_different_cells() -> None:
    sources = {paper(name).source for name in SEEDS}
    cells = [cell for cell in published() if cell[0] in sources]
    assert len(cells) == len(set(cells)) == 881


def test_each_published_cell_is_declared_once_and_nothing_else_is() -> None:
    found = Counter(cell for name in PAPERS for cell in declared(name))
    assert [cell for cell, times in found.items() if times > 1] == []
    assert sorted(set(published()) - found.keys()) == []
    assert sorted(found.keys() - set(published())) == []


@each_paper
def test_cells_of_a_paper_are_those_published(name: str) -> None:
    source = paper(name).source
    expected = [cell for cell in published() if cell[0] == source]
    assert expected
    assert sorted(declared(name)) == sorted(expected)


@each_paper
def test_lost_cells_are_uncertain(name: str) -> None:
    for cell in declared(name):
        assert cell[-2] != "?" or cell[-1].startswith("uncertain"), cell


@each_paper
def test_uncertain_cells_are_kept_out_of_checks(name: str, result: Callable[..., Result]) -> None:
    """With everything measured, and far off, what does not differ is uncertain."""
    for table in paper(name).tables:
        notes = [row.note(at) for row in table.rows for at in range(len(table.columns))]
        if not any(note.startswith("uncertain") for note in notes):
            continue
        found = [
            result(
                row.train,
                0.001,
                spec=str(parse(score.spec)),
                headline=score.metric,
                pretrain={"spec": canonical(row.train), "images": None},
            )
            for row in table.rows
            for whose, score in scores(name)
            if row.train and whose is table
        ]
        for row, cell in tables.fill(name, table, "paper", found).cells():
            if cell.note.startswith("uncertain"):
                assert cell.verdict not in {"agrees", "differs"}, (table.key, row.label)
            elif cell.ours and cell.printed and not cell.reasons:
                assert cell.verdict in {"agrees", "differs"}, (table.key, row.label)


# What a paper's file must look like


@each_paper
def test_tables_and_columns_have_names_of_their_own(name: str) -> None:
    keys = [table.key for table in paper(name).tables]
    assert len(set(keys)) == len(keys)
    for table in paper(name).tables:
        assert paper(name).table(table.key) is table
        names = [column.name for column in table.columns]
        assert len(set(names)) == len(names), table.key


@each_paper
def test_rows_have_a_cell_a_column_and_one_kind_of_model(name: str) -> None:
    for table, row in rows(name):
        place = f"{name}/{table.key} {row.label}"
        assert len(row.published) == len(table.columns), place
        assert sum(map(bool, (row.train, row.source, row.cited))) == 1, place
        assert not (row.cited and (row.mini or row.mini_source)), place
        assert not (row.mini and row.mini_source), place
        assert all(-1 <= position < len(table.columns) for position in row.notes), place


@each_paper
def test_figures_have_an_axis_and_no_printed_cells(name: str) -> None:
    for table in paper(name).tables:
        placed = all(row.x is not None for row in table.rows)
        assert table.axis in {"", *AXES} or placed, "records do not know this axis: give each x"
        printed = any(cell for row in table.rows for cell in row.published)
        assert bool(table.axis) != printed, table.key


@each_paper
def test_measures_name_rows_and_columns_that_are_there(name: str) -> None:
    for table in paper(name).tables:
        labels = {row.label for row in table.rows}
        for column in table.columns:
            if isinstance(column.measure, FlopsRatio | Gain):
                assert column.measure.row in labels, (table.key, column.name)
            if isinstance(column.measure, Gain):
                assert set(column.measure.columns) <= {c.name for c in table.columns}, table.key
            assert column.tolerance is None or column.tolerance > 0


# What it asks for exists


@at_both_scales
@each_paper
def test_models_can_be_built(name: str, scale: Scale, monkeypatch: pytest.MonkeyPatch) -> None:
    """Presets, options, architectures and sizes fit, as far as the methods are there."""
    # Weights on the meta device have no values, and pretending to draw them is what takes long.
    monkeypatch.setattr("timm.layers.weight_init._trunc_normal_", lambda tensor, *_: tensor)
    built = set()  # recipes of models that differ in their data only
    for text in trained(name, scale):
        spec = parse(text)
        for part in spec.dataset:
            check_dataset(part)
        if spec.name in METHODS:
            method, recipe = resolve(spec)
            if (spec.name, recipe) not in built:
                built.add((spec.name, recipe))
                with torch.device("meta"):
                    method(Plan.of(recipe, IMAGES[scale]))


@at_both_scales
@each_paper
def test_sources_name_a_family(name: str, scale: Scale) -> None:
    for _, row in rows(name):
        if source := row.model(scale)[1]:
            assert source.partition(":")[0] in FAMILIES, source


@at_both_scales
@each_paper
def test_tasks_take_their_options_and_report_the_metric(name: str, scale: Scale) -> None:
    for text, metric in evaluated(name, scale):
        spec = parse(text)
        assert spec.dataset, text
        for part in spec.dataset:
            check_dataset(part)
        if spec.name in TASKS:
            bind(registry.load("task", spec.name), dict(spec.options))
            known = {*GOLDENS[spec.name]["metrics"], *MORE_METRICS.get(spec.name, ())}
            assert metric in known, text


@each_paper
def test_mini_scale_needs_the_mini_benchmark_only(name: str) -> None:
    texts = [*trained(name, "mini"), *(text for text, _ in evaluated(name, "mini"))]
    assert texts
    for part in (part for text in texts for part in parse(text).dataset):
        assert part.name.startswith("mini_"), part
    preset = MINI_PRESET.partition("=")[2]
    assert {dict(parse(text).options)["preset"] for text in trained(name, "mini")} == {preset}


def test_papers_load_at_once_and_without_torch() -> None:
    code = f"""
import sys, time
start = time.process_time()
from bench import registry
tables = [table for name in {PAPERS} for table in registry.load("table", name).tables]
print(len(tables), "torch" in sys.modules, time.process_time() - start)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tables, torch_loaded, seconds = done.stdout.split()
    assert int(tables) > len(PAPERS)
    assert torch_loaded == "False"
    assert float(seconds) < IMPORT_SECONDS
