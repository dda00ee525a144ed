"""Carries out what the policy decides, and what an operator asks for: observe, decide, apply. No Ray."""

from __future__ import annotations

import functools
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from services.rollout import policy
from services.rollout.analysis import false_promotion_bound
from services.rollout.evidence import Evidence
from services.rollout.gate import admit
from services.rollout.hold import HoldTimer
from services.rollout.liveness import ReplicaLiveness
from vouch.errors import FailedPrecondition, InvalidInput, VouchError
from vouch.storage.catalog import Catalog
from vouch.storage.catalog.rollouts import CONTROLLER
from vouch.storage.registry import Registry
from vouch.types.clock import now
from vouch.types.rollout import Rollout
from vouch.types.rollout_plan import RolloutPlan
from vouch.types.serving import ReplicaReport
from vouch.types.version import Version

log = logging.getLogger("vouch.rollout")

SLOTS = ("generator", "reward")
MAX_REASON = 1_000
KEEP_S = 5.0
"""Between two times that the controller writes down how far it is."""
FORGET_EVERY_S = 600.0
FORGET_AFTER = timedelta(hours=1)
SYSTEM = "system"
"""The actor of what the controller does by itself."""


class RolloutObserver(Protocol):
    """Measures the candidate beside the champion in the background."""

    def evidence(self, rollout: Rollout) -> Evidence:
        """Everything counted so far, with what the rollout's record holds from earlier lives."""
        ...

    def notes(self) -> dict[str, object]:
        """What is kept with the evidence, so that nothing is counted twice."""
        ...


class NoObserver:
    """Measures nothing: then nothing is proven, and every planned rollout holds."""

    def evidence(self, rollout: Rollout) -> Evidence:
        return Evidence.from_json(rollout.plan.evidence) if rollout.plan else Evidence()

    def notes(self) -> dict[str, object]:
        return {}


@dataclass(frozen=True, kw_only=True)
class RolloutOptions:
    """What an operator asks a rollout to be. percent: None begins with the first step."""

    ref: str
    percent: int | None = None
    steps: tuple[int, ...] = ()
    hold_s: float | None = None
    """None, without steps: it is moved by hand."""
    shadow: bool = False
    sticky: bool = False
    force: bool = False
    dry_run: bool = False
    reason: str = ""

    @property
    def planned(self) -> bool:
        return bool(self.steps) or self.hold_s is not None or self.shadow


