"""Files generated images in the catalog, or in the outbox while the catalog is unavailable."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from vouch.errors import Unavailable
from vouch.storage.catalog import Catalog
from vouch.storage.outbox import Outbox, Unfiled
from vouch.types.image import ImageRecord
from vouch.types.score import Score

log = logging.getLogger(__name__)

EVERY_S = 5.0
"""Seconds between two polls of the outbox."""


class Filing:
    """Records images durably, also while the catalog is unavailable."""

    def __init__(self, catalog: Catalog, outbox: Outbox, every_s: float = EVERY_S) -> None:
        self._catalog, self._outbox, self._every_s = catalog, outbox, every_s
        threading.Thread(target=self._watch, name="filing", daemon=True).start()

    def add(self, records: Sequence[ImageRecord], scores: Sequence[Score], owner: str) -> None:
        """When this returns, the records are in the catalog or wait for it. Raises what the stores raise."""
        try:
            self._catalog.images.add(records, scores, owner=owner)
        except Unavailable:
            self._outbox.put(Unfiled(owner=owner, records=tuple(records), scores=tuple(scores)))

    def file(self) -> int:
        """Give the catalog what waits for it; how many calls' images that were. Raises Unavailable while it is away."""
        return self._outbox.file(lambda images: images.into(self._catalog))

    def _watch(self) -> None:
        waiter = threading.Event()
        while not waiter.wait(self._every_s):
            try:
                if filed := self.file():
                    log.warning("the catalog answers again: the images of %d calls were filed", filed)
            except Unavailable:  # still away
                continue
            except Exception:  # this thread has to outlive every fault
                log.exception("what waits for the catalog could not be filed")
