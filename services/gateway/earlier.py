"""Images stored by an earlier call with the same request id, so that a repeat generates only the missing ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vouch.errors import AlreadyExists, Unavailable
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.outbox import Outbox, Unfiled
from vouch.storage.registry import Registry
from vouch.types.generation import GeneratedImage, GenerationRequest
from vouch.types.image import ImageRecord
from vouch.types.page import every
from vouch.types.samplers import plain_name, sampler_name
from vouch.types.score import Score


class EarlierImages:
    """Reads the images of a repeated request. Every method waits for the catalog: call it from a worker thread."""

    def __init__(self, catalog: Catalog, blobs: BlobStore, registry: Registry, outbox: Outbox) -> None:
        self._catalog, self._blobs, self._registry, self._outbox = catalog, blobs, registry, outbox

    def resume(self, request: GenerationRequest) -> tuple[GenerationRequest, list[GeneratedImage]]:
        """The request with its versions as digests, and what is stored of it.

        Raises:
            NotFound, InvalidInput: of a version that the request names.
            AlreadyExists: its id was used for other images.
            Unavailable: the catalog does not answer, and it alone knows the version that the request names.
        """
        try:
            request, earlier = self._from_catalog(request)
        except Unavailable:
            if request.version or request.reward_version:
                raise
            earlier = _Earlier()
        for waiting in self._outbox.find(request.owner, request.request_id):
            earlier.add(waiting)
        if not earlier.records:
            return request, []
        for record in earlier.records.values():
            _check_same(request, record)
        version = next(iter(earlier.records.values())).generator_version
        return replace(request, version=version), self._restored(request, earlier)

    def _from_catalog(self, request: GenerationRequest) -> tuple[GenerationRequest, _Earlier]:
        request = replace(
            request,
            version=self._registry.digest(request.version, "generator"),
            reward_version=self._registry.digest(request.reward_version, "reward"),
        )
        records = {record.digest: record for record in self._stored(request)}
        scores = self._catalog.images.latest_scores(list(records)) if records and request.score else {}
        versions = {record.generator_version for record in records.values()}
        names = self._catalog.versions.names_of(versions) if versions else {}
        return request, _Earlier(records, dict(scores), names)

    def _stored(self, request: GenerationRequest) -> list[ImageRecord]:
        images = self._catalog.images
        newest_first = list(
            every(
                lambda token: images.list(
                    owner=request.owner, request_id=request.request_id, page_size=1000, page_token=token
                )
            )
        )
        return newest_first[::-1]

    def _restored(self, request: GenerationRequest, earlier: _Earlier) -> list[GeneratedImage]:
        """One image for each seed, the first that was stored: two tries at the same time may draw one that differs by a
        grey level, or by another version."""
        places = {seed: index for index, seed in reversed(list(enumerate(request.seeds)))}
        first: dict[int, ImageRecord] = {}
        for record in earlier.records.values():
            first.setdefault(record.seed or 0, record)
        return [
            GeneratedImage.restored(
                record,
                earlier.scores.get(record.digest) if request.score else None,
                index=places[seed],
                generator_name=earlier.names.get(record.generator_version, ""),
                data=self._blobs.get(record.digest),
            )
            for seed, record in first.items()
            if seed in places
        ]


@dataclass
class _Earlier:
    """Of one request. records, scores: by the image's digest, the first stored first; names: of versions, by digest,
    none without a catalog."""

    records: dict[str, ImageRecord] = field(default_factory=dict)
    scores: dict[str, Score] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    def add(self, waiting: Unfiled) -> None:
        """What waits for the catalog."""
        for record in waiting.records:
            self.records.setdefault(record.digest, record)
        self.scores.update({score.image: score for score in waiting.scores})


def _check_same(request: GenerationRequest, record: ImageRecord) -> None:
    same = (
        record.prompt == request.prompt
        and request.steps in (None, record.steps)
        and request.guidance in (None, record.guidance)
        and request.choice.agrees_with(record.guidance_options)
        and sampler_name(request.sampler or plain_name(record.sampler), request.eta) == record.sampler
        and request.version in ("", record.generator_version)
    )
    if not same:
        raise AlreadyExists(
            f"request_id {request.request_id!r} was already used for other images. Use a fresh one.",
            "REQUEST_ID_REUSED",
        )
