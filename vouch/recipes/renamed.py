"""Settings that had another name before version 1.0."""

from __future__ import annotations

from collections.abc import Collection, Mapping

RENAMED: Mapping[str, Mapping[str, str]] = {
    "reward": {"half": "split"},
    "align": {
        "half": "split",
        "caution": "std_penalty",
        "doubt": "anchor_uncertainty_scale",
        "diversity": "draft.diversity or reward_gradient.diversity",
        "watch_every": "validation.every",
        "watched": "validation.images",
        "patience": "validation.patience",
        "drift": "validation.max_drift",
        "variety": "validation.min_variety",
        "beta": "reward_weighted.beta",
        "earliest": "reward_gradient.max_timestep",
        "latest": "reward_gradient.min_timestep",
        "stride": "reward_gradient.stride",
        "gradient_steps": "draft.gradient_steps, reward_gradient.gradient_steps or ddpo.gradient_steps",
        "sample_steps": "draft.sample_steps, nft.sample_steps, awm.sample_steps or ddpo.sample_steps",
        "views": "draft.views",
        "divergence": "kto.beta or dpo.beta",
        "strength": "nft.beta",
        "groups": "draft.groups, nft.groups, awm.groups or ddpo.groups",
        "round_steps": "nft.round_steps or awm.round_steps",
        "round_images": "nft.round_images or awm.round_images",
        "clip": "awm.clip",
        "novelty": "draft.novelty, nft.novelty or awm.novelty",
    },
}
"""By kind: the old name and the new one, or those of each method that has it."""


def renamed(kind: str, names: Collection[str]) -> str:
    """What to say of those of the names that are old; empty where none is."""
    table = RENAMED.get(kind, {})
    return " ".join(f"Setting {name} is now {table[name]}." for name in sorted(names) if name in table)
