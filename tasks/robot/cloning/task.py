"""What the robot suites share: the protocol of behaviour cloning as fields, and the run."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from bench.errors import SpecError
from bench.records import Metric, Outcome
from bench.task import Task, TaskData, with_warnings
from tasks.robot.simulators.rules import Profile, Rules

if TYPE_CHECKING:
    from pathlib import Path

    from bench.checkpoint import LoadedModel
    from tasks.robot.cloning.demonstrations import Origin

PolicyKind = Literal["frozen", "end_to_end", "state"]
Pooling = Literal["map", "cls", "mean"]


@dataclass(frozen=True, kw_only=True)
class CloningTask(Task):
    """Success of policies that imitate demonstrations, on starts that these never showed.

    For each task of the suite and each of `policies` seeds, a policy is trained on one frame at a
    time, without proprioception; its last state is rolled out, never the best of several. All
    policies and all encoders meet the same starts. The encoder is frozen and its tokens are
    computed once. Two policies look past the encoder, as bounds: `end_to_end` learns a small
    convolutional network from the pixels, `state` is told the simulator's state.

    Every rollout's actions and solved decisions are stored. `value` is the share of the policies
    that succeed from a start.

    What surprises: absolute rates are not those of the papers, whose demonstrations, simulators and
    renderers are gone; ranks are the use. The two profiles of the renderer are two protocols.

    Attributes:
        policy: what a policy sees: the tokens of the `frozen` encoder, the pixels (`end_to_end`),
            or the simulator's `state`.
        pooling: of the tokens: attentive pooling as in Voltron's V-Cond (`map`), the CLS token, or
            the mean of the patches.
        heads: of the attentive pooling; none is twice those of the encoder.
        size_px: side at which the encoder sees a frame; none is the checkpoint's own.
        steps: of training.
        batch: decisions in a step.
        lr: of Adam.
        policies: trained from as many seeds, for each task.
        noise: standard deviation of what is added to an expert's action before it is executed; the
            clean action is the label.
        frame_px: side of a frame as it is drawn.
        profile: `fast` draws without shadows, reflections and antialiasing, `full` with them.
        camera: that every task is seen by; none is each task's own.
        horizon: steps of the simulator in an episode; none is each task's own.
        repeat: steps that an action is held for; none is each task's own.
        needed: solved decisions of a successful episode; none is each task's own.
    """

    version: ClassVar[int] = 1
    headline: ClassVar[str] = "success"
    suite: ClassVar[str]

    policy: PolicyKind = "frozen"
    pooling: Pooling = "map"
    heads: int | None = None
    size_px: int | None = None
    steps: int = 20_000
    batch: int = 128
    lr: float = 1e-4
    policies: int = 3
    noise: float = 0.05
    frame_px: int = 224
    profile: Profile = "fast"
    camera: str | None = None
    horizon: int | None = None
    repeat: int | None = None
    needed: int | None = None

    def __post_init__(self) -> None:
        counts = ("steps", "batch", "policies", "heads", "size_px")
        wrong = [
            *(
                ((value := getattr(self, name)) is not None and value < 1, f"{name}={value}: 1 up")
                for name in counts
            ),
            (not 0 < self.lr < 1, f"lr={self.lr:g}: expected in (0, 1)"),
            (not 0 <= self.noise <= 1, f"noise={self.noise:g}: expected in [0, 1]"),
        ]
        for is_wrong, why in wrong:
            if is_wrong:
                raise SpecError(f"{self.suite}: {why}")
        self._check_rules()

    def _check_rules(self) -> None:
        """SpecError where the fields fit none of the tasks, such as a horizon that is too short."""
        told: SpecError | None = None
        for task in self.known():
            try:
                self.rules(task)
                return
            except SpecError as error:
                told = told or error
        if told is not None:
            raise told

    @abstractmethod
    def known(self) -> tuple[str, ...]:
        """The tasks of the suite."""

    @abstractmethod
    def own_rules(self) -> dict[str, Any]:
        """What the suite's own fields say, as fields of `Rules`."""

    def start_seed(self, number: int) -> int:
        """The simulator's seed of a rollout."""
        from bench.episodes import seed_of

        return seed_of("val", number)

    def rules(self, task: str) -> Rules:
        """The rules of one task, with this task's fields in place of the literature's."""
        from tasks.robot.simulators.simulator import rules_of

        names = ("frame_px", "profile", "camera", "horizon", "repeat", "needed")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        return replace(rules_of(self.suite, task), **given, **self.own_rules())

    def origin(self, task: str, folder: Path | None = None) -> Origin:
        """What the demonstrations of a task are made from; `folder` has files of others'.

        Raises:
            DataError: it has no file of this task.
        """
        from tasks.robot.cloning.demonstrations import Origin
        from tasks.robot.cloning.recordings import recording_of

        rules = self.rules(task)
        return Origin(rules, self.noise, recording_of(folder, rules) if folder else None)

    def facts(self, data: TaskData) -> dict[str, str]:
        """Versions of the simulator, and what the demonstrations are made from."""
        import json

        from bench.episodes import check_suite, recordings_of
        from tasks.robot.simulators.simulator import versions_of

        split = data.open("train")
        names, folder = check_suite(self.suite, split), recordings_of(split)
        for name in names:
            self.rules(name)  # those that are not asked for need not fit
        found: dict[str, Any] = self.origin(names[0]).facts
        if folder:
            found = {name: self.origin(name, folder).facts for name in names}
        return {
            "simulator": versions_of(self.suite),
            "demonstrations": json.dumps(found, sort_keys=True),
        }

    def run(self, model: LoadedModel, data: TaskData) -> Outcome:
        """Trains every policy and rolls it out from every start; columns as `score` reads."""
        from tasks.robot.cloning.suite import SuiteRun

        outcome, warnings = SuiteRun(self, model, data).outcome()
        return with_warnings(outcome, warnings)

    def score(self, outcome: Outcome) -> dict[str, Metric]:
        """`success` over the suite, each task's own rate, and the spread of tasks and policies."""
        from tasks.robot.cloning.scoring import scores

        return scores(outcome)
