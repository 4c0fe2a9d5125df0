"""The page of the figure `rollout`: a strip for each episode, with the attention below."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Page
from PIL import Image as Pictures

from bench.figures._overlay import at_size
from bench.figures._sheet import HEAD, LINE, MARGIN, Sheet, fill, grey, lines, resized
from bench.page import GREY, plain

if TYPE_CHECKING:
    from bench.figures._sheet import Image
    from bench.figures.rollout import Film, Found, Frames, Scene

WIDTH, GAP = 9.6, 0.06  # inches: the page, between tiles
IN_A_LINE, AT_LEAST = 8, 6  # frames, and so many places
NAME, SAID, BAR, CAPTION = 0.2, 0.16, 0.07, 0.18  # heights: of text, and of the decisions
BELOW, APART = 0.16, 0.1  # heights under an episode, and above a task
GREEN, RED, PALE = "#009e73", "#d55e00", "#d5d9dd"
LETTERS = 14  # in an inch, of a protocol, which has few thin ones
EDGE = 0.03  # share of a frame's side that the border of a solved one takes
HEAT = 0.65  # share of the colour where the attention is highest
COLOURS = "inferno"


def rollout_page(found: Found) -> Page:
    """Task by task, episode by episode."""
    text = caption(found)
    above = HEAD + LINE * len(lines(text, WIDTH))
    blocks = [(scene, [Strip(film) for film in scene.films]) for scene in found.scenes]
    heights = [
        APART + NAME + said_height(scene) + sum(strip.height for strip in strips)
        for scene, strips in blocks
    ]
    page = Sheet(WIDTH, above + sum(heights))
    page.head(found.model.name, text)
    top = above
    for (scene, strips), height in zip(blocks, heights, strict=True):
        down = top + APART
        page.write(plain(scene.name), MARGIN, down, fontsize=10.5, fontweight="bold")
        down += NAME
        for line in said(scene):
            page.write(line, MARGIN, down, color=GREY)
            down += SAID
        down += BELOW / 2
        for strip in strips:
            strip.draw(page, scene, down)
            down += strip.height
        top += height
    return page.page


def said_height(scene: Scene) -> float:
    """Of what stands below a task's name."""
    return SAID * len(said(scene)) + BELOW / 2


