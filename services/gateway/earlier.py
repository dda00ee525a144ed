"""What an earlier call of the same request id has stored, so that a repeat draws only what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vouch.errors import AlreadyExists
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.generation import GeneratedImage, GenerationRequest
from vouch.types.image import ImageRecord
from vouch.types.page import every
from vouch.types.samplers import plain_name, sampler_name


class EarlierImages:
    """Reads the images of a repeated request. Every method waits for the catalog: call it from a worker thread."""

    def __init__(self, catalog: Catalog, blobs: BlobStore, registry: Registry) -> None:
        self._catalog, self._blobs, self._registry = catalog, blobs, registry

    def resume(self, request: GenerationRequest) -> tuple[GenerationRequest, list[GeneratedImage]]:
        """The request with its versions as digests, and what is stored of it.

        Raises:
            NotFound, InvalidInput: of a version that the request names.
            AlreadyExists: its id was used for other images.
        """
        request = replace(
            request,
            version=self._registry.digest(request.version, "generator"),
            reward_version=self._registry.digest(request.reward_version, "reward"),
        )
        records = self._stored(request)
        if not records:
            return request, []
        for record in records:
            _check_same(request, record)
        return replace(request, version=records[0].generator_version), self._restored(request, records)

    def _stored(self, request: GenerationRequest) -> list[ImageRecord]:
        images = self._catalog.images
        return list(
            every(
                lambda token: images.list(
                    owner=request.owner, request_id=request.request_id, page_size=1000, page_token=token
                )
            )
        )

    def _restored(self, request: GenerationRequest, records: Sequence[ImageRecord]) -> list[GeneratedImage]:
        places = {seed: index for index, seed in reversed(list(enumerate(request.seeds)))}
        records = [record for record in records if record.seed in places]
        digests = [record.digest for record in records]
        scores = self._catalog.images.latest_scores(digests) if request.score else {}
        names = self._catalog.versions.names_of(record.generator_version for record in records)
        return [
            GeneratedImage.restored(
                record,
                scores.get(record.digest),
                index=places[record.seed or 0],
                generator_name=names.get(record.generator_version, ""),
                data=self._blobs.get(record.digest),
            )
            for record in records
        ]


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
