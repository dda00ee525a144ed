"""How much is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vouch.recipes import DEFAULT_METHOD

PBC64 = Path("../shared/data/pbc64")
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "reward_gradient": {},
    # Baselines train for all of their seconds: validation would stop the first at step 0, and what was chosen by
    # the reward would not be without feedback.
    "reward_weighted": {
        "lr": 4e-4,
        "reward_weighted": {"beta": 0.3},
        "std_penalty": 0.0,
        "validation": {"every": 0},
    },
    "real": {"lr": 4e-4, "validation": {"every": 0}},
    "draft": {},
    "draft lv": {"draft": {"views": 2}},
    "draft short": {"draft": {"sample_steps": 6}},
    "draft diverse": {"draft": {"novelty": 1.0}},
    "nft": {"nft": {"beta": 0.5}, "anchor": 0.0},
    "nft rated": {"nft": {"beta": 0.5, "round_steps": 0}, "anchor": 0.0},
    "awm": {"anchor": 0.0},
    "kto": {"kto": {"beta": 500.0}},
    "dpo": {"dpo": {"beta": 500.0}},
    "ddpo": {"ddpo": {"sample_steps": 6, "gradient_steps": 3, "groups": 4}, "batch": 16, "anchor": 0.0},
    "trl ddpo": {
        "train_learning_rate": 1e-3,
        "train_clip_range": 1e-3,
        "train_timestep_fraction": 0.5,
        "train_batch_size": 16,
        "sample_num_steps": 6,
        "sample_batch_size": 16,
        "sample_num_batches_per_epoch": 2,
        "per_prompt_stat_tracking_buffer_size": 32,
        "per_prompt_stat_tracking_min_count": 8,
    },
}
"""What differs from the recipe's defaults, by method; the name's first word is the method. Of `PEER`: from those of
its own DDPOConfig."""
GUIDED = {"scale": 20.0, "std_penalty": 1.0}
"""Of ensemble guidance."""
DEFAULT = DEFAULT_METHOD
PEER = "trl ddpo"
"""Trained by the trainer that users know, in an environment of its own."""


@dataclass(frozen=True)
class DrawingOptions:
    """How images are drawn: steps, scale of guidance, and the shares of the steps between which it counts. None: as the
    generator is served."""

    steps: int | None = None
    guidance: float | None = None
    start: float | None = None
    stop: float | None = None

    @property
    def name(self) -> str:
        """Example: "guidance-2.5-start-0.2-stop-0.8"; "served" where nothing is said."""
        told = [f"{name}-{value:g}" for name, value in vars(self).items() if value is not None]
        return "-".join(told) or "served"


@dataclass(frozen=True)
class AlignmentPlan:
    """Rated and judged images, seconds of training for every method, repeats with another seed each."""

    rated: int = 2000
    judged: int = 512
    reward_steps: int = 150
    seconds: float = 120.0
    seeds: tuple[int, ...] = (0, 1, 2)
    methods: tuple[str, ...] = tuple(SETTINGS)
    drawing: DrawingOptions = field(default_factory=DrawingOptions)
    """Of everything that is rated and judged."""

    def same_runs(self) -> dict[str, Any]:
        """What has to agree for runs to belong together; a run's own method, settings, seed and seconds name it."""
        own = {k: v for k, v in vars(self).items() if k not in ("seeds", "methods", "seconds")}
        return {**own, "drawing": vars(self.drawing)}


QUICK = AlignmentPlan(rated=160, judged=80, reward_steps=40, seconds=10.0, seeds=(0,))
RATED_SEED, JUDGED_SEED = 20_000, 8_000_000
"""Far from each other, and from the seeds on which settings were chosen."""
