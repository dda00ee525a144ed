"""Images that the catalog could not take: their records wait here, as durable as their bytes, until it can."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from vouch.errors import DataLoss, NotFound
from vouch.settings import Settings
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.types.image import ImageRecord
from vouch.types.score import Score

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Unfiled:
    """What `Images.add` takes: the images of one call, their scores, and who asked for them."""

    owner: str
    records: tuple[ImageRecord, ...]
    scores: tuple[Score, ...] = ()

    def as_json(self) -> bytes:
        return json.dumps(asdict(self), default=datetime.isoformat).encode()

    @classmethod
    def of_json(cls, data: bytes) -> Unfiled:
        values = json.loads(data)
        return cls(
            owner=values["owner"],
            records=tuple(ImageRecord(**_dated(one)) for one in values["records"]),
            scores=tuple(Score(**_dated(one)) for one in values["scores"]),
        )

    def into(self, catalog: Catalog) -> None:
        """Raises Unavailable while the catalog is away."""
        catalog.images.add(self.records, self.scores, owner=self.owner)


class Outbox:
    """Several processes may share a store. Each finds its own images alone, and files those of all. Thread-safe."""

    def __init__(self, store: BlobStore) -> None:
        self._store, self._lock = store, threading.Lock()
        self._own: dict[str, Unfiled] = {}

    def put(self, images: Unfiled) -> None:
        """When this returns, a power cut loses nothing. Raises what the store raises."""
        digest = self._store.put(images.as_json())
        with self._lock:
            self._own[digest] = images

    def find(self, owner: str, request_id: str) -> list[Unfiled]:
        """What this process has put of a request and is not filed yet."""
        with self._lock:
            waiting = list(self._own.values())
        return [one for one in waiting if (one.owner, one.records[0].request_id) == (owner, request_id)]

    def file(self, take: Callable[[Unfiled], object]) -> int:
        """Hand everything that waits to `take`, and forget what it took; how much that was. Raises what it raises.

        Whoever ends in between, or files the same beside another process, hands an entry over twice.
        """
        count = 0
        for digest in self._store.digests():
            try:
                images = Unfiled.of_json(self._store.get(digest))
            except NotFound:  # another process was first
                continue
            except DataLoss as error:  # one damaged entry keeps no other waiting
                log.error("an image that waits for the catalog cannot be filed: %s", error.message)
                continue
            take(images)
            self._store.remove(digest)
            with self._lock:
                self._own.pop(digest, None)
            count += 1
        return count


def file_all(settings: Settings, catalog: Catalog) -> int:
    """For what reads or removes images by their records: give the catalog what waits for it; how many calls' images."""
    return Outbox(BlobStore(settings.resolved_outbox_url)).file(lambda images: images.into(catalog))


def _dated(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "created_at": datetime.fromisoformat(values["created_at"])}
