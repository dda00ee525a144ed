"""A reward version, from the registry into memory: verified, loaded, warmed up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from services.reward.scorer import RewardModel
from services.threads import use_threads
from vouch.errors import InvalidInput, VouchError
from vouch.storage.registry import Registry
from vouch.types.version import Version

if TYPE_CHECKING:
    import torch

    from vouch.models.networks.reward import RewardEnsemble


@dataclass(frozen=True)
class ServedReward:
    """A reward model that is ready to score."""

    version: Version
    model: RewardModel


def load_version(registry: Registry, digest: str) -> ServedReward:
    """Verify every file of the version, load it on one core, score one grey image.

    Raises NotFound, CorruptVersion (naming the file), InvalidInput when it is no reward model, or one that
    scores what is not finite.
    """
    use_threads(1)
    version = registry.get(digest)
    if version.kind != "reward":
        raise InvalidInput(f"{version.name} is a {version.kind}, not a reward model")
    return ServedReward(version, load_reward(registry.open(version.digest)))


def load_reward(folder: Path) -> RewardEnsemble:
    """The reward model in `folder`, warmed up. Raises InvalidInput for a folder that cannot score, saying why."""
    from vouch.models.networks.reward import RewardEnsemble

    try:
        model = RewardEnsemble.load(folder)
        _warm_up(model)
    except (VouchError, MemoryError):
        raise
    except Exception as error:  # json, safetensors, torch and transformers raise what they like
        raise InvalidInput(
            f"{folder} has a reward model that cannot be loaded ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}). Remedy: copy the folder once more, or train it again.",
            "NOT_A_REWARD_MODEL",
        ) from error
    return model


def _warm_up(model: RewardEnsemble) -> None:
    """The first call pays for lazy set-up; no client's request shall. Raises InvalidInput for scores or weights that
    are not finite."""
    grey = np.full((1, 64, 64, 3), 128, dtype=np.uint8)
    scores = model.score(grey, [model.vocabulary.labels[0]])
    values = [scores.overall, scores.std, *scores.criteria.values()]
    weights = (tensor for tensor in model.state_dict().values() if tensor.is_floating_point())
    if not all(np.isfinite(value).all() for value in values) or not all(map(_is_finite, weights)):
        raise InvalidInput(
            "The reward model scores with values that are not finite (NaN or infinity). Remedy: use the model as it "
            "was before its training diverged.",
            "NOT_FINITE",
        )


def _is_finite(tensor: torch.Tensor) -> bool:
    return bool(tensor.isfinite().all())
