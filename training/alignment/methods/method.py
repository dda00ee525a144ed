"""What every method of alignment is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch

from training.alignment.step_rng import StepRng


@runtime_checkable
class Stateful(Protocol):
    """What a checkpoint holds."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> Any: ...


class Method(ABC):
    """Made of a student, the rated images and the settings (`vouch.recipes.Alignment`). Raises FailedPrecondition when
    there is too little to learn from.

    A method is resumed with its run: the state of every attribute that has one is in the checkpoint. All else that a
    step depends on comes from the student, the settings and the step's own random numbers.
    """

    @abstractmethod
    def loss(self, rng: StepRng) -> torch.Tensor:
        """The loss of one step, a scalar with gradients to `Student.trained`."""

    def state_dict(self) -> dict[str, Any]:
        return {name: part.state_dict() for name, part in self._stateful().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, part in self._stateful().items():
            part.load_state_dict(state[name])

    def _stateful(self) -> dict[str, Stateful]:
        return {name: part for name, part in vars(self).items() if isinstance(part, Stateful)}
