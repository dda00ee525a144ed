"""Access to a state folder on this machine, for commands that need no running system."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vouch.cli.session import Session
from vouch.errors import NotFound
from vouch.extras import require

if TYPE_CHECKING:
    from vouch.settings import Settings
    from vouch.storage.catalog import Catalog


def local_settings(session: Session) -> Settings:
    """The settings of the system with this state folder. Raises NotFound without a state folder."""
    require("server")
    from vouch.settings import load_settings

    settings = load_settings(state=session.state)
    if not settings.folder.root.is_dir():
        raise NotFound(
            f"There is no state folder {settings.folder.root}: run `vouch up` once, or name the folder with --state.",
            "NO_SYSTEM",
        )
    return settings


@contextlib.contextmanager
def local_catalog(session: Session) -> Iterator[tuple[Settings, Catalog]]:
    """The settings and the open catalog. Raises NotFound without a state folder."""
    settings = local_settings(session)
    from vouch.storage.catalog import Catalog

    with Catalog(settings.resolved_catalog_url) as catalog:
        yield settings, catalog
