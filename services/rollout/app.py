"""The RPCs about versions and which of them serve. Part of the operations deployment."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timezone
from typing import Any

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

import vouch
from services.rollout import policy
from services.rollout.controller import RolloutController, StartOrder
from services.rollout.evidence import Evidence, prove
from services.rollout.history import Served, served_at
from services.rollout.replay import Replays
from vouch.errors import InvalidInput, NotFound, Unavailable
from vouch.pb.v1 import models_pb2, rollout_pb2
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.audit import AuditEntry
from vouch.types.records import ReplicaReport, Rollout, Serving, Version, now

WATCH_S = 0.25
LOOP_S = 1.0


class Models:
    """Reads the registry and the serving state."""

    def __init__(self, catalog: Catalog, registry: Registry, controller: RolloutController) -> None:
        self._catalog, self._registry, self._controller = catalog, registry, controller
        self._started_at = now()

    def list_versions(self, request: Any) -> Any:
        page = self._catalog.versions.list(
            lower(models_pb2.VersionKind, request.kind) or None,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return models_pb2.ListVersionsResponse(
            versions=[self._version(version, full=False) for version in page.items],
            next_page_token=page.next_token,
        )

    def get_version(self, request: Any) -> Any:
        return self._version(self._registry.get(needed("version", request.version)))

    def get_lineage(self, request: Any) -> Any:
        versions = self._registry.lineage(needed("version", request.version))
        return models_pb2.GetLineageResponse(
            versions=[self._version(version, files=False) for version in versions]
        )

    def get_serving(self, request: Any) -> Any:
        slots = [serving for serving in self._catalog.serving.list() if request.slot in ("", serving.slot)]
        if request.slot and not slots:
            raise NotFound(
                f"There is no slot {request.slot!r}: ask for generator or reward.", "SLOT_NOT_FOUND"
            )
        head = self._catalog.audit.head()
        return models_pb2.GetServingResponse(
            slots=[self._slot(serving) for serving in slots],
            vouch_version=vouch.__version__,
            started_at=timestamp(self._started_at),
            audit_head=head.digest if head else "",
        )

    def name(self, digest: str) -> str:
        try:
            return self._registry.get(digest).name if digest else ""
        except NotFound:
            return ""  # a version that was published elsewhere

    def _slot(self, serving: Serving) -> Any:
        reports = self._controller.living(serving.slot)
        return models_pb2.ServingSlot(
            slot=serving.slot,
            champion_version=serving.champion,
            champion_name=self.name(serving.champion),
            candidate_version=serving.candidate,
            candidate_name=self.name(serving.candidate),
            candidate_percent=serving.percent,
            revision=serving.revision,
            converged=bool(reports) and policy.converged(serving, reports) == len(reports),
            replicas=[_replica(report) for report in reports],
        )

    def _version(self, version: Version, *, full: bool = True, files: bool = True) -> Any:
        evidence = self._registry.evidence(version.digest) if full else {}
        return models_pb2.Version(
            digest=version.digest,
            name=version.name,
            kind=models_pb2.VersionKind.Value(f"VERSION_KIND_{version.kind.upper()}"),
            format=version.format,
            parent=version.parent,
            parent_name=self.name(version.parent),
            created_at=timestamp(version.created_at),
            size_bytes=sum(entry.bytes for entry in version.files.values()),
            files=_files(version) if full and files else [],
            lineage=_lineage(version, ratings=full),
            evidence=struct(evidence) if evidence else None,
        )


class Rollouts:
    """Moves versions into serving and back, and watches over it."""

    def __init__(self, catalog: Catalog, models: Models, controller: RolloutController) -> None:
        self._catalog, self._models, self._controller = catalog, models, controller
        self._stop = threading.Event()
        threading.Thread(target=self._watch_over, name="rollouts", daemon=True).start()

    def start(self, request: Any, actor: str) -> Any:
        return self._message(self._controller.start(_start_order(request), actor, request.request_id))

    def promote(self, request: Any, actor: str) -> Any:
        rollout_id, percent = needed("rollout_id", request.rollout_id), _percent(request)
        return self._message(
            self._controller.promote(rollout_id, percent, actor, request.request_id, request.reason)
        )

    def roll_back(self, request: Any, actor: str) -> Any:
        rollout_id = needed("rollout_id", request.rollout_id)
        return self._message(
            self._controller.roll_back(rollout_id, actor, request.request_id, request.reason)
        )

    def set_paused(self, request: Any, actor: str, paused: bool) -> Any:
        rollout_id = needed("rollout_id", request.rollout_id)
        return self._message(
            self._controller.set_paused(rollout_id, paused, actor, request.request_id, request.reason)
        )

    def get(self, rollout_id: str) -> Any:
        return self._message(self._catalog.rollouts.get(needed("rollout_id", rollout_id)))

    def list(self, request: Any) -> Any:
        page = self._catalog.rollouts.list(
            request.slot or None,
            state=upper(rollout_pb2.RolloutState, request.state) or None,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return rollout_pb2.ListRolloutsResponse(
            rollouts=[self._message(rollout) for rollout in page.items], next_page_token=page.next_token
        )

    async def watch(self, rollout_id: str) -> AsyncIterator[Any]:
        """Now, and at every change; ends when the rollout has ended and every replica follows."""
        last = None
        while True:
            message = await asyncio.to_thread(self.get, rollout_id)
            if message != last:
                yield message
                last = message
            ended = message.state != rollout_pb2.ROLLOUT_STATE_ACTIVE
            if ended and message.replicas_converged == message.replicas_total:
                return
            await asyncio.sleep(WATCH_S)

    def _watch_over(self) -> None:
        while not self._stop.wait(LOOP_S):
            try:
                self._controller.step()
            except Unavailable:
                continue  # the catalog is busy; the next look comes soon

    def _message(self, rollout: Rollout) -> Any:
        serving = self._catalog.serving.get(rollout.slot)
        reports = self._controller.living(rollout.slot)
        return rollout_pb2.Rollout(
            rollout_id=rollout.id,
            slot=rollout.slot,
            version=rollout.candidate,
            version_name=self._models.name(rollout.candidate),
            previous_version=rollout.champion,
            previous_name=self._models.name(rollout.champion),
            state=rollout_pb2.RolloutState.Value(f"ROLLOUT_STATE_{rollout.state}"),
            percent=rollout.percent,
            revision=serving.revision,
            replicas_converged=policy.converged(serving, reports),
            replicas_total=len(reports),
            reason=_reason(rollout, serving, reports),
            events=[_event(event) for event in rollout.events],
            created_at=timestamp(rollout.created_at),
            updated_at=timestamp(rollout.updated_at),
            progress=_progress(rollout, self._controller.decision(rollout)),
        )


# ---- messages to values


def _start_order(request: Any) -> StartOrder:
    return StartOrder(
        ref=needed("version", request.version),
        percent=_percent(request),
        steps=tuple(request.steps),
        hold_s=request.hold_s if request.HasField("hold_s") else None,
        shadow=request.shadow,
        sticky=request.sticky,
        force=request.force,
        dry_run=request.dry_run,
        reason=request.reason,
    )


def needed(name: str, value: str) -> str:
    if not value:
        raise InvalidInput(f"{name} is missing: say which one.")
    return value


def _percent(request: Any) -> int | None:
    if not request.HasField("percent"):
        return None
    if not 1 <= request.percent <= 100:
        raise InvalidInput(f"percent is {request.percent}; it must be 1 to 100.")
    return int(request.percent)


def upper(enum: Any, number: int) -> Any:
    """ROLLOUT_STATE_ACTIVE -> "ACTIVE"; "" for the unspecified one."""
    if number == 0 or number not in enum.values():
        return ""
    return enum.Name(number).removeprefix(enum.Name(0).removesuffix("UNSPECIFIED"))


def lower(enum: Any, number: int) -> Any:
    return upper(enum, number).lower()


# ---- values to messages


def timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def _replica(report: ReplicaReport) -> Any:
    return models_pb2.ReplicaReport(
        replica_id=report.replica,
        revision=report.revision,
        champion_version=report.champion,
        candidate_version=report.candidate,
        ok=report.ok,
        reason=report.reason,
        reported_at=timestamp(report.updated_at),
    )


def _files(version: Version) -> list[Any]:
    return [
        models_pb2.VersionFile(path=path, sha256=entry.sha256, size_bytes=entry.bytes)
        for path, entry in sorted(version.files.items())
    ]


def _lineage(version: Version, *, ratings: bool) -> Any:
    lineage = dict(version.lineage)
    ids = [str(item) for item in lineage.pop("ratings", ())]
    message = models_pb2.VersionLineage(
        command=str(lineage.pop("command", "")),
        run_id=str(lineage.pop("run_id", "")),
        data={str(key): str(value) for key, value in dict(lineage.pop("data", None) or {}).items()},
        rating_count=len(ids),
        rating_ids=ids if ratings else [],
        metrics=numbers(lineage.pop("metrics", None)),
    )
    message.notes.CopyFrom(struct(lineage))
    return message


def numbers(values: Any) -> dict[str, float]:
    """The entries of a mapping that are numbers."""
    items = dict(values or {}).items()
    return {str(key): float(value) for key, value in items if isinstance(value, (int, float))}


def struct(values: Any) -> Struct:
    message = Struct()
    message.update(dict(values))
    return message


def _event(event: Any) -> Any:
    return rollout_pb2.RolloutEvent(
        at=timestamp(event.at),
        action=rollout_pb2.RolloutAction.Value(f"ROLLOUT_ACTION_{event.action.upper()}"),
        percent=event.percent,
        actor=event.actor,
        reason=event.reason,
    )


def _progress(rollout: Rollout, decision: policy.Decision | None) -> Any:
    """The plan of a rollout and what is proven so far; None without a plan."""
    plan = rollout.plan
    if plan is None:
        return None
    proof = prove(Evidence.from_json(plan.evidence))
    said = getattr(decision, "reason", "")
    return rollout_pb2.RolloutProgress(
        steps=plan.steps,
        hold_s=plan.hold_s,
        held_s=plan.held_s if plan.held_percent == rollout.percent else 0.0,
        paused=plan.paused,
        automatic=plan.automatic,
        shadow=plan.shadow,
        sticky=plan.sticky,
        gate=struct(plan.gate),
        forced=plan.forced,
        evidence=struct(plan.evidence),
        decision=said if rollout.state == "ACTIVE" else "",
        log10_e_worse=proof.log_e_worse / math.log(10),
        log10_e_not_worse=proof.log_e_not_worse / math.log(10),
    )


def _reason(rollout: Rollout, serving: Serving, reports: Sequence[ReplicaReport]) -> str:
    """Why it was rolled back, or why a replica cannot follow."""
    if rollout.state == "ROLLED_BACK":
        return rollout.events[-1].reason if rollout.events else ""
    refused = [report.reason for report in reports if not report.ok and report.revision == serving.revision]
    return refused[0] if refused else ""


class Account:
    """What served, who did what, and whether an image can be drawn again."""

    def __init__(self, catalog: Catalog, registry: Registry, models: Models, replays: Replays) -> None:
        self._catalog, self._registry, self._models, self._replays = catalog, registry, models, replays

    def history(self, request: Any) -> Any:
        moment = request.at.ToDatetime(tzinfo=timezone.utc) if request.HasField("at") else now()
        slots = [request.slot] if request.slot else [serving.slot for serving in self._catalog.serving.list()]
        served = [served_at(self._catalog, self._registry, slot, moment) for slot in slots]
        return rollout_pb2.GetServingHistoryResponse(slots=[self._slot(one) for one in served])

    def entries(self, request: Any) -> Any:
        page = self._catalog.audit.list(page_size=request.page_size, page_token=request.page_token)
        return rollout_pb2.ListAuditEntriesResponse(
            entries=[_entry(entry) for entry in page.items], next_page_token=page.next_token
        )

    def verify(self, request: Any) -> Any:
        verdict = self._catalog.audit.verify(request.head)
        return rollout_pb2.VerifyAuditResponse(
            entries=verdict.entries,
            head=verdict.head,
            intact=verdict.broken_at is None,
            broken_at=verdict.broken_at or 0,
            reason=verdict.reason,
        )

    def replay(self, request: Any) -> Any:
        replay = self._replays.replay(needed("digest", request.digest))
        version = replay.record.generator_version
        return rollout_pb2.ReplayImageResponse(
            generator_version=version,
            generator_name=self._models.name(version),
            same=replay.same,
            equal=replay.equal,
            largest_difference=replay.largest_difference,
            data=replay.data,
        )

    def _slot(self, served: Served) -> Any:
        serving, event = served.serving, served.event
        message = rollout_pb2.ServedSlot(
            slot=serving.slot,
            champion_version=serving.champion,
            champion_name=self._models.name(serving.champion),
            candidate_version=serving.candidate,
            candidate_name=self._models.name(serving.candidate),
            candidate_percent=serving.percent,
            rollout_id=served.rollout.id if served.rollout else "",
            gate=struct(served.gate),
            raters=dict(served.raters),
        )
        if event is not None:
            message.decided_by, message.reason = event.actor, event.reason
            message.decided_at.FromDatetime(event.at)
        return message


def _entry(entry: AuditEntry) -> Any:
    return rollout_pb2.AuditEntry(
        number=entry.number,
        at=timestamp(entry.at),
        actor=entry.actor,
        action=entry.action,
        subject=entry.subject,
        details=struct(entry.details),
        digest=entry.digest,
    )
