"""The RPCs about versions and which of them serve. Part of the operations deployment."""

from __future__ import annotations

from collections.abc import Sequence

import vouch
from services.identity import Identity
from services.required import required
from services.rollout import policy
from services.rollout.controller import RolloutController
from vouch import wire
from vouch.errors import NotFound
from vouch.pb.v1 import models_pb2 as pb
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.clock import now
from vouch.types.serving import GetServingResponse, Serving, ServingSlot
from vouch.types.version import Version, VersionDetails, VersionFile, VersionLineage


class ModelsService:
    """Reads the registry and the serving state."""

    def __init__(self, catalog: Catalog, registry: Registry, controller: RolloutController) -> None:
        self._catalog, self._registry, self._controller = catalog, registry, controller
        self._started_at = now()

    def ListVersions(self, request: pb.ListVersionsRequest, caller: Identity) -> pb.ListVersionsResponse:
        page = self._catalog.versions.list(
            wire.word(request, "kind") or None, page_size=request.page_size, page_token=request.page_token
        )
        return pb.ListVersionsResponse(
            versions=self._messages(page.items, full=False), next_page_token=page.next_token
        )

    def GetVersion(self, request: pb.GetVersionRequest, caller: Identity) -> pb.Version:
        (message,) = self._messages([self._registry.get(required(request, "version"))])
        return message

    def GetLineage(self, request: pb.GetLineageRequest, caller: Identity) -> pb.GetLineageResponse:
        versions = self._registry.lineage(required(request, "version"))
        return pb.GetLineageResponse(versions=self._messages(versions, files=False))

    def GetServing(self, request: pb.GetServingRequest, caller: Identity) -> pb.GetServingResponse:
        slots = [serving for serving in self._catalog.serving.list() if request.slot in ("", serving.slot)]
        if request.slot and not slots:
            raise NotFound(
                f"There is no slot {request.slot!r}: ask for generator or reward.", "SLOT_NOT_FOUND"
            )
        names = self._catalog.versions.names_of(
            [digest for serving in slots for digest in (serving.champion, serving.candidate)]
        )
        head = self._catalog.audit.head()
        answer = GetServingResponse(
            slots=tuple(self._slot(serving, names) for serving in slots),
            vouch_version=vouch.__version__,
            started_at=self._started_at,
            audit_head=head.digest if head else "",
        )
        return wire.to_message(answer, pb.GetServingResponse)

    def _slot(self, serving: Serving, names: dict[str, str]) -> ServingSlot:
        reports = self._controller.live_reports(serving.slot)
        return ServingSlot(
            slot=serving.slot,
            champion_version=serving.champion,
            champion_name=names.get(serving.champion, ""),
            candidate_version=serving.candidate,
            candidate_name=names.get(serving.candidate, ""),
            candidate_percent=serving.percent,
            revision=serving.revision,
            converged=bool(reports) and policy.converged(serving, reports) == len(reports),
            replicas=reports,
        )

    def _messages(
        self, versions: Sequence[Version], *, full: bool = True, files: bool = True
    ) -> list[pb.Version]:
        names = self._catalog.versions.names_of([version.parent for version in versions])
        return [
            wire.to_message(self._details(version, names, full=full, files=full and files), pb.Version)
            for version in versions
        ]

    def _details(self, version: Version, names: dict[str, str], *, full: bool, files: bool) -> VersionDetails:
        entries = sorted(version.files.items()) if files else ()
        return VersionDetails(
            digest=version.digest,
            name=version.name,
            kind=version.kind,
            format=version.format,
            parent=version.parent,
            parent_name=names.get(version.parent, ""),
            created_at=version.created_at,
            size_bytes=version.size_bytes,
            files=tuple(
                VersionFile(path=path, sha256=entry.sha256, size_bytes=entry.bytes) for path, entry in entries
            ),
            lineage=VersionLineage.of(version.lineage, ratings=full),
            evidence=self._registry.evidence(version.digest) if full else {},
        )
