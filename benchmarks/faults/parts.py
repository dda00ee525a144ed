"""The real parts of a system on one state folder, and what is asked of them. No Ray: catalog, blobs, registry, and the
controller of rollouts."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from services.rollout.controller import RolloutController, RolloutOptions
from vouch.domains.criteria import load_domain
from vouch.settings import Settings
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.image import ImageRecord
from vouch.types.rating import NewRating
from vouch.types.serving import ReplicaReport

SLOT, RATER, ACTOR = "generator", "rater-1", "operator"
CHAMPION, FIRST_STEP = "first", 5
Answer = dict[str, Any]


class Parts:
    """What one process of a system holds. Each public method is one request; its answer is the acknowledgement."""

    def __init__(self, settings: Settings) -> None:
        self.catalog = Catalog(settings.resolved_catalog_url)
        self.blobs = BlobStore(settings.resolved_blobs_url)
        self.registry = Registry(self.catalog, settings.folder.models)
        self._domain = load_domain("blood_cells")
        self._moved = False
        self._controller = RolloutController(self.catalog, self.registry, self._notify, system="one")

    def perform(self, name: str, arguments: Mapping[str, Any]) -> Answer:
        method: Callable[..., Answer] = getattr(self, f"ask_{name}")
        return method(**arguments)

    def ask_image(self, number: int) -> Answer:
        """Store an image and its record."""
        data = picture(number)
        record = ImageRecord(
            digest=self.blobs.put(data), media_type="image/png", width=8, height=8, size_bytes=len(data),
            source="generated", seed=number, request_id=f"image-{number}",
        )  # fmt: skip
        self.catalog.images.add([record], owner=ACTOR)
        return {"digest": record.digest}

    def ask_rate(self, request: str, number: int, verdict: str) -> Answer:
        new = NewRating(
            request_id=request,
            image=digest_of(number),
            rater=RATER,
            kind="human",
            verdict=verdict,  # type: ignore[arg-type]
        )
        rating = self.catalog.ratings.record(new, self._domain, by=RATER)
        return {"id": rating.id, "verdict": rating.verdict}

    def ask_publish(self, number: int) -> Answer:
        with tempfile.TemporaryDirectory(prefix="vouch-model-") as folder:
            for part in range(3):
                (Path(folder) / f"part-{part}.safetensors").write_bytes(weights(number, part))
            version = self.registry.publish(
                folder, kind="generator", format="diffusers", name=f"model-{number}"
            )
        return {"digest": version.digest}

    def ask_evidence(self, number: int, value: int) -> Answer:
        self.registry.attach_evidence(f"model-{number}", {"value": value, "told": "x" * 3_000})
        return {"value": value}

    def ask_start(self, number: int, request: str) -> Answer:
        options = RolloutOptions(
            ref=f"model-{number}", percent=FIRST_STEP, hold_s=3600.0, force=True, reason="a drill"
        )
        return self._after(self._controller.start(options, ACTOR, request).rollout_id)

    def ask_promote(self, rollout: str, request: str) -> Answer:
        return self._after(self._controller.promote(rollout, None, ACTOR, request, "").rollout_id)

    def ask_roll_back(self, rollout: str, request: str) -> Answer:
        return self._after(self._controller.roll_back(rollout, ACTOR, request, "").rollout_id)

    def ask_refuse(self) -> Answer:
        """A replica says that it cannot load what it shall serve."""
        serving = self.catalog.serving.get(SLOT)
        self.catalog.reports.put(
            ReplicaReport(replica_id="r", slot=SLOT, revision=serving.revision, ok=False, reason="no")
        )
        return {}

    def ask_step(self) -> Answer:
        """One look of the controller. moved: whether it changed what serves."""
        before = self._controller.deposed
        self._moved = False
        self._controller.step()
        return {"moved": self._moved, "deposed": before or self._controller.deposed}

    def _after(self, rollout: str) -> Answer:
        return {"rollout": rollout}

    def _notify(self, slot: str) -> None:
        self._moved = True


def prepare(settings: Settings) -> None:
    """A system that serves its first version."""
    settings.folder.create()
    with Catalog(settings.resolved_catalog_url) as catalog, tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "weights.safetensors").write_bytes(weights(0, 0))
        registry = Registry(catalog, settings.folder.models)
        version = registry.publish(folder, kind="generator", format="diffusers", name=CHAMPION)
        catalog.serving.ensure(SLOT, version.digest)


def picture(number: int) -> bytes:
    """Some bytes of an image, more than a full disk takes: their digest is all that the storage knows of them."""
    return hashlib.sha256(f"picture {number}".encode()).digest() * 2_000


def digest_of(number: int) -> str:
    return hashlib.sha256(picture(number)).hexdigest()


def weights(number: int, part: int) -> bytes:
    return hashlib.sha256(f"weights {number} {part}".encode()).digest() * 300
