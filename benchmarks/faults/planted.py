"""Ten faults of storage and rollouts, planted at seams of the product: the search has to find each of them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from vouch.errors import StorageFull
from vouch.storage import registry
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import database, ratings, rollouts
from vouch.storage.registry import Registry
from vouch.types.clock import now
from vouch.types.rating import NewRating, Rating

Function = Callable[..., Any]


def no_fsync() -> None:
    """Files get their names before their bytes are on the disk."""
    os.fsync = lambda handle: None  # type: ignore[assignment]


def catalog_unsynced() -> None:
    """Transactions are acknowledged while they are in the page cache."""
    prepare: Function = database._prepare_sqlite

    def careless(connection: Any, record: object) -> None:
        prepare(connection, record)
        connection.execute("PRAGMA synchronous=OFF")

    database._prepare_sqlite = careless  # type: ignore[assignment]


def acknowledged_before_commit() -> None:
    """A rating is acknowledged first and stored with the next one."""
    pending: list[tuple[Rating, str]] = []

    def record_many(self: Any, news: Any, domain: Any, *, by: str = "") -> tuple[Rating, ...]:
        with self._database.write() as connection:
            while pending:
                ratings._store(connection, *pending.pop())
            known = [ratings._by_request(connection, by, new.request_id) for new in news]
        made = tuple(old or _rating(new, domain.name) for old, new in zip(known, news, strict=True))
        pending.extend((rating, by) for rating, old in zip(made, known, strict=True) if old is None)
        return made

    ratings.Ratings.record_many = record_many  # type: ignore[assignment,method-assign]


def _rating(new: NewRating, domain: str) -> Rating:
    said = {field.name: getattr(new, field.name) for field in fields(NewRating)}
    return Rating(**said, id=uuid.uuid4().hex, domain=domain, generator_version="", created_at=now())


def stored_twice() -> None:
    """A repeated request is stored once more."""
    store: Function = ratings._store

    def again(connection: Any, rating: Rating, by: str) -> Rating:
        if ratings._by_request(connection, by, rating.request_id) is None:
            return store(connection, rating, by)
        copy = replace(rating, request_id=f"{rating.request_id}#{rating.id[:6]}")
        return replace(store(connection, copy, by), request_id=rating.request_id)

    ratings._store = again  # type: ignore[assignment]


def request_reused() -> None:
    """Another rating under a used request id is acknowledged and dropped."""
    ratings.content = lambda rating: {}  # type: ignore[assignment]


def two_masters() -> None:
    """A controller whose place was taken goes on."""
    rollouts.check_fence = lambda connection, name, fence: None  # type: ignore[assignment]


def stale_decision() -> None:
    """What was decided is carried out whatever has happened since."""
    locked: Function = rollouts._locked
    rollouts._locked = lambda connection, rollout_id, ask: locked(
        connection, rollout_id, replace(ask, revision=None)
    )


def forgotten_rollback() -> None:
    """A rollback is recorded, and the slot goes on with the candidate."""
    apply: Function = rollouts._apply_to_serving

    def forgetful(connection: Any, rollout: Any, action: str, percent: int) -> str:
        return "ROLLED_BACK" if action == "roll_back" else apply(connection, rollout, action, percent)

    rollouts._apply_to_serving = forgetful  # type: ignore[assignment]


def half_version() -> None:
    """A version is in the catalog before its folder is in its place."""

    def indexed(self: Any, version: Any, target: Path, staged: Path) -> bool:
        entered = bool(self._catalog.versions.add(version))
        registry._renamed(staged, target)
        registry.sync(self._models)
        return entered or self._catalog.versions.find(version.digest) is not None

    Registry._indexed = indexed  # type: ignore[method-assign]


def full_disk_ignored() -> None:
    """An image that found no room is acknowledged all the same."""
    put: Function = BlobStore.put

    def hopeful(self: BlobStore, data: bytes) -> str:
        try:
            return str(put(self, data))
        except StorageFull:
            import hashlib

            return hashlib.sha256(data).hexdigest()

    BlobStore.put = hopeful  # type: ignore[method-assign]


PLANTED: dict[str, Callable[[], None]] = {
    "no fsync": no_fsync,
    "catalog unsynced": catalog_unsynced,
    "acknowledged before commit": acknowledged_before_commit,
    "stored twice": stored_twice,
    "request reused": request_reused,
    "two masters": two_masters,
    "stale decision": stale_decision,
    "forgotten rollback": forgotten_rollback,
    "half version": half_version,
    "full disk ignored": full_disk_ignored,
}
NEEDS_POWER = frozenset({"no fsync", "catalog unsynced", "full disk ignored"})
"""Found only where a disk can be cut and filled."""
