"""How alike the patches of an image are to a model: one bar a model."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from bench.errors import SpecError
from bench.figure import Figure, Photos
from bench.progress import track
from bench.records import Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Page
    from torch import Tensor

    from bench.checkpoint import LoadedModel

BATCH = 32


@dataclass(frozen=True)
class Bar:
    """One model's similarity: the mean over images with its interval."""

    label: str
    source: str
    arch: str
    family: str
    patches: int  # of an image
    metric: Metric


@dataclass(frozen=True, kw_only=True)
class Similarity(Figure):
    """After Figure 1 of ASL: similar patches mean a representation of the image as a whole.

    Of an image with normed last-layer patch tokens ``z_1 .. z_n`` of length 1, the mean of
    ``z_i . z_j`` over all pairs ``i != j``. A bar is the mean over images, its interval the 95 %
    bootstrap over images: 1 when all patches of an image have one direction, about 0 when they are
    unrelated.
    """

    endings: ClassVar[tuple[str, ...]] = (".png", ".svg", ".csv")

    def draw(self, models: Sequence[str], photos: Photos, device: str) -> dict[str, bytes]:
        """The bars in the order of the models, and a table of them."""
        from bench.page import png, style, svg

        bars = self.bars(models, photos, device)
        with style():
            page = bar_chart(bars)
            return {
                ".png": png(page),
                ".svg": svg(page),
                ".csv": table(bars).encode(),
            }

    def bars(self, models: Sequence[str], photos: Photos, device: str) -> list[Bar]:
        """The similarity of each model."""
        from bench.checkpoint import load_model
        from bench.stats import bootstrap_metric

        found = []
        for source in models:
            model = load_model(source)
            values, patches = self.of_images(model, photos, device)
            metric = bootstrap_metric(values, lambda rows: float(rows.mean()), self.seed)
            record = model.record
            found.append(Bar(record.name, source, record.arch, record.family, patches, metric))
        names = [bar.label for bar in found]
        return [
            replace(bar, label=bar.source) if names.count(bar.label) > 1 else bar for bar in found
        ]

    def of_images(self, model: LoadedModel, photos: Photos, device: str) -> tuple[list[float], int]:
        """The similarity within each image, and how many patches an image has."""
        import torch

        backbone = model.backbone.to(device)
        _, pixels = photos.pixels(self.transform(backbone))
        values: list[float] = []
        with torch.inference_mode():
            for batch in track(torch.split(pixels, BATCH), label=f"similarity {model.record.name}"):
                images = backbone.input.normalise(batch.to(device))
                tokens = backbone.features(images, ["patch"])["patch"].flatten(1, 2)  # (b, n, d)
                values += token_similarity(tokens).tolist()
        return values, tokens.shape[1]


def token_similarity(tokens: Tensor) -> Tensor:
    """Mean cosine over all pairs of different tokens of an image; a zero token is like no other.

    ``sum_{i != j} z_i . z_j = |sum_i z_i|^2 - sum_i |z_i|^2`` needs no n x n matrix.

    Args:
        tokens: (b, n, d) with n > 1.

    Returns:
        (b,) float64.
    """
    from torch.nn.functional import normalize

    n = tokens.shape[1]
    if n < 2:
        raise SpecError("an image of a single patch has no pair of patches: raise size_px")
    z = normalize(tokens.double(), dim=-1)
    pairs = z.sum(1).square().sum(-1) - z.square().sum((1, 2))
    return pairs / (n * (n - 1))


def table(bars: Sequence[Bar]) -> str:
    """The bars as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = ("model", "source", "arch", "similarity", "low", "high", "images", "patches")
    writer.writerow(names)
    for bar in bars:
        m = bar.metric
        ends = ["" if end is None else repr(end) for end in (m.low, m.high)]
        writer.writerow([bar.label, bar.source, bar.arch, repr(m.value), *ends, m.n, bar.patches])
    return stream.getvalue()


def bar_chart(bars: Sequence[Bar]) -> Page:
    """Horizontal bars, so that long names stay legible; untrained networks are grey."""
    from matplotlib.figure import Figure as Page

    from bench.page import BLUE, GREY, PALE, plain

    page = Page(figsize=(6.2, 1.05 + 0.36 * len(bars)))
    page.set_layout_engine("constrained", w_pad=0.08, h_pad=0.06)
    axes = page.add_subplot()
    for place, bar in enumerate(bars):
        m, colour = bar.metric, PALE if bar.family == "random" else BLUE
        low, high = (m.value if end is None else end for end in (m.low, m.high))
        error = [[m.value - low], [high - m.value]]
        style = {"ecolor": "black", "elinewidth": 1.0, "capsize": 2.5}
        axes.barh(place, m.value, 0.66, color=colour, xerr=error, error_kw=style)
        axes.annotate(
            f"{m.value:.2f}",
            (max(high, 0), place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks(range(len(bars)), [plain(bar.label, 40) for bar in bars])
    axes.set_ylim(len(bars) - 0.45, -0.55)  # the first on top
    lows = [b.metric.value if b.metric.low is None else b.metric.low for b in bars]
    axes.set_xlim(min(0.0, *lows), 1.08)
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e4e6e8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_xlabel(
        "cosine similarity between the patches of an image\n"
        f"(mean and 95 % interval over {bars[0].metric.n} images)"
    )
    return page
