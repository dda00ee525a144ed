"""The RPCs that account for what was done. Part of the operations deployment."""

from __future__ import annotations

from datetime import timezone

from services.identity import Identity
from services.required import required
from services.rollout.history import Served, served_at
from services.rollout.replay import Replays
from vouch import wire
from vouch.pb.v1 import rollout_pb2 as pb
from vouch.storage.audit_head import noted_head
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.storage.state import StateFolder
from vouch.types.account import GetServingHistoryResponse, ReplayImageResponse, ServedSlot
from vouch.types.audit import VerifyAuditResponse
from vouch.types.clock import now


class AccountService:
    """What served, who did what, and whether an image can be drawn again."""

    def __init__(self, folder: StateFolder, catalog: Catalog, registry: Registry, replays: Replays) -> None:
        self._folder, self._catalog, self._registry, self._replays = folder, catalog, registry, replays

    def GetServingHistory(
        self, request: pb.GetServingHistoryRequest, caller: Identity
    ) -> pb.GetServingHistoryResponse:
        moment = request.at.ToDatetime(tzinfo=timezone.utc) if request.HasField("at") else now()
        slots = [request.slot] if request.slot else [serving.slot for serving in self._catalog.serving.list()]
        served = [served_at(self._catalog, self._registry, slot, moment) for slot in slots]
        answer = GetServingHistoryResponse(slots=tuple(map(self._slot, served)))
        return wire.to_message(answer, pb.GetServingHistoryResponse)

    def ListAuditEntries(
        self, request: pb.ListAuditEntriesRequest, caller: Identity
    ) -> pb.ListAuditEntriesResponse:
        page = self._catalog.audit.list(page_size=request.page_size, page_token=request.page_token)
        entries = [wire.to_message(entry, pb.AuditEntry) for entry in page.items]
        return pb.ListAuditEntriesResponse(entries=entries, next_page_token=page.next_token)

    def VerifyAudit(self, request: pb.VerifyAuditRequest, caller: Identity) -> pb.VerifyAuditResponse:
        verdict = self._catalog.audit.verify(request.head, noted_head(self._folder))
        answer = VerifyAuditResponse(
            entries=verdict.entries,
            head=verdict.head,
            intact=verdict.broken_at is None,
            broken_at=verdict.broken_at or 0,
            reason=verdict.reason,
        )
        return wire.to_message(answer, pb.VerifyAuditResponse)

    def ReplayImage(self, request: pb.ReplayImageRequest, caller: Identity) -> pb.ReplayImageResponse:
        replay = self._replays.replay(required(request, "digest"))
        version = replay.record.generator_version
        answer = ReplayImageResponse(
            generator_version=version,
            generator_name=self._catalog.versions.names_of([version]).get(version, ""),
            same=replay.same,
            equal=replay.equal,
            largest_difference=replay.largest_difference,
            data=replay.data,
        )
        return wire.to_message(answer, pb.ReplayImageResponse)

    def _slot(self, served: Served) -> ServedSlot:
        serving, event = served.serving, served.event
        names = self._catalog.versions.names_of([serving.champion, serving.candidate])
        return ServedSlot(
            slot=serving.slot,
            champion_version=serving.champion,
            champion_name=names.get(serving.champion, ""),
            candidate_version=serving.candidate,
            candidate_name=names.get(serving.candidate, ""),
            candidate_percent=serving.percent,
            rollout_id=served.rollout.rollout_id if served.rollout else "",
            decided_by=event.actor if event else "",
            decided_at=event.at if event else None,
            reason=event.reason if event else "",
            gate=served.gate,
            raters=served.raters,
        )
