"""The RPCs that move versions into serving and back. Part of the operations deployment."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from services.identity import Identity
from services.required import required
from services.rollout import policy
from services.rollout.controller import RolloutController, RolloutOptions
from services.rollout.evidence import Evidence, prove, required_metrics
from vouch import wire
from vouch.pb.v1 import rollout_pb2 as pb
from vouch.storage.catalog import Catalog
from vouch.types.rollout import Rollout, RolloutProgress
from vouch.types.serving import ReplicaReport, Serving

WATCH_S = 0.25
LOOP_S = 1.0


class RolloutService:
    """Starts, moves and shows rollouts, and watches over them."""

    def __init__(self, catalog: Catalog, controller: RolloutController) -> None:
        self._catalog, self._controller = catalog, controller
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._watch_over, name="rollouts", daemon=True)
        self._watch.start()

    @property
    def alive(self) -> bool:
        """Whether rollouts are watched: without the thread no guard takes a candidate out."""
        return self._watch.is_alive()

    def StartRollout(self, request: pb.StartRolloutRequest, caller: Identity) -> pb.Rollout:
        options = RolloutOptions(
            ref=required(request, "version"),
            percent=wire.optional(request, "percent"),
            steps=tuple(request.steps),
            hold_s=wire.optional(request, "hold_s"),
            shadow=request.shadow,
            sticky=request.sticky,
            force=request.force,
            dry_run=request.dry_run,
            reason=request.reason,
        )
        return self._message(self._controller.start(options, caller.name, request.request_id))

    def PromoteRollout(self, request: pb.PromoteRolloutRequest, caller: Identity) -> pb.Rollout:
        rollout_id, percent = required(request, "rollout_id"), wire.optional(request, "percent")
        return self._message(
            self._controller.promote(rollout_id, percent, caller.name, request.request_id, request.reason)
        )

    def RollBackRollout(self, request: pb.RollBackRolloutRequest, caller: Identity) -> pb.Rollout:
        rollout_id = required(request, "rollout_id")
        return self._message(
            self._controller.roll_back(rollout_id, caller.name, request.request_id, request.reason)
        )

    def PauseRollout(self, request: pb.PauseRolloutRequest, caller: Identity) -> pb.Rollout:
        return self._set_paused(request, caller, True)

    def ResumeRollout(self, request: pb.ResumeRolloutRequest, caller: Identity) -> pb.Rollout:
        return self._set_paused(request, caller, False)

    def _set_paused(
        self, request: pb.PauseRolloutRequest | pb.ResumeRolloutRequest, caller: Identity, paused: bool
    ) -> pb.Rollout:
        rollout_id = required(request, "rollout_id")
        return self._message(
            self._controller.set_paused(rollout_id, paused, caller.name, request.request_id, request.reason)
        )

    def GetRollout(self, request: pb.GetRolloutRequest, caller: Identity) -> pb.Rollout:
        return self._message(self._catalog.rollouts.get(required(request, "rollout_id")))

    def ListRollouts(self, request: pb.ListRolloutsRequest, caller: Identity) -> pb.ListRolloutsResponse:
        page = self._catalog.rollouts.list(
            request.slot or None,
            state=wire.word(request, "state") or None,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListRolloutsResponse(rollouts=self._messages(page.items), next_page_token=page.next_token)

    async def WatchRollout(
        self, request: pb.WatchRolloutRequest, caller: Identity
    ) -> AsyncIterator[pb.Rollout]:
        """Now, and at every change; ends when the rollout has ended and every replica follows."""
        last, rollout_id = None, required(request, "rollout_id")
        while True:
            message = await asyncio.to_thread(lambda: self._message(self._catalog.rollouts.get(rollout_id)))
            if message != last:
                yield message
                last = message
            ended = message.state != pb.ROLLOUT_STATE_ACTIVE
            if ended and message.replicas_converged == message.replicas_total:
                return
            await asyncio.sleep(WATCH_S)

    def _watch_over(self) -> None:
        while not self._stop.wait(LOOP_S):
            self._controller.step()

    def _message(self, rollout: Rollout) -> pb.Rollout:
        return self._messages([rollout])[0]

    def _messages(self, rollouts: Sequence[Rollout]) -> list[pb.Rollout]:
        names = self._catalog.versions.names_of(
            [digest for rollout in rollouts for digest in (rollout.version, rollout.previous_version)]
        )
        slots = {
            slot: (self._catalog.serving.get(slot), self._controller.live_reports(slot))
            for slot in {rollout.slot for rollout in rollouts}
        }
        return [
            wire.to_message(
                replace(
                    _situation(rollout, names, *slots[rollout.slot]),
                    progress=_progress(rollout, self._controller.decision(rollout)),
                ),
                pb.Rollout,
            )
            for rollout in rollouts
        ]


def _situation(
    rollout: Rollout, names: dict[str, str], serving: Serving, reports: Sequence[ReplicaReport]
) -> Rollout:
    """The rollout with what a caller is told beside its record."""
    return replace(
        rollout,
        version_name=names.get(rollout.version, ""),
        previous_name=names.get(rollout.previous_version, ""),
        revision=serving.revision,
        replicas_converged=policy.converged(serving, reports),
        replicas_total=len(reports),
        reason=_reason(rollout, reports),
    )


def _progress(rollout: Rollout, decision: policy.Decision | None) -> RolloutProgress | None:
    """The plan of a rollout and what is proven so far; None without a plan."""
    plan = rollout.plan
    if plan is None:
        return None
    proof = prove(Evidence.from_json(plan.evidence), required_metrics(rollout.percent, plan.sticky))
    return RolloutProgress(
        steps=plan.steps,
        hold_s=plan.hold_s,
        held_s=plan.held_s if plan.held_percent == rollout.percent else 0.0,
        paused=plan.paused,
        shadow=plan.shadow,
        sticky=plan.sticky,
        gate=plan.gate,
        forced=plan.forced,
        evidence=plan.evidence,
        decision=getattr(decision, "reason", "") if rollout.state == "ACTIVE" else "",
        log10_e_worse=proof.log_e_worse / math.log(10),
        log10_e_not_worse=proof.log_e_not_worse / math.log(10),
        automatic=plan.automatic,
    )


def _reason(rollout: Rollout, reports: Sequence[ReplicaReport]) -> str:
    """Why it was rolled back, or why a replica cannot follow."""
    if rollout.state == "ROLLED_BACK":
        return rollout.events[-1].reason if rollout.events else ""
    return next((report.reason for report in reports if not report.ok), "")
