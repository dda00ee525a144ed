"""The audit log: every action of an operator, in a chain of digests that an edit or a cut breaks."""

from __future__ import annotations

import builtins
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import sqlalchemy as sa

from vouch.errors import InvalidInput
from vouch.storage.catalog import pages, tables
from vouch.storage.catalog.database import Database
from vouch.types.audit import AuditEntry
from vouch.types.clock import now
from vouch.types.json_values import json_ready
from vouch.types.page import Page

MOST = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LOCK = 0x6175646974  # "audit", the advisory lock that writers of one PostgreSQL queue at


@dataclass(frozen=True)
class AuditVerdict:
    """What `verify` says. broken_at: number of the first entry that does not fit, None when all of them do."""

    entries: int
    head: str
    broken_at: int | None
    reason: str


class AuditLog:
    """Appends and verifies. A head that was noted elsewhere shows that the end was not cut off either."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, actor: str, action: str, subject: str, details: Mapping[str, Any]) -> AuditEntry:
        """One more entry; durable when this returns."""
        with self._database.write() as connection:
            return append_entry(connection, actor, action, subject, details)

    def append_once(
        self, actor: str, action: str, subject: str, details: Mapping[str, Any]
    ) -> AuditEntry | None:
        """`append`, unless this action of this actor on this subject is in the log: a repeated request acts once."""
        table = tables.audit
        same = (table.c.actor == actor) & (table.c.action == action) & (table.c.subject == subject)
        with self._database.write() as connection:
            if connection.execute(sa.select(table.c.number).where(same).limit(1)).first():
                return None
            return append_entry(connection, actor, action, subject, details)

    def head(self) -> AuditEntry | None:
        """The last entry; None when there is none."""
        with self._database.read() as connection:
            return _head(connection)

    def list(self, *, page_size: int = pages.DEFAULT_PAGE_SIZE, page_token: str = "") -> Page[AuditEntry]:
        """The newest first."""
        table, size = tables.audit, min(page_size or pages.DEFAULT_PAGE_SIZE, MOST)
        query = sa.select(table).order_by(table.c.number.desc()).limit(size + 1)
        if page_token:
            query = query.where(table.c.number < _number(page_token))
        with self._database.read() as connection:
            entries = tuple(_entry(row) for row in connection.execute(query))
        more = str(entries[size - 1].number) if len(entries) > size else ""
        return Page(items=entries[:size], next_token=more)

    def entries(self) -> builtins.list[AuditEntry]:
        """All of them, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(tables.audit).order_by(tables.audit.c.number))
            return [_entry(row) for row in rows]

    def verify(self, *heads: str) -> AuditVerdict:
        """Whether every entry still is what was written. heads: digests that were noted before and have to be in it."""
        return verify_chain(self.entries(), *heads)


def append_entry(
    connection: sa.Connection, actor: str, action: str, subject: str, details: Mapping[str, Any]
) -> AuditEntry:
    """Within a transaction, so that an action and its entry are there together or not at all."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    last = _head(connection)
    values: dict[str, Any] = {
        "number": last.number + 1 if last else 1,
        "at": now(),
        "actor": actor,
        "action": action,
        "subject": subject,
        "details": json_ready(details),
        "previous": last.digest if last else "",
    }
    entry = AuditEntry(**values, digest=_digest(values))
    connection.execute(sa.insert(tables.audit).values(**values, digest=entry.digest))
    return entry


def verify_chain(entries: builtins.list[AuditEntry], *heads: str) -> AuditVerdict:
    """The first entry that was edited, or after which one is missing."""
    last = entries[-1].digest if entries else ""
    previous = ""
    for expected, entry in enumerate(entries, start=1):
        if entry.number != expected:
            return AuditVerdict(len(entries), last, expected, f"entry {expected} is missing")
        values = {name: getattr(entry, name) for name in _COVERED}
        if entry.previous != previous or entry.digest != _digest(values):
            return AuditVerdict(
                len(entries), last, expected, f"entry {expected} was changed after it was written"
            )
        previous = entry.digest
    known = {"", *(entry.digest for entry in entries)}
    for head in heads:
        if head not in known:
            reason = f"the noted head {head[:12]} is not in the log: its end was cut, or all of it was written anew"
            return AuditVerdict(len(entries), last, len(entries) + 1, reason)
    return AuditVerdict(len(entries), last, None, "every entry is as it was written")


_COVERED = ("number", "at", "actor", "action", "subject", "details", "previous")


def _digest(values: Mapping[str, Any]) -> str:
    content = {**values, "at": (values["at"] - _EPOCH) // timedelta(microseconds=1)}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _number(page_token: str) -> int:
    if not (page_token.isascii() and page_token.isdecimal() and len(page_token) < 19):
        raise InvalidInput(f"page_token {page_token[:40]!r} is not one that this list gave.")
    return int(page_token)


def _head(connection: sa.Connection) -> AuditEntry | None:
    row = connection.execute(sa.select(tables.audit).order_by(tables.audit.c.number.desc()).limit(1)).first()
    return None if row is None else _entry(row)


def _entry(row: Any) -> AuditEntry:
    return AuditEntry(**row._mapping)
