"""The fake server's versions, rollouts and training runs."""

# ruff: noqa: N802 - gRPC dispatches by the name of the RPC

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.json_format import MessageToDict

from vouch import errors, recipes
from vouch.pb.v1 import models_pb2 as m
from vouch.pb.v1 import rollout_pb2 as o
from vouch.pb.v1 import training_pb2 as t
from vouch.testing.door import Caller

GENERATOR, CANDIDATE, REWARD = "a" * 64, "b" * 64, "c" * 64
"""Digests of the versions: the champion, a candidate and the reward model."""
NAMES = {GENERATOR: "starter-generator", CANDIDATE: "generator-2", REWARD: "starter-reward"}

EVIDENCE = {
    "measured_at": "2026-01-01T00:00:00+00:00",
    "against": GENERATOR,
    "against_name": "starter-generator",
    "figures": {"plausible": {"value": 0.8, "low": 0.7, "high": 0.9}},
    "gate": {"verdict": "refuse", "reasons": ["coverage changed by -4.1 points"], "checks": []},
}

HEAD = "4" * 64
"""Digest of the last entry of the audit log."""
OTHER_IMAGE = "5" * 64
"""An image that its version draws otherwise."""


class FakeOperations:
    """Three versions, rollouts without replicas, and runs that end when they are watched."""

    def __init__(self) -> None:
        self.champion = GENERATOR
        """Digest of the generator that serves."""
        self.runs: dict[str, t.Run] = {}
        """Every queued training run by its id."""
        self.rollouts: dict[str, o.Rollout] = {}
        """Every rollout by its id."""

    # models

    async def ListVersions(self, request: m.ListVersionsRequest, caller: Caller) -> m.ListVersionsResponse:
        kept = [v for v in map(_version, NAMES) if request.kind in (0, v.kind)]
        start, end, token = page(request, len(kept))
        return m.ListVersionsResponse(versions=kept[start:end], next_page_token=token)

    async def GetVersion(self, request: m.GetVersionRequest, caller: Caller) -> m.Version:
        return _version(_resolve(request.version))

    async def GetServing(self, request: m.GetServingRequest, caller: Caller) -> m.GetServingResponse:
        slot = m.ServingSlot(
            slot="generator", champion_version=self.champion, champion_name=NAMES[self.champion], revision=3
        )
        slot.replicas.add(replica_id="generation#1", revision=3, champion_version=self.champion, ok=True)
        slot.replicas.add(replica_id="generation#2", revision=2, ok=False, reason="unet is truncated")
        reward = m.ServingSlot(
            slot="reward", champion_version=REWARD, champion_name=NAMES[REWARD], revision=1, converged=True
        )
        return m.GetServingResponse(slots=[slot, reward], vouch_version="0.1.0", audit_head=HEAD)

    async def GetLineage(self, request: m.GetLineageRequest, caller: Caller) -> m.GetLineageResponse:
        digest = _resolve(request.version)
        chain = [CANDIDATE, GENERATOR] if digest == CANDIDATE else [digest]
        return m.GetLineageResponse(versions=[_version(one) for one in chain])

    # rollout

    async def StartRollout(self, request: o.StartRolloutRequest, caller: Caller) -> o.Rollout:
        version = _resolve(request.version)
        if any(rollout.state == o.ROLLOUT_STATE_ACTIVE for rollout in self.rollouts.values()):
            raise errors.FailedPrecondition("Another rollout is active. Promote it or roll it back first.")
        rollout = o.Rollout(
            rollout_id=f"rollout-{len(self.rollouts) + 1}", slot="generator", version=version,
            version_name=NAMES[version], previous_version=self.champion, state=o.ROLLOUT_STATE_ACTIVE,
            previous_name=NAMES[self.champion], percent=request.percent or 5, replicas_total=1,
        )  # fmt: skip
        self.rollouts[rollout.rollout_id] = rollout
        return self._note(rollout, o.ROLLOUT_ACTION_START, request.reason)

    async def PromoteRollout(self, request: o.PromoteRolloutRequest, caller: Caller) -> o.Rollout:
        rollout = self._rollout(request.rollout_id)
        if rollout.state != o.ROLLOUT_STATE_ACTIVE:
            raise errors.FailedPrecondition(f"{rollout.rollout_id} is not active.")
        rollout.percent = request.percent or {5: 25}.get(rollout.percent, 100)
        if rollout.percent == 100:
            rollout.state = o.ROLLOUT_STATE_COMPLETED
            self.champion = rollout.version
        return self._note(rollout, o.ROLLOUT_ACTION_PROMOTE, request.reason)

    async def RollBackRollout(self, request: o.RollBackRolloutRequest, caller: Caller) -> o.Rollout:
        rollout = self._rollout(request.rollout_id)
        rollout.state, rollout.percent, rollout.reason = o.ROLLOUT_STATE_ROLLED_BACK, 0, request.reason
        self.champion = rollout.previous_version
        return self._note(rollout, o.ROLLOUT_ACTION_ROLL_BACK, request.reason)

    async def PauseRollout(self, request: o.PauseRolloutRequest, caller: Caller) -> o.Rollout:
        rollout = self._rollout(request.rollout_id)
        rollout.progress.paused = True
        return self._note(rollout, o.ROLLOUT_ACTION_PAUSE, request.reason)

    async def ResumeRollout(self, request: o.ResumeRolloutRequest, caller: Caller) -> o.Rollout:
        rollout = self._rollout(request.rollout_id)
        rollout.progress.paused = False
        return self._note(rollout, o.ROLLOUT_ACTION_RESUME, request.reason)

    async def GetServingHistory(
        self, request: o.GetServingHistoryRequest, caller: Caller
    ) -> o.GetServingHistoryResponse:
        slot = o.ServedSlot(
            slot="generator", champion_version=self.champion, champion_name=NAMES[self.champion],
            rollout_id="rollout-1", decided_by="ada", decided_at=request.at, reason="proven",
            raters={"ada (human)": 12},
        )  # fmt: skip
        slot.gate.update({"verdict": "pass", "measured_at": "2026-11-24"})
        return o.GetServingHistoryResponse(slots=[slot])

    async def ListAuditEntries(
        self, request: o.ListAuditEntriesRequest, caller: Caller
    ) -> o.ListAuditEntriesResponse:
        entry = o.AuditEntry(number=1, actor="ada", action="rollout start", subject="rollout-1", digest=HEAD)
        entry.at.GetCurrentTime()
        entry.details.update({"percent": 5})
        return o.ListAuditEntriesResponse(entries=[entry])

    async def VerifyAudit(self, request: o.VerifyAuditRequest, caller: Caller) -> o.VerifyAuditResponse:
        intact = request.head in ("", HEAD)
        return o.VerifyAuditResponse(
            entries=1, head=HEAD, intact=intact, broken_at=0 if intact else 2,
            reason="" if intact else "its end was cut",
        )  # fmt: skip

    async def ReplayImage(self, request: o.ReplayImageRequest, caller: Caller) -> o.ReplayImageResponse:
        same = request.digest != OTHER_IMAGE
        return o.ReplayImageResponse(
            generator_version=self.champion, generator_name=NAMES[self.champion], same=same, equal=same,
            largest_difference=0 if same else 90, data=b"png",
        )  # fmt: skip

    async def GetRollout(self, request: o.GetRolloutRequest, caller: Caller) -> o.Rollout:
        return self._rollout(request.rollout_id)

    async def WatchRollout(self, request: o.WatchRolloutRequest, caller: Caller) -> AsyncIterator[o.Rollout]:
        rollout = self._rollout(request.rollout_id)
        yield rollout
        rollout.replicas_converged = rollout.replicas_total
        yield rollout

    async def ListRollouts(self, request: o.ListRolloutsRequest, caller: Caller) -> o.ListRolloutsResponse:
        kept = [x for x in reversed(self.rollouts.values()) if request.state in (0, x.state)]
        return o.ListRolloutsResponse(rollouts=kept)

    def _rollout(self, rollout_id: str) -> o.Rollout:
        if rollout_id not in self.rollouts:
            raise errors.NotFound(f"There is no rollout {rollout_id}. `vouch rollout status` lists them.")
        return self.rollouts[rollout_id]

    def _note(self, rollout: o.Rollout, action: int, reason: str) -> o.Rollout:
        event = rollout.events.add(action=action, percent=rollout.percent, reason=reason)  # type: ignore[arg-type]
        event.at.GetCurrentTime()
        return rollout

    # training

    async def StartTraining(self, request: t.StartTrainingRequest, caller: Caller) -> t.Run:
        recipes.parse(
            t.RunKind.Name(request.kind).removeprefix("RUN_KIND_").lower(), MessageToDict(request.config)
        )
        run_id = f"run-{len(self.runs) + 1}"
        run = t.Run(run_id=run_id, kind=request.kind, state=t.RUN_STATE_QUEUED, total_steps=4)
        run.config.CopyFrom(request.config)
        run.created_at.GetCurrentTime()
        self.runs[run_id] = run
        return run

    async def GetRun(self, request: t.GetRunRequest, caller: Caller) -> t.Run:
        return self._run(request.run_id)

    async def ListRuns(self, request: t.ListRunsRequest, caller: Caller) -> t.ListRunsResponse:
        kept = [run for run in reversed(self.runs.values()) if request.kind in (0, run.kind)]
        start, end, token = page(request, len(kept))
        return t.ListRunsResponse(runs=kept[start:end], next_page_token=token)

    async def CancelRun(self, request: t.CancelRunRequest, caller: Caller) -> t.Run:
        run = self._run(request.run_id)
        run.state = t.RUN_STATE_CANCELLED
        return run

    async def WatchRun(self, request: t.WatchRunRequest, caller: Caller) -> AsyncIterator[t.Run]:
        run = self._run(request.run_id)
        if run.state == t.RUN_STATE_QUEUED:
            run.state = t.RUN_STATE_RUNNING
            for step in range(1, 5):
                run.step, run.message = step, "learning"
                run.metrics["loss"] = 1 / step
                yield run
            failed = "name" in run.config and run.config["name"] == "diverges"
            run.state = t.RUN_STATE_FAILED if failed else t.RUN_STATE_SUCCEEDED
            run.error = "The loss is not finite." if failed else ""
            run.version_name, run.version = ("", "") if failed else ("reward-2", REWARD)
        yield run

    def _run(self, run_id: str) -> t.Run:
        if run_id not in self.runs:
            raise errors.NotFound(f"There is no run {run_id}.")
        return self.runs[run_id]


