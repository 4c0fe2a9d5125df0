"""One cell of a robot suite: every policy is trained, then every policy is rolled out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bench.disk import whole_file
from bench.episodes import check_suite, numbers_by_task
from bench.progress import say
from bench.records import Outcome
from bench.snapshot import Snapshot
from tasks.each_image import Kept
from tasks.robot.cloning.demonstrations import Demonstrations, demonstrations
from tasks.robot.cloning.encoder import FRAMES, Encoder
from tasks.robot.cloning.policy import build
from tasks.robot.cloning.rollouts import roll_out
from tasks.robot.cloning.training import FrameSamples, Samples, StateSamples, TokenSamples, train

if TYPE_CHECKING:
    from bench.checkpoint import LoadedModel
    from bench.task import TaskData
    from tasks.robot.cloning.task import CloningTask

Array = npt.NDArray[Any]
