"""Carries out what the policy decides, and what an operator asks for: observe, decide, apply. No Ray."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable

from services.rollout import policy
from services.rollout.pulses import Pulses
from vouch.errors import InvalidInput, VouchError
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.rollout import Rollout
from vouch.types.serving import ReplicaReport

log = logging.getLogger("vouch.rollout")

SLOTS = ("generator", "reward")
MAX_REASON = 1_000


class RolloutController:
    """Moves versions into serving and back. `notify(slot)` tells the replicas to look at once."""

    def __init__(
        self,
        catalog: Catalog,
        registry: Registry,
        notify: Callable[[str], None],
        steps: tuple[int, ...] = policy.DEFAULT_STEPS,
    ) -> None:
        self._catalog, self._registry, self._notify, self._steps = catalog, registry, notify, steps
        self._pulses = Pulses()

    # ---- what an operator asks for

    def start(self, ref: str, percent: int | None, actor: str, request_id: str, reason: str) -> Rollout:
        """Verify the version's every file, then give it its first share.

        Raises NotFound, CorruptVersion (naming the file), InvalidInput (a kind that does not serve), and
        FailedPrecondition (another rollout is active, or it is the champion already).
        """
        version = self._registry.get(ref)
        if version.kind not in SLOTS:
            raise InvalidInput(
                f"{version.name} is a {version.kind}: only a generator or a reward model can serve."
            )
        for ancestor in self._registry.lineage(version.digest):
            if ancestor.digest == version.digest or ancestor.format != "lora":
                self._registry.open(ancestor.digest)
            if ancestor.format != "lora":
                break  # an adapter stands on the first whole model before it, and on nothing between
        share = self._steps[0] if percent is None else percent
        rollout = self._catalog.rollouts.start(
            version.kind,
            version.digest,
            percent=share,
            actor=actor,
            request_id=request_id or uuid.uuid4().hex,
            reason=_checked(reason),
        )
        self._notify(rollout.slot)
        return rollout

    def promote(
        self, rollout_id: str, percent: int | None, actor: str, request_id: str, reason: str
    ) -> Rollout:
        """Give it the next share, or the given one; 100 completes the rollout."""
        if percent is None:
            percent = policy.next_percent(self._asked_before(rollout_id, actor, request_id), self._steps)
        rollout = self._catalog.rollouts.promote(
            rollout_id,
            percent=percent,
            actor=actor,
            request_id=request_id or uuid.uuid4().hex,
            reason=_checked(reason),
        )
        self._notify(rollout.slot)
        return rollout

    def roll_back(self, rollout_id: str, actor: str, request_id: str, reason: str) -> Rollout:
        """Take the candidate out, or bring the previous champion back."""
        rollout = self._catalog.rollouts.roll_back(
            rollout_id, actor=actor, request_id=request_id or uuid.uuid4().hex, reason=_checked(reason)
        )
        self._notify(rollout.slot)
        return rollout

    # ---- the loop

    def step(self) -> None:
        """One look at every slot: observe, decide, apply."""
        for slot in SLOTS:
            seen = self.observe(slot)
            if seen is None:
                continue
            decision = policy.decide(seen)
            if isinstance(decision, policy.RollBack):
                self._apply(seen.rollout, decision)

    def observe(self, slot: str) -> policy.Observation | None:
        """None when no rollout is active in the slot."""
        rollout = self._catalog.rollouts.active(slot)
        if rollout is None:
            return None
        return policy.Observation(
            rollout=rollout, serving=self._catalog.serving.get(slot), reports=self.living(slot)
        )

    def living(self, slot: str) -> tuple[ReplicaReport, ...]:
        """The last report of each replica that was heard of lately."""
        return self._pulses.living(self._catalog.reports.list(slot))

    def _apply(self, rollout: Rollout, decision: policy.RollBack) -> None:
        try:
            self.roll_back(
                rollout.rollout_id,
                "system",
                f"auto-{rollout.rollout_id}-{rollout.percent}",
                decision.reason[:MAX_REASON],
            )
        except VouchError as error:  # an operator was quicker
            log.info("%s was not rolled back: %s", rollout.rollout_id, error)

    def _asked_before(self, rollout_id: str, actor: str, request_id: str) -> int:
        """The share from which this request moves on: for a repeat the one before it was carried out the first time."""
        rollout = self._catalog.rollouts.get(rollout_id)
        shares = [0, *(event.percent for event in rollout.events)]
        for before, event in zip(shares, rollout.events, strict=False):
            if request_id and (event.actor, event.request_id) == (actor, request_id):
                return before
        return rollout.percent


def _checked(reason: str) -> str:
    if len(reason) > MAX_REASON:
        raise InvalidInput(f"reason has {len(reason)} characters; at most {MAX_REASON} are kept.")
    return reason
