"""What a model takes for alike: images with their nearest training images, right and wrong."""

from __future__ import annotations

import csv
import io
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from bench import registry
from bench.errors import SpecError
from bench.figure import Figure, Photos
from bench.figures._gallery import (
    Found,
    Gallery,
    Neighbour,
    Query,
    channels_last,
    forward,
    is_same,
    of_queries,
    of_split,
)

if TYPE_CHECKING:
    from torch import Tensor

    from bench.checkpoint import LoadedModel
    from bench.photos import Photo


@dataclass(frozen=True, kw_only=True)
class Neighbours(Figure):
    """Rows of images, each with its nearest training images by cosine and whether their vote holds.

    Features, neighbours, ties and vote are those of the task `knn` with the same `k`: images are
    seen with the crop of the model's own evaluation input. Neighbours are the training images of
    the data set that is looked at, those with a label where any has one; image files and folders
    have no label, and are compared with each other unless `gallery` names a data set. An image is
    not its own neighbour. The numbers are of all images looked at, drawn or not; those drawn are
    the first of each class in turn.

    Attributes:
        k: neighbours that vote; the nearest 16 of them are drawn.
        rows: images drawn.
        right: share of the rows for images whose vote is right, as far as there are such.
        token: `auto` is `cls` where the model has a CLS token and `avg` where it has none.
        temperature: of the weight of a vote, exp(cosine / temperature).
        gallery: data set whose training images are the neighbours.
    """

    endings: ClassVar[tuple[str, ...]] = (".png", ".csv")
    least = {**Figure.least, "k": 1, "rows": 1}

    k: int = 8
    rows: int = 8
    right: float = 0.5
    token: Literal["auto", "cls", "avg", "avg_fcnorm"] = "auto"
    temperature: float = 0.07
    gallery: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.right <= 1:
            raise SpecError(f"right={self.right}: expected a share from 0 to 1")
        if not self.temperature > 0:
            raise SpecError(f"temperature={self.temperature}: expected more than 0, such as 0.07")

    def draw(self, models: Sequence[str], photos: Photos, device: str) -> dict[str, bytes]:
        """The rows of one model, and a table of all its queries and their neighbours."""
        from bench.checkpoint import load_model
        from bench.figures._neighbours_page import neighbours_page
        from bench.page import png, style

        if len(models) > 1:
            raise SpecError(
                f"neighbours draws one model, found {', '.join(models)}: leave out the others, and "
                "correct the paths of what should be images"
            )
        found = self.look(load_model(models[0]), photos, device)
        drawn = chosen(found.queries, self.rows, self.right)
        with style():
            page = neighbours_page(found, drawn, self.k)
            return {".png": png(page), ".csv": table(found.queries, drawn).encode()}

    def look(self, model: LoadedModel, photos: Photos, device: str) -> Found:
        """The neighbours of all images and their votes."""
        backbone = model.backbone.to(device)
        token = ("cls" if backbone.has_cls else "avg") if self.token == "auto" else self.token
        whole = self.transform(backbone)
        transform = replace(whole, spec=replace(whole.spec, crop_pct=backbone.input.crop_pct))
        split = photos.train(self.gallery)
        seen, pixels = photos.read(transform)
        asked = forward(model, pixels, token, device)
        with tempfile.TemporaryDirectory() as folder:
            if split is None:
                gallery = of_queries(seen, pixels, asked)
            else:
                place = Path(folder)
                gallery = of_split(model, split, transform, token, device, photos.skip_bad, place)
            queries = self.queries(seen, pixels, asked, gallery, device)
        return Found(model.record, token, gallery, tuple(queries))

    def queries(
        self,
        seen: Sequence[Photo],
        pixels: Tensor,
        asked: npt.NDArray[Any],
        gallery: Gallery,
        device: str,
    ) -> list[Query]:
        """Each image with its `k` neighbours."""
        nearest = registry.attribute("tasks.neighbours:nearest")
        more = min(self.k + 1, len(gallery.ids))  # one may be the query itself
        found: list[Query] = []
        for _, cosines, rows in nearest(asked, gallery.features, more, device):
            for cosine, index in zip(cosines.tolist(), rows.tolist(), strict=True):
                place = len(found)
                own = channels_last(pixels[place])
                query = Query(seen[place].name, seen[place].label, own, ())
                pairs = [
                    (value, row)
                    for value, row in zip(cosine, index, strict=True)
                    if not is_same(query, place, gallery, row)
                ]
                found.append(self.voted(query, pairs[: self.k], gallery))
        return found

    def voted(self, query: Query, pairs: list[tuple[float, int]], gallery: Gallery) -> Query:
        """The query with its neighbours and their vote, where all of them have a class."""
        import torch

        targets = gallery.targets[[row for _, row in pairs]] if pairs else np.array([-1])
        names = [gallery.words[target] if target >= 0 else "" for target in targets.tolist()]
        neighbours = tuple(
            Neighbour(gallery.ids[row], name, value, row)
            for (value, row), name in zip(pairs, names, strict=False)
        )
        if (targets < 0).any():
            return replace(query, neighbours=neighbours)
        vote, k = registry.attribute("tasks.image.knn:vote"), len(pairs)
        cosine = torch.tensor([[value for value, _ in pairs]])  # (1, k)
        scores = vote(cosine, targets[None], len(gallery.words), [k], self.temperature)[k]
        voted = str(gallery.words[int(scores[0].argmax())])
        right = voted == query.label if query.label in gallery.words else None
        return replace(query, neighbours=neighbours, voted=voted, right=right)


def chosen(queries: Sequence[Query], rows: int, share: float) -> list[Query]:
    """The queries drawn: those without verdict, then `share` of the rest right, the others wrong.

    Where there are too few of one kind the other fills the rows.
    """
    kinds = {kind: varied([q for q in queries if q.right is kind]) for kind in (None, True, False)}
    open_, right, wrong = kinds[None][:rows], kinds[True], kinds[False]
    room = rows - len(open_)
    many = min(len(right), max(round(room * share), room - len(wrong)))
    return [*open_, *right[:many], *wrong[: room - many]]


def varied(queries: Sequence[Query]) -> list[Query]:
    """The first of each class, then the second of each, and so on."""
    seen: Counter[str] = Counter()
    turns = []
    for query in queries:
        turns.append(seen[query.label] if query.label else 0)
        seen[query.label] += 1
    return [queries[i] for i in sorted(range(len(queries)), key=lambda i: (turns[i], i))]


def table(queries: Sequence[Query], drawn: Sequence[Query]) -> str:
    """A line for each neighbour of each query as CSV; `row` says where a query is drawn."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = ("query", "class", "voted", "right", "row")
    writer.writerow([*head, "rank", "neighbour", "neighbour_class", "same_class", "cosine"])
    rows = {id(query): row for row, query in enumerate(drawn, 1)}
    for q in queries:
        first = [q.name, q.label, q.voted, truth(q.right), rows.get(id(q), "")]
        for rank, n in enumerate(q.neighbours, 1):
            same = truth(n.label == q.label if n.label and q.right is not None else None)
            writer.writerow([*first, rank, n.name, n.label, same, f"{n.cosine:.6f}"])
        if not q.neighbours:
            writer.writerow([*first, "", "", "", "", ""])
    return stream.getvalue()


def truth(value: bool | None) -> str:
    """`true`, `false`, or nothing where it is unknown."""
    return "" if value is None else str(value).lower()
