"""Where curves and pictures of a training go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Tracker(Protocol):
    """Where curves and pictures go (MLflow, or nowhere)."""

    def metrics(self, values: Mapping[str, float], step: int) -> None: ...

    def image(self, path: Path, step: int) -> None: ...


class NoTracker:
    """Keeps nothing."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        return None

    def image(self, path: Path, step: int) -> None:
        return None


@dataclass(frozen=True)
class PrefixedTracker:
    """A tracker whose curves begin with a name, so that those of two phases of a run do not mix."""

    tracker: Tracker
    name: str

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self.tracker.metrics({f"{self.name}_{key}": value for key, value in values.items()}, step)

    def image(self, path: Path, step: int) -> None:
        self.tracker.image(path, step)
