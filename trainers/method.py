"""Method: what one pre-training method is to the training loop."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, final

import numpy as np
from PIL import Image
from torch import Tensor, nn

from bench.network import Network
from trainers.blocks.views import Batch, View, ViewSpec, cut_views
from trainers.recipe import Plan, Recipe


class Method(nn.Module, ABC):
    """One pre-training method, composed from ``trainers.blocks``.

    A subclass is a file in ``trainers/methods``; the file's name is the method's name. It names its
    recipe dataclass, whose defaults are the paper's constants, and the presets that change several
    of them at once.

    Args:
        plan: the recipe laid out over the training data; schedules are read from it.
    """

    recipe: ClassVar[type[Recipe]] = Recipe
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    eval_branch: ClassVar[Literal["student", "teacher"]] = "student"
    pos_interp: ClassVar[Literal["dino", "size"]] = "size"

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    @abstractmethod
    def view_specs(self) -> tuple[ViewSpec, ...]:
        """The views of an image, in the order in which ``losses`` finds them."""

    @abstractmethod
    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The loss and its parts for a batch of normalised float views.

        Returns:
            ``loss``, the scalar to minimise, and anything else worth a line in the metrics file.
            Pure but for what ``after_step`` applies: it may run several times a step.
        """

    @abstractmethod
    def backbone(self) -> Network:
        """The network that is evaluated and saved: the teacher's or the student's encoder."""

    def arch_kwargs(self) -> dict[str, Any]:
        """What ``build_network`` needs beside the recipe's ``arch`` to build the backbone again."""
        return {}

    def extras(self) -> dict[str, Any]:
        """What the checkpoint's card says beyond the backbone, such as where prototypes are."""
        return {}

    @final
    def views(self, image: Image.Image, rng: np.random.Generator) -> list[View]:
        """The views of one image, as the loader cuts them: what ``view_specs`` says."""
        return cut_views(image, self.view_specs(), rng)

    def frozen(self, step: int) -> Iterable[nn.Parameter]:
        """Parameters that this step leaves alone: their gradients are cancelled after clipping."""
        return ()

    def after_step(self, step: int) -> None:
        """Runs once after the optimiser's step: teachers and centres move here."""

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """``losses``, by the name under which a distributed wrapper calls it."""
        return self.losses(batch, step)
