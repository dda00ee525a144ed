"""Trains the reward model again by itself and hands what came of it to the gate of rollouts. No Ray, no gRPC.

All that it knows is in the catalog, so that one that was killed at any line goes on: a run's request id tells the
number of ratings that it was begun for, a rollout's tells its run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

from services.retraining.policy import LearningState, TrainingDecision, decide
from services.rollout.controller import SYSTEM, RolloutController, RolloutOptions
from vouch.errors import FailedPrecondition, VouchError
from vouch.settings import Settings
from vouch.storage.catalog import Catalog
from vouch.types.clock import now
from vouch.types.page import every
from vouch.types.rating import Rating
from vouch.types.run import Run

log = logging.getLogger("vouch.retraining")

PREFIX = "retrain-"
NO_REFUSAL = ("ROLLOUT_UNDER_WAY", "ALREADY_CHAMPION", "CHANGED_SINCE", "FENCED")
"""Why a rollout does not begin now though the gate may admit it."""
MOST_JUDGED = 500
"""Of the newest ratings; older ones say little of a drift."""


class Retrainer:
    """One look: train when the policy says so; begin a rollout of what the last such training published."""

    def __init__(self, settings: Settings, catalog: Catalog, controller: RolloutController) -> None:
        self._settings, self._catalog, self._controller = settings, catalog, controller
        self._policy = settings.retraining

    @property
    def is_on(self) -> bool:
        return self._policy.new_ratings is not None or self._policy.drift is not None

    def step(self) -> TrainingDecision:
        """What was decided of the training."""
        own = list(self._own_runs())
        if own and own[0].state == "SUCCEEDED" and own[0].version:
            self._roll_out(own[0])
        decision = decide(self._seen(own), self._policy)
        if decision.train:
            self._train(decision.reason)
        return decision

    def _train(self, reason: str) -> None:
        count = self._catalog.ratings.count(("human",))
        self._catalog.runs.create(
            "reward", {}, request_id=f"{PREFIX}{count}", created_by=SYSTEM, reason=reason
        )

    def _roll_out(self, run: Run) -> None:
        """Through the gate, once. What the gate refuses, or what was rolled back, waits for an operator's word."""
        seen = every(lambda token: self._catalog.rollouts.list("reward", page_size=100, page_token=token))
        if any(one.version == run.version for one in seen) or self._was_refused(run):
            return
        options = RolloutOptions(
            ref=run.version,
            steps=self._settings.rollout.steps_percent,
            hold_s=self._policy.hold_s,
            reason=f"trained by itself in {run.run_id}",
        )
        try:
            self._controller.start(options, SYSTEM, f"{PREFIX}{run.run_id}")
        except FailedPrecondition as error:
            if error.reason in NO_REFUSAL:
                return
            self._catalog.audit.append_once(SYSTEM, "retraining refused", run.run_id, {"why": error.message})
        except VouchError as error:
            log.warning("%s was not rolled out: %s", run.run_id, error)

    def _was_refused(self, run: Run) -> bool:
        entries = every(lambda token: self._catalog.audit.list(page_size=1000, page_token=token))
        return any((one.action, one.subject) == ("retraining refused", run.run_id) for one in entries)

    # ---- what is seen

    def _seen(self, own: list[Run]) -> LearningState:
        ratings, _ = self._catalog.ratings.freeze()
        fresh = [rating for rating in ratings if rating.id not in self._learned()]
        wrong, judged = self._contradicted(fresh[-MOST_JUDGED:])
        moment = now()
        return LearningState(
            new_ratings=min(len(fresh), self._catalog.ratings.count(("human",)) - self._counted(own)),
            wrong=wrong,
            judged=judged,
            since_last_h=_hours(moment, own[0].created_at) if own else None,
            recent=sum(one.created_at > moment - timedelta(days=30) for one in own),
            busy=any(not one.ended for one in self._runs()),
        )

    def _contradicted(self, ratings: list[Rating]) -> tuple[int, int]:
        """(wrong, judged) of clear verdicts on images that the serving reward model has scored."""
        champion = self._catalog.serving.get("reward").champion
        scores = self._catalog.images.latest_scores({rating.image for rating in ratings})
        clear = [
            (scores[one.image].overall >= self._settings.review.threshold) == (one.verdict == "plausible")
            for one in ratings
            if one.verdict != "unsure" and one.image in scores and scores[one.image].version == champion
        ]
        return clear.count(False), len(clear)

    def _learned(self) -> frozenset[str]:
        """Ratings that the newest reward version learned from."""
        page = self._catalog.versions.list("reward", page_size=1)
        lineage = page.items[0].lineage if page.items else {}
        learned = lineage.get("ratings", ())
        return frozenset(learned if isinstance(learned, list) else ())

    def _counted(self, own: list[Run]) -> int:
        """How many ratings there were when the last own training was begun, whatever became of it."""
        return max((int(one.request_id.removeprefix(PREFIX)) for one in own), default=0)

    def _own_runs(self) -> Iterator[Run]:
        """Newest first."""
        return (one for one in self._runs() if one.created_by == SYSTEM and one.request_id.startswith(PREFIX))

    def _runs(self) -> Iterator[Run]:
        return iter(
            every(lambda token: self._catalog.runs.list(kind="reward", page_size=100, page_token=token))
        )


def _hours(later: datetime, earlier: datetime) -> float:
    return (later - earlier).total_seconds() / 3600
