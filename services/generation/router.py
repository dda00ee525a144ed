"""Serve's request router for the generation deployment: by free slots, where Serve's own counts requests."""

from __future__ import annotations

from typing import Any

from ray.serve.request_router import FIFOMixin, PendingRequest, ReplicaID, RequestRouter, RunningReplica

from services.generation.routing import FreeSlotsReport, SentImages
from vouch.types.generation import GenerationRequest


# FIFO: without it Serve looks for a request by an id that the calls of one stream share, and the second never leaves.
class FreeSlotsRouter(FIFOMixin, RequestRouter):
    """Ranks the replicas by free slots. Serve sends to the first that is below its limit of calls."""

    def initialize_state(self, **kwargs: Any) -> None:
        self._sent_images = SentImages()

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        if len(candidate_replicas) > 1:
            candidate_replicas = self._rank(candidate_replicas)
        if pending_request is not None:
            self._note(candidate_replicas, pending_request)
        return [[replica] for replica in candidate_replicas]

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        self._sent_images.done(replica_id.unique_id, internal_request_id)

    def _rank(self, replicas: list[RunningReplica]) -> list[RunningReplica]:
        """Replicas at their limit come last: Serve probes them, which takes time."""
        names = {replica.replica_id.unique_id: replica for replica in replicas}
        open_ = {replica.replica_id.unique_id for replica in self.select_available_replicas(replicas)}
        ranked = self._sent_images.rank({name: _report(replica) for name, replica in names.items()})
        return [names[name] for name in sorted(ranked, key=lambda name: name not in open_)]

    def _note(self, ranked: list[RunningReplica], request: PendingRequest) -> None:
        """Log the dispatch once. Serve chooses again when no replica accepts; only then should it back off."""
        if not request.routing_context.should_backoff and ranked:
            name, images = ranked[0].replica_id.unique_id, _images(request)
            self._sent_images.note(name, request.metadata.internal_request_id, images)
        request.routing_context.should_backoff = True


def _report(replica: RunningReplica) -> FreeSlotsReport | None:
    return FreeSlotsReport(**replica.routing_stats) if replica.routing_stats else None


def _images(request: PendingRequest) -> int:
    return sum(len(asked.seeds) for asked in request.args if isinstance(asked, GenerationRequest))
