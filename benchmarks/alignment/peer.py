"""A trainer that others wrote as one more method: what it is told, and why it cannot run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.serving.environments import NoEnvironment, is_made, python_of
from benchmarks.serving.process import asked
from training.alignment.config import AlignConfig
from training.alignment.student import TARGETS

ENVIRONMENTS: Mapping[str, str] = {"trl ddpo": "trl"}
"""By method. Its program is `benchmarks.alignment.peers.on_ENVIRONMENT`."""


def why_not(method: str, make: bool) -> str:
    """A sentence when `method` cannot run here, "" when it can. make: make its environment if there is none."""
    environment = ENVIRONMENTS.get(method)
    if environment is None or is_made(environment):
        return ""
    if not make:
        return (
            f"{method} is left out: it needs an environment of its own, which --peers makes "
            "(some minutes the first time)."
        )
    try:
        python_of(environment)
    except NoEnvironment as error:
        return f"{method} is left out, its environment cannot be made: {error}"
    return ""


def align(
    method: str, base: Path, reward: Path, out: Path, seconds: float, seed: int, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Trains a LoRA into `out`; the figures of its training.

    Raises:
        RuntimeError: with what the trainer complained of.
    """
    environment = ENVIRONMENTS[method]
    told = options(base, reward, out, seconds, seed, settings)
    found: dict[str, Any] = asked(
        f"benchmarks.alignment.peers.on_{environment}", *told, python=python_of(environment)
    )
    return found


def options(
    base: Path, reward: Path, out: Path, seconds: float, seed: int, settings: Mapping[str, Any]
) -> Sequence[str]:
    """The same generator, reward, threads, and places and rank of the LoRA as by vouch's own recipe."""
    recipe = AlignConfig.model_fields
    given = {
        "--base": [base.resolve()],
        "--reward": [reward.resolve()],
        "--out": [out.resolve()],
        "--seconds": [seconds],
        "--seed": [seed],
        "--threads": [torch.get_num_threads()],
        "--rank": [recipe["rank"].default],
        "--targets": TARGETS,
        "--settings": [json.dumps(dict(settings))],
    }
    return [str(one) for name, values in given.items() for one in (name, *values)]
