"""When the reward model is trained again by itself. Pure: what is seen goes in, a decision comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vouch.settings import RetrainingSettings

CERTAIN = math.log(20)
"""Log of one over the chance that a drift is claimed and is none, at one look."""


@dataclass(frozen=True, kw_only=True)
class LearningState:
    """What there is to learn from, and what was learned lately.

    new_ratings: people's ratings since the last training. wrong, judged: of the new ratings with a clear verdict and a
    score of the serving reward model, those that it contradicts, and all. since_last_h: hours since the last training
    that began by itself; None before the first. recent: how many began so in the last 30 days. busy: one is queued or
    runs.
    """

    new_ratings: int
    wrong: int = 0
    judged: int = 0
    since_last_h: float | None = None
    recent: int = 0
    busy: bool = False


@dataclass(frozen=True)
class TrainingDecision:
    """Whether to train, and why or why not."""

    train: bool
    reason: str


def decide(seen: LearningState, policy: RetrainingSettings) -> TrainingDecision:
    """Train on enough new ratings or on a drift, unless one is under way, was lately, or the budget is spent."""
    wanted = _wanted(seen, policy)
    if not wanted:
        return TrainingDecision(False, f"{seen.new_ratings} new ratings, and no drift")
    obstacle = _obstacle(seen, policy)
    return TrainingDecision(not obstacle, obstacle or wanted)


def _wanted(seen: LearningState, policy: RetrainingSettings) -> str:
    if policy.new_ratings is not None and seen.new_ratings >= policy.new_ratings:
        return f"{seen.new_ratings} new ratings, {policy.new_ratings} are enough"
    if policy.drift is not None and error_at_least(seen.wrong, seen.judged) > policy.drift:
        return f"the reward model contradicts {seen.wrong} of {seen.judged} new verdicts"
    return ""


def _obstacle(seen: LearningState, policy: RetrainingSettings) -> str:
    if seen.busy:
        return "a training is under way"
    if seen.since_last_h is not None and seen.since_last_h < policy.cooldown_h:
        return f"the last one began {seen.since_last_h:.1f} h ago, {policy.cooldown_h:g} h have to pass"
    if seen.recent >= policy.runs_in_30_days:
        return f"{seen.recent} of {policy.runs_in_30_days} trainings of 30 days are spent"
    return ""


def error_at_least(wrong: int, judged: int) -> float:
    """A lower bound of the share that is wrong, in 95 of 100 looks (Hoeffding 1963); 0 without verdicts."""
    return wrong / judged - math.sqrt(CERTAIN / (2 * judged)) if judged else 0.0
