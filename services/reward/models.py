"""A reward version, from the registry into memory: verified, loaded, warmed up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.reward.scorer import RewardModel
from services.threads import use_threads
from vouch.errors import InvalidInput
from vouch.records import Version
from vouch.registry import Registry


@dataclass(frozen=True)
class ServedReward:
    """A reward model that is ready to score."""

    version: Version
    model: RewardModel


def load_version(registry: Registry, digest: str) -> ServedReward:
    """Verify every file of the version, load it on one core, score one grey image.

    Raises NotFound, CorruptVersion (naming the file), InvalidInput when it is no reward model.
    """
    from vouch.networks.reward import RewardEnsemble

    use_threads(1)
    version = registry.get(digest)
    if version.kind != "reward":
        raise InvalidInput(f"{version.name} is a {version.kind}, not a reward model")
    model = RewardEnsemble.load(registry.open(version.digest))
    _warm_up(model)
    return ServedReward(version, model)


def _warm_up(model: RewardModel) -> None:
    """The first call pays for lazy set-up; no client's request shall. A prompt it never learned does as well."""
    grey = np.full((1, 64, 64, 3), 128, dtype=np.uint8)
    try:
        model.score(grey, ["neutrophil"])
    except InvalidInput:
        return
