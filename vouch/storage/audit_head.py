"""The last known head of the audit log, kept in the state folder, outside the database that holds the log.

The log is a chain that an edit breaks. Only a head that was noted elsewhere shows that its end was cut off, or that all
of it was written anew.
"""

from __future__ import annotations

import contextlib

from vouch.errors import StorageFull
from vouch.storage.atomic import write_whole
from vouch.storage.catalog.audit import AuditLog
from vouch.storage.state import StateFolder


def noted_head(folder: StateFolder) -> str:
    """The digest of the entry that was the last one; "" where none was noted."""
    try:
        return folder.audit_head.read_text("ascii").strip()
    except FileNotFoundError:
        return ""


def note_head(folder: StateFolder, log: AuditLog) -> None:
    """Note the head of a log that holds the one noted before. Of a log that does not, the note stays as evidence.

    A full disk keeps the older note: nothing else fails for lack of a newer one.
    """
    verdict = log.verify(noted_head(folder))
    if verdict.head and verdict.broken_at is None:
        with contextlib.suppress(StorageFull):
            write_whole(folder.audit_head, verdict.head.encode(), mode=0o600)