class RolloutController:
    """Moves versions into serving and back. `notify(slot)` tells the replicas to look at once.

    It is the master from the moment that it is made. One that was made before it writes nothing more: its fencing
    number is behind. system: which running system this is; a rollout that another one began was cut off by a reboot.
    """

    def __init__(
        self,
        catalog: Catalog,
        registry: Registry,
        notify: Callable[[str], None],
        steps: tuple[int, ...] = policy.DEFAULT_STEPS,
        *,
        observer: RolloutObserver | None = None,
        system: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog, self._registry, self._notify, self._steps = catalog, registry, notify, steps
        self._observer = observer or NoObserver()
        self._system, self._clock = system, clock
        self._liveness = ReplicaLiveness()
        self._timers = {slot: HoldTimer(clock) for slot in SLOTS}
        self._kept: dict[str, tuple[float, dict[str, Any]]] = {}
        self._decisions: dict[str, tuple[str, policy.Decision | None]] = {}
        self._forgot_at = -FORGET_EVERY_S
        self._fence = catalog.controllers.take_over(CONTROLLER)
        self.deposed = False
        for slot in SLOTS:  # the first look: which reports were there before
            self.live_reports(slot)

    # ---- what an operator asks for

    def start(self, options: RolloutOptions, actor: str, request_id: str) -> Rollout:
        """Verify the version's every file and its evidence, then give it its first share. A dry run stops before that
        and answers with the rollout that would have begun, whose id is empty.

        Raises NotFound, CorruptVersion (naming the file), InvalidInput (a kind that does not serve, steps that do not
        rise), and FailedPrecondition (another rollout is active, it is the champion already, it was not evaluated, its
        evaluation refuses it, or the champion changed meanwhile).
        """
        version = self._registry.get(options.ref)
        if version.kind not in SLOTS:
            raise InvalidInput(
                f"{version.name} is a {version.kind}: only a generator or a reward model can serve."
            )
        self._verify(version)
        champion = self._registry.get(self._catalog.serving.get(version.kind).champion)
        gate = self._gate(version, champion, options)
        steps = _rising(options.steps or self._steps)
        share = steps[0] if options.percent is None else options.percent
        plan = self._plan(options, steps, gate)
        if options.dry_run:
            return self._preview(version, share, plan)
        rollout = self._catalog.rollouts.start(
            version.kind,
            version.digest,
            percent=share,
            actor=actor,
            request_id=request_id or uuid.uuid4().hex,
            reason=_checked(options.reason),
            plan=plan,
            champion=champion.digest,
            fence=self._fence if actor == SYSTEM else None,
        )
        self._notify(rollout.slot)
        return rollout

    def promote(
        self, rollout_id: str, percent: int | None, actor: str, request_id: str, reason: str
    ) -> Rollout:
        """Give it the next share, or the given one; 100 completes the rollout."""
        if percent is None:
            percent = policy.next_percent(
                self._asked_before(rollout_id, actor, request_id), self._steps_of(rollout_id)
            )
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
        """Take the candidate out, or bring the previous champion back. Waits for no analysis and no pause."""
        rollout = self._catalog.rollouts.roll_back(
            rollout_id, actor=actor, request_id=request_id or uuid.uuid4().hex, reason=_checked(reason)
        )
        self._notify(rollout.slot)
        return rollout

    def set_paused(self, rollout_id: str, paused: bool, actor: str, request_id: str, reason: str) -> Rollout:
        """Stop it from being promoted by itself, or let it go on. Guards roll it back all the same."""
        change = self._catalog.rollouts.pause if paused else self._catalog.rollouts.resume
        return change(
            rollout_id, actor=actor, request_id=request_id or uuid.uuid4().hex, reason=_checked(reason)
        )

    def decision(self, rollout: Rollout) -> policy.Decision | None:
        """What the last look decided of this rollout."""
        rollout_id, decision = self._decisions.get(rollout.slot, ("", None))
        return decision if rollout_id == rollout.rollout_id else None

    # ---- the loop

    def step(self) -> None:
        """One look at every slot: observe, decide, apply. A controller that was deposed does nothing."""
        for slot in SLOTS:
            self._attempt(f"the look at the {slot}", functools.partial(self._look, slot))
        self._attempt("forgetting old reports", self._forget_gone)

    def _attempt(self, what: str, action: Callable[[], None]) -> None:
        if self.deposed:
            return
        try:
            action()
        except VouchError as error:  # an operator was quicker, or the catalog is busy
            self.deposed = error.reason == "FENCED"
            log.info("%s changed nothing: %s", what, error)
        except Exception:  # an unexpected error must not end the watch: the next look may roll back
            log.exception("%s failed", what)

    def _forget_gone(self) -> None:
        """Reports of replicas that are gone. One that is not reports again within seconds."""
        if self._clock() - self._forgot_at >= FORGET_EVERY_S:
            self._catalog.reports.forget(older_than=now() - FORGET_AFTER)
            self._forgot_at = self._clock()

    def _look(self, slot: str) -> None:
        seen = self.observe(slot)
        if seen is None:
            return
        decision = self._cut_off(seen) or policy.decide(seen)
        self._decisions[slot] = (seen.rollout.rollout_id, decision)
        self._apply(seen, decision)

    def observe(self, slot: str) -> policy.Observation | None:
        """None when no rollout is active in the slot."""
        rollout = self._catalog.rollouts.active(slot)
        if rollout is None:
            return None
        seen = policy.Observation(
            rollout=rollout, serving=self._catalog.serving.get(slot), reports=self.live_reports(slot)
        )
        return seen if rollout.plan is None else self._measured(seen, rollout.plan)

    def live_reports(self, slot: str) -> tuple[ReplicaReport, ...]:
        """The last report of each replica that was heard of lately."""
        return self._liveness.live(slot, self._catalog.reports.list(slot))

    def _measured(self, seen: policy.Observation, plan: RolloutPlan) -> policy.Observation:
        follows = bool(seen.reports) and policy.converged(seen.serving, seen.reports) == len(seen.reports)
        held_s = self._timers[seen.rollout.slot].look(
            seen.rollout.rollout_id,
            seen.rollout.percent,
            follows and not plan.paused,
            (plan.held_percent, plan.held_s),
        )
        evidence = self._observer.evidence(seen.rollout)
        return replace(seen, plan=plan, evidence=evidence, held_s=held_s)

    def _cut_off(self, seen: policy.Observation) -> policy.RollBack | None:
        """A reboot in the middle of a rollout ends on the version that served before it."""
        if seen.plan is None or not seen.plan.automatic or seen.plan.system == self._system:
            return None
        return policy.RollBack("the system was started anew in the middle of the rollout")

    def _apply(self, seen: policy.Observation, decision: policy.Decision) -> None:
        rollouts, rollout = self._catalog.rollouts, seen.rollout
        common: dict[str, Any] = {
            "actor": SYSTEM,
            "fence": self._fence,
            "revision": seen.serving.revision,
        }
        if isinstance(decision, policy.RollBack):
            reason = decision.reason[:MAX_REASON]
            rollouts.roll_back(
                rollout.rollout_id, request_id=f"auto-{rollout.rollout_id}-back", reason=reason, **common
            )
            self._notify(rollout.slot)
        elif isinstance(decision, policy.Promote):
            self._keep(seen)
            name = f"auto-{rollout.rollout_id}-{decision.percent}"
            bound = false_promotion_bound(rollouts.automatic(rollout.slot))
            reason = f"{decision.reason}; at most {bound:.2g} false promotions are expected so far"
            rollouts.promote(
                rollout.rollout_id,
                percent=decision.percent,
                request_id=name,
                reason=reason[:MAX_REASON],
                **common,
            )
            self._notify(rollout.slot)
        elif seen.plan is not None and seen.plan.automatic:
            self._keep_now_and_then(seen)

    def _keep_now_and_then(self, seen: policy.Observation) -> None:
        kept_at, _ = self._kept.get(seen.rollout.rollout_id, (-KEEP_S, {}))
        if self._clock() - kept_at >= KEEP_S:
            self._keep(seen)

    def _keep(self, seen: policy.Observation) -> None:
        """Write down how far it is, so that a successor neither holds nor counts anything twice."""
        evidence = {**seen.evidence.as_json(), **self._observer.notes()}
        self._catalog.rollouts.progress(
            seen.rollout.rollout_id,
            fence=self._fence,
            held_percent=seen.rollout.percent,
            held_s=seen.held_s,
            evidence=evidence,
        )
        self._kept = {seen.rollout.rollout_id: (self._clock(), evidence)}

    # ---- inside

    def _verify(self, version: Version) -> None:
        self._registry.open(version.digest)
        if version.format == "lora":
            self._registry.open(self._registry.base_of(version.digest).digest)

    def _gate(self, version: Version, champion: Version, options: RolloutOptions) -> dict[str, object]:
        """What the evidence says; a refusal that is forced is kept as such."""
        if options.force and not options.reason.strip():
            raise InvalidInput(
                "A forced rollout needs a reason: say with --reason why the gate does not count."
            )
        if champion.digest == version.digest:
            return {}  # the catalog refuses it with a better sentence
        try:
            return admit(version, champion, self._evidence(version))
        except FailedPrecondition as error:
            if not options.force:
                raise
            return {"verdict": "forced", "refusal": error.message.split(" To start it all the same")[0]}

    def _evidence(self, version: Version) -> dict[str, Any]:
        if version.kind == "generator":
            return self._registry.evidence(version.digest)
        return read_reward_evidence(self._registry.folder(version.digest))

    def _plan(self, options: RolloutOptions, steps: tuple[int, ...], gate: dict[str, object]) -> RolloutPlan:
        """Every rollout keeps its gate and why it was forced, also one that is moved by hand."""
        if options.hold_s is not None and not 0 <= options.hold_s <= 30 * 24 * 3600:
            raise InvalidInput(f"hold is {options.hold_s:g} s; it must be 0 s to 30 days.")
        return RolloutPlan(
            steps=steps,
            hold_s=DEFAULT_HOLD_S if options.hold_s is None else options.hold_s,
            shadow=options.shadow,
            sticky=options.sticky,
            gate=gate,
            forced=options.reason if options.force else "",
            system=self._system,
            automatic=options.planned,
        )

    def _preview(self, version: Version, share: int, plan: RolloutPlan) -> Rollout:
        serving, moment = self._catalog.serving.get(version.kind), now()
        percent = 0 if plan.shadow else share
        return Rollout(
            rollout_id="", slot=version.kind, version=version.digest, previous_version=serving.champion, state="ACTIVE",
            percent=percent, events=(), created_at=moment, updated_at=moment, plan=plan,
        )  # fmt: skip

    def _steps_of(self, rollout_id: str) -> tuple[int, ...]:
        plan = self._catalog.rollouts.get(rollout_id).plan
        return plan.steps if plan is not None else self._steps

    def _asked_before(self, rollout_id: str, actor: str, request_id: str) -> int:
        """The share from which this request moves on: for a repeat the one before it was carried out the first time."""
        rollout = self._catalog.rollouts.get(rollout_id)
        shares = [0, *(event.percent for event in rollout.events)]
        for before, event in zip(shares, rollout.events, strict=False):
            if request_id and (event.actor, event.request_id) == (actor, request_id):
                return before
        return rollout.percent


DEFAULT_HOLD_S = 600.0
"""Seconds at each share, where nobody said how long."""


def read_reward_evidence(folder: Path) -> dict[str, Any]:
    """What a reward version's own files say of it; empty where nothing was measured."""
    import json

    path = folder / "evidence.json"
    try:
        return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}
    except (OSError, ValueError, TypeError):
        return {}


def _rising(steps: tuple[int, ...]) -> tuple[int, ...]:
    if steps[-1] != 100 or any(a >= b for a, b in zip((0, *steps), steps, strict=False)):
        text = ",".join(map(str, steps))
        raise InvalidInput(f"steps are {text}; they must rise, begin above 0 and end with 100.")
    return steps


def _checked(reason: str) -> str:
    if len(reason) > MAX_REASON:
        raise InvalidInput(f"reason has {len(reason)} characters; at most {MAX_REASON} are kept.")
    return reason