class Strip:
    """One episode on the page."""

    def __init__(self, film: Film) -> None:
        self.film = film
        count = len(film.shown)
        self.columns = -(-count // -(-count // IN_A_LINE))  # lines are about as long
        self.wide = WIDTH - 2 * MARGIN
        self.tile = (self.wide + GAP) / max(self.columns, AT_LEAST) - GAP
        self.line = self.tile + CAPTION + (self.tile + GAP if film.looks else 0)
        self.again = SAID if film.changed else 0.0

    @property
    def height(self) -> float:
        """In inches."""
        rows = -(-len(self.film.shown) // self.columns)
        return NAME + self.again + BAR + GAP + rows * self.line + BELOW

    def draw(self, page: Sheet, scene: Scene, top: float) -> None:
        """The name, the decisions, and lines of frames, from there down."""
        film = self.film
        page.write(title(film), MARGIN, top, fontsize=8.5, fontweight="bold")
        page.write(result(film), WIDTH - MARGIN, top + 0.01, ha="right", color=GREY)
        top += NAME
        if film.changed:
            page.write(difference(scene, film), MARGIN, top, color=RED, fontweight="bold")
            top += SAID
        fill(page.panel(MARGIN, top, self.wide, BAR), timeline(film))
        top += BAR + GAP
        for place, frame in enumerate(film.shown):
            row, column = divmod(place, self.columns)
            left = MARGIN + column * (self.tile + GAP)
            self.draw_frame(page, place, frame, left, top + row * self.line)

    def draw_frame(self, page: Sheet, place: int, frame: int, left: float, top: float) -> None:
        """A frame over its number, and where the policy looks on it."""
        tile, film = self.tile, self.film
        photo = tile_of(film.frames[frame])
        fill(page.panel(left, top, tile, tile), framed(photo) if solved_at(film, frame) else photo)
        top += tile + 0.03
        page.write(f"decision {frame}" if frame else "start", left, top)
        if solved_at(film, frame):
            page.write("solved", left + tile, top, ha="right", color=GREEN, fontweight="bold")
        if film.looks is not None:
            top += CAPTION - 0.03
            heat = heat_of(film.looks.maps)[place]
            fill(page.panel(left, top, tile, tile), heated(photo, heat))


def solved_at(film: Film, frame: int) -> bool:
    """Whether the task is solved on a frame, in what is shown."""
    return frame > 0 and bool(film.replayed[frame - 1])


def title(film: Film) -> str:
    """What an episode is called."""
    kind = "success" if film.episode.success else "failure"
    return f"start {film.episode.start}: {kind}"


def result(film: Film) -> str:
    """What makes it a success or a failure, and how uneven its attention is."""
    solved = film.episode.solved
    first = f", first at {int(solved.argmax()) + 1}" if solved.any() else ""
    text = (
        f"solved after {int(solved.sum())} of {len(solved)} decisions{first}; "
        f"{film.episode.needed} needed"
    )
    if film.looks is not None:
        text += f"; attention up to {film.looks.maps.max() * film.looks.maps[0].size:.1f} x even"
    return text


def difference(scene: Scene, film: Film) -> str:
    """What the replay does not reproduce, and why that may be."""
    stored, now = (text.split(", ") for text in (scene.cell.simulator, scene.simulator))
    then = ", ".join(package for package in stored if package not in now)
    here = ", ".join(package for package in now if package not in stored)
    why = f"evaluated with {then}, shown with {here}" if then else "another driver or processor"
    count = len(film.changed)
    return plain(
        f"NOT AS STORED: solved or not differs after {count} decision{'s' * (count > 1)}, the "
        f"first is {film.changed[0]} ({why})",
        150,
    )


def said(scene: Scene) -> list[str]:
    """What was evaluated, how often the policy succeeds, and what there is none of."""
    good, count = sum(scene.successes), len(scene.successes)
    text = f"Policy {scene.policy} succeeds from {good} of {count} starts"
    if good in (0, count):
        text += f": there is no {'failure' if good else 'success'}"
    stored = scene.cell.result
    protocol = plain(f"{stored.task_spec}, seed {stored.identity.seed}", 1000)
    return [*textwrap.wrap(protocol, int((WIDTH - 2 * MARGIN) * LETTERS)), f"{text}."]


def caption(found: Found) -> str:
    """What is shown."""
    looks = [film.looks for scene in found.scenes for film in scene.films if film.looks]
    text = (
        "Rollouts of cloned policies: their stored actions, played again. Decisions in the bar and "
        "frames are green where the task is solved."
    )
    if looks:
        text += (
            " Below a frame: where the policy's attentive pooling looks, in the mean of its heads "
            f"over {looks[0].maps.shape[1]} x {looks[0].maps.shape[2]} patches, without the CLS "
            "token; grey is even attention or less, yellow the most in the strip, at least twice "
            "even."
        )
    return text


def tile_of(frame: Frames) -> Image:
    """A frame at the size at which it is drawn."""
    return at_size(Pictures.fromarray(frame))


def framed(photo: Image) -> Image:
    """A photo with a green border."""
    wide = max(1, round(EDGE * len(photo)))
    found = np.empty_like(photo)
    found[:] = to_rgb(GREEN)
    found[wide:-wide, wide:-wide] = photo[wide:-wide, wide:-wide]
    return found


def heat_of(maps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(n, h, w) in [0, 1] of maps that sum to one: what is above even attention.

    One is the most of all, at least twice even: what is nearly even is not to look as if it were a
    choice.
    """
    above = np.maximum(maps * maps[0].size - 1, 0)
    return np.asarray(above / max(above.max(), 1.0))


def heated(photo: Image, heat: npt.NDArray[np.float64]) -> Image:
    """A photo in grey under a map in [0, 1], each patch as large as it is."""
    values = resized(heat, photo.shape[:2])
    share = HEAT * np.sqrt(values)[..., None]
    colours = matplotlib.colormaps[COLOURS](0.3 + 0.7 * values)[..., :3]
    return np.asarray((1 - share) * grey(photo) + share * colours)


def timeline(film: Film) -> Image:
    """(1, T, 3) colours of the decisions."""
    return np.where(film.replayed[:, None], to_rgb(GREEN), to_rgb(PALE))[None]
