"""What a robot does with a frozen encoder: a success and a failure, frame by frame."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench import registry
from bench.errors import SpecError
from bench.figure import Figure, Photos
from bench.progress import track
from bench.records import ModelRecord

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.figures._rollout_cells import Cell, Episode

Frames = npt.NDArray[np.uint8]
WORKERS = 2  # processes that play; one is watched over as well, as drivers hang


@dataclass(frozen=True, eq=False)
class Looks:
    """Where the attentive pooling of a policy looks, in the mean of its heads.

    Attributes:
        maps: (n, h, w) over the patches; each sums to one.
        on_cls: (n,) the share of all that went to the CLS token, which the maps leave out.
    """

    maps: npt.NDArray[np.float64]
    on_cls: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Film:
    """One rollout, played again.

    Attributes:
        episode: what was stored.
        frames: (T + 1, px, px, 3) before, between and after its T actions.
        replayed: (T,) whether the task was solved after each, this time.
        shown: the frames of the strip.
        looks: of them; None where the policy has no attentive pooling.
    """

    episode: Episode
    frames: Frames
    replayed: npt.NDArray[np.bool_]
    shown: list[int]
    looks: Looks | None

    @property
    def changed(self) -> list[int]:
        """The decisions, from 1, after which the task is solved in one of both only."""
        found: list[int] = (1 + np.flatnonzero(self.episode.solved != self.replayed)).tolist()
        return found


@dataclass(frozen=True, eq=False)
class Scene:
    """One task of a robot.

    Attributes:
        name: of the task.
        cell: that holds its rollouts.
        policy: its number.
        successes: whether each of its rollouts was one.
        films: those that are drawn.
        simulator: the versions of the packages that simulated now.
    """

    name: str
    cell: Cell
    policy: int
    successes: list[bool]
    films: list[Film]
    simulator: str


@dataclass(frozen=True, eq=False)
class Found:
    """What is drawn of one model."""

    model: ModelRecord
    scenes: list[Scene]


@dataclass(frozen=True, kw_only=True)
class Rollout(Figure):
    """Strips of frames of a success and of a failure, and both as a video.

    The stored actions of an evaluated policy are played again under its own rules; nothing is
    trained, and the policy is not asked. Below each frame lies where the attentive pooling looks.
    What does not come out as it was stored is said: contacts amplify what another simulator or
    driver rounds in another way.

    Attributes:
        images: frames of each strip, evenly spaced.
        size_px: none but 0, for frames are those that the policy saw.
        seed: of the evaluation.
        results: folder of the stored results.
        cell: first digits of the identity, where several evaluations will do.
        policy: which of those that were trained for a task.
        starts: numbers of the rollouts to draw; by default the first success and the first failure.
    """

    endings: ClassVar[tuple[str, ...]] = (".png", ".gif", ".json")
    mini: ClassVar[str] = "franka_kitchen[tasks=light_on]"
    any_image: ClassVar[bool] = False
    least: ClassVar[Mapping[str, int]] = {**Figure.least, "policy": 0}

    images: int = 8
    results: str = "results"
    cell: str = ""
    policy: int = 0
    starts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size_px:
            raise SpecError(
                f"size_px={self.size_px}: frames are those that the policy saw, leave it out"
            )

    def draw(self, models: Sequence[str], photos: Photos, device: str) -> dict[str, bytes]:
        """The strips, the video, and the numbers of what one model's policies did."""
        from bench.checkpoint import load_model
        from bench.figures._rollout_gif import animation
        from bench.figures._rollout_page import rollout_page
        from bench.page import png, style

        if len(models) > 1:
            raise SpecError(
                f"rollout draws one model, found {', '.join(models)}: leave out the others, and "
                "correct the names of what should be data sets"
            )
        found = self.look(load_model(models[0]), photos, device)
        with style():
            page = png(rollout_page(found))
        return {".png": page, ".gif": animation(found), ".json": self.numbers(found).encode()}

    def look(self, model: LoadedModel, photos: Photos, device: str) -> Found:
        """The chosen rollouts of every task among the images, played again.

        Raises:
            SpecError: they are not stored, or an image belongs to no robot.
            DataError: this machine cannot draw them.
        """
        from bench.figures._rollout_cells import Wanted, cells_of, chosen, episodes_of, tasks_among

        wanted = Wanted(tasks_among(photos), self.seed, self.cell)
        scenes = []
        for name, cell in cells_of(model, wanted, self.results):
            episodes = episodes_of(cell, name, self.policy)
            successes = [episode.success for episode in episodes]
            films = self.films(model, name, cell, chosen(episodes, self.starts), device)
            versions = registry.attribute("tasks.robot.simulators.simulator:versions_of")
            simulator = versions(cell.protocol.suite)
            scenes.append(Scene(name, cell, self.policy, successes, films, simulator))
        return Found(model.record, scenes)

    def films(
        self, model: LoadedModel, name: str, cell: Cell, episodes: Sequence[Episode], device: str
    ) -> list[Film]:
        """The rollouts of one task, played again, with the attention on the frames of the strip."""
        from bench.figures._rollout_attention import looks_of

        replays = registry.attribute("tasks.robot.cloning.rollouts:replays")
        crew_of = registry.attribute("tasks.robot.cloning.crew:Crew")
        asked = [(episode.seed, episode.actions) for episode in episodes]
        queries, found = cell.queries(name, self.policy), []
        with crew_of(cell.protocol.rules(name), "frame", min(WORKERS, len(asked))) as crew:
            played = track(replays(crew, asked), label=f"replay {name}", total=len(asked))
            for episode, (frames, solved) in zip(episodes, played, strict=True):
                count = min(self.images, len(frames))
                places = np.linspace(0, len(frames) - 1, count) if count > 1 else np.zeros(1)
                shown = places.round().astype(int).tolist()
                looks = None
                if queries is not None:
                    looks = looks_of(model, cell, queries, frames[shown], device)
                found.append(Film(episode, frames, solved, shown, looks))
        return found

    def numbers(self, found: Found) -> str:
        """What the picture shows, and the decisions of every rollout in it, as JSON."""
        values: dict[str, Any] = {
            "figure": "rollout",
            "options": asdict(self),
            "model": found.model.to_dict(),
            "tasks": [
                {
                    "task": scene.name,
                    "cell": scene.cell.result.identity.digest,
                    "protocol": scene.cell.result.task_spec,
                    "simulator_stored": scene.cell.simulator,
                    "simulator_now": scene.simulator,
                    "policy": scene.policy,
                    "successes": sum(scene.successes),
                    "rollouts": len(scene.successes),
                    "episodes": [described(film) for film in scene.films],
                }
                for scene in found.scenes
            ],
        }
        return json.dumps(values) + "\n"


def described(film: Film) -> dict[str, Any]:
    """The numbers of one rollout, and its maps of attention to six digits."""
    episode, looks = film.episode, film.looks
    frames: list[dict[str, Any]] = [{"decision": number} for number in film.shown]
    if looks is not None:
        for frame, on_cls, values in zip(frames, looks.on_cls, looks.maps.tolist(), strict=True):
            frame["attention_on_cls"] = float(on_cls)
            frame["attention"] = [[float(f"{v:.6g}") for v in row] for row in values]
    return {
        "start": episode.start,
        "seed": episode.seed,
        "success": episode.success,
        "needed": episode.needed,
        "decisions": len(episode.solved),
        "solved": (1 + np.flatnonzero(episode.solved)).tolist(),
        "reproduced": not film.changed,
        "changed": film.changed,
        "frames": frames,
    }