def _resolve(ref: str) -> str:
    for digest, name in NAMES.items():
        if ref == name or (len(ref) >= 8 and digest.startswith(ref)):
            return digest
    raise errors.NotFound(f"There is no version {ref}. `vouch versions` lists them.", "UNKNOWN_VERSION")


def _version(digest: str) -> m.Version:
    kind = m.VERSION_KIND_REWARD if digest == REWARD else m.VERSION_KIND_GENERATOR
    version = m.Version(
        digest=digest, name=NAMES[digest], kind=kind, format="diffusers", size_bytes=1_500_000
    )
    version.created_at.FromSeconds(1_700_000_000)
    if digest == REWARD:
        version.lineage.notes.update({"scale": {"meaning": "probability that an expert finds it plausible"}})
        version.lineage.metrics.update({"ece": 0.02, "ece_low": 0.01, "ece_high": 0.04})
    if digest == CANDIDATE:
        version.format, version.parent, version.parent_name = "lora", GENERATOR, NAMES[GENERATOR]
        version.lineage.MergeFrom(
            m.VersionLineage(
                command="vouch train align",
                run_id="align-1",
                data={"ratings": "d" * 64},
                rating_count=2,
                rating_ids=["rating-1", "rating-2"],
                metrics={"plausible": 0.9},
            )
        )
        version.evidence.update(EVIDENCE)
    return version


def page(request: Any, total: int) -> tuple[int, int, str]:
    """Start and end index of the requested page, and the token of the next page."""
    start = int(request.page_token or 0)
    end = start + (request.page_size or 100)
    return start, end, str(end) if end < total else ""
