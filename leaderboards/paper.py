"""What papers' tables are made of: rows that are models, columns that are tasks, printed cells.

One file in `leaderboards/papers/` declares all tables and curve figures of one paper; nothing here
trains, evaluates or reads results (`leaderboards.tables` does).
"""

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from bench.errors import SpecError, nearest

Scale = Literal["paper", "mini"]
SCALES: tuple[Scale, ...] = ("paper", "mini")

#: The recipe of every row at the mini scale: `mini("slotmim", "prototypes=32")`.
MINI_PRESET = "preset=small:mini"
#: Fine-tuning in few steps on few small images: without the papers' strong augmentation.
MINI_TUNING = (
    "lr=0.001&lr_per=0&warmup_epochs=1.0&auto_augment=off&mixup=0.0&cutmix=0.0&reprob=0.0&repeats=1"
)


@dataclass(frozen=True)
class Score:
    """One metric of one task, at both scales.

    Attributes:
        spec: the task as the paper ran it, `TASK@DATASET?key=value`.
        metric: its name among the task's metrics.
        mini: the same on the mini benchmark; empty where it has nothing alike.
    """

    spec: str
    metric: str
    mini: str = ""


@dataclass(frozen=True)
class FlopsRatio:
    """Pre-training FLOPs (`per="run"`) or FLOPs of an image (`per="image"`), over a row's.

    `inverse` gives the row's over one's own: a speed-up.
    """

    row: str
    per: Literal["run", "image"] = "image"
    inverse: bool = False


@dataclass(frozen=True)
class Gain:
    """Mean relative improvement in percent over another row, over other columns of the table."""

    row: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Parameters:
    """Millions of parameters of the evaluated network."""


Measure = Score | tuple[Score, ...] | FlopsRatio | Gain | Parameters | None


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of printed numbers, and what measures the same here.

    Attributes:
        task: what the table says it evaluates.
        metric: the metric in its words.
        measure: one score, several whose mean is the cell, or what is computed from records and
            other columns. None where nothing here is meant to make these numbers, as a count of
            images.
        differs: why a number made here is never comparable with the printed one, as "label set:
            the paper's 11 classes are not named"; empty where it is.
        tolerance: what `--check` allows between ours and theirs, in printed units; None takes the
            command's.
        scale: what turns a stored metric into the printed unit; None multiplies rates by 100.
    """

    task: str
    metric: str
    measure: Measure = None
    differs: str = ""
    tolerance: float | None = None
    scale: float | None = None

    @property
    def name(self) -> str:
        """Task and metric, which tell the columns of a table apart."""
        return f"{self.task} {self.metric}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table: a model, and what the paper printed for it.

    Attributes:
        label: the line's name in the table.
        published: the printed cells in the order of the columns, as printed; "" where the table has
            none.
        train: how the model is pre-trained at paper scale, `METHOD@DATASET?key=value`; empty for a
            model that is only cited, and for one that is there to be downloaded (`source`).
        mini: the same at mini scale.
        source: a model that needs no training: `random:ARCH?seed=0`, `timm:NAME`.
        mini_source: the same at mini scale.
        cited: why the row is only cited, as "CAE: never trained here"; empty for others. Exactly
            one of `train`, `source` and `cited` is given.
        arch: architecture as printed; "" takes the table's, as in the next two.
        data: pre-training data as printed.
        epochs: length of pre-training as printed.
        x: the point on the axis of a curve figure, in its unit.
        notes: what is to be said of a cell, by its position; `ALL` for all of the row. A note that
            starts with "uncertain" keeps the cell out of checks.
        differs: why the row's model is not the paper's even when trained with this recipe.
    """

    label: str
    published: tuple[str, ...] = ()
    train: str = ""
    mini: str = ""
    source: str = ""
    mini_source: str = ""
    cited: str = ""
    arch: str = ""
    data: str = ""
    epochs: str = ""
    x: float | None = None
    notes: Mapping[int, str] = field(default_factory=dict)
    differs: str = ""

    def note(self, position: int) -> str:
        """What is to be said of the cell at this position; empty when nothing."""
        return self.notes.get(position, self.notes.get(ALL, ""))

    def model(self, scale: Scale) -> tuple[str, str]:
        """(`train`, `source`) at a scale; both empty where the row has no model there."""
        return (self.train, self.source) if scale == "paper" else (self.mini, self.mini_source)


ALL = -1  # the key of `Row.notes` for the whole row


@dataclass(frozen=True, kw_only=True)
class Table:
    """One numeric table, or one curve figure (then `axis` says what its points lie on).

    Attributes:
        key: what the command calls it: "4", "2a", "fig5".
        printed: what the paper calls it: "Table 4".
        title: what it shows.
        columns: what is measured.
        rows: the models, in the printed order.
        arch: of all rows that do not say otherwise, as printed; likewise the next two.
        data: pre-training data.
        epochs: length of pre-training.
        axis: of a figure: `images`, `views_seen`, `epochs`, `effective_epochs` or `flops`, or an
            option of the training such as `mask_ratio`.
        note: what holds for the whole table.
    """

    key: str
    printed: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    arch: str = ""
    data: str = ""
    epochs: str = ""
    axis: str = ""
    note: str = ""


class Paper(ABC):
    """All tables of one paper; a subclass lives in `leaderboards/papers/NAME.py`.

    Attributes:
        title: authors, title, year.
        source: the paper's key in the table of published cells.
        tables: tables in the order of the paper, then curve figures.
    """

    title: ClassVar[str]
    source: ClassVar[str]
    tables: ClassVar[tuple[Table, ...]]

    @classmethod
    def table(cls, key: str) -> Table:
        """The table called `key`; SpecError with the nearest name if there is none."""
        for table in cls.tables:
            if table.key == key:
                return table
        raise SpecError(f"no table {key!r}; {nearest(key, [table.key for table in cls.tables])}")


def mini(method: str, options: str = "", data: str = "mini_scenes") -> str:
    """The training spec of a method at mini scale, with the row's own switches behind."""
    return f"{method}@{data}?{MINI_PRESET}" + (f"&{options}" if options else "")


def cells(line: str) -> tuple[str, ...]:
    """The printed cells of a line; "-" is an empty one."""
    return tuple("" if cell == "-" else cell for cell in line.split())
