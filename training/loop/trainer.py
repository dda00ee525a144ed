"""What one kind of training adds to the training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from training.loop.progress import Metric
from training.loop.session import TrainingSession


class Trainer(ABC):
    """Networks, their optimiser, and one step. A subclass names in `parts` its attributes that a later step depends on,
    each with `state_dict` and `load_state_dict`: it is then resumed to the same weights."""

    parts: ClassVar[tuple[str, ...]] = ()
    optimizer: torch.optim.Optimizer
    parameters: Sequence[torch.nn.Parameter]
    """The weights that are trained; every worker begins with those of rank zero."""

    @abstractmethod
    def step(self, step: int, done: float) -> Mapping[str, Metric]:
        """One update; returns its metrics. Its random numbers depend on the seed, the rank and the step alone.

        Args:
            step: from 1.
            done: share of the budget that was used up before it, in [0, 1).
        """

    def rate(self, done: float, step: int) -> float:
        """What the learning rate of each parameter group is multiplied with at this step; here 1."""
        del done, step
        return 1.0

    def after_step(self, step: int, session: TrainingSession) -> bool:
        """Rank zero validates here, and returns whether the training ends now. It is asked after every step, and of a
        training that begins or is resumed for the step that it begins from: the same step may come twice."""
        del step, session
        return False

    def finish(self, step: int, session: TrainingSession) -> None:
        """Rank zero does what is to be done once after the last step. The same step may come twice."""
        del step, session

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).state_dict() for name in self.parts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self.parts:
            getattr(self, name).load_state_dict(state[name])
