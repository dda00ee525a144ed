"""What every method of alignment is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch

from training.alignment.chance import Chance as Chance


class Method(Protocol):
    """Made of a student, the rated images and the settings (`vouch.recipes.Alignment`). Raises FailedPrecondition when
    there is too little to learn from."""

    def loss(self, chance: Chance) -> torch.Tensor:
        """What one step costs; its gradient is the method's."""
        ...


@runtime_checkable
class Remembers(Protocol):
    """A method that keeps something from one step to the next, which a checkpoint has to hold."""

    def state(self) -> Mapping[str, Any]: ...

    def resume(self, state: Mapping[str, Any]) -> None: ...
