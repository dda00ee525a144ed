"""Where a system answers and the token of each role, as its access file says."""

from __future__ import annotations

import contextlib
import secrets

from vouch.errors import VouchError
from vouch.settings import Access, Settings

ROLES = ("client", "rater", "operator")


def access_of(settings: Settings) -> Access:
    server = settings.server
    host = f"[{server.host}]" if ":" in server.host else server.host
    tls = server.tls_cert is not None
    return Access(
        address=f"{'grpcs://' if tls else ''}{host}:{server.grpc_port}",
        http=f"{'https' if tls else 'http'}://{host}:{server.http_port}",
        tokens=_tokens(settings) if server.auth else {},
    )


def _tokens(settings: Settings) -> dict[str, str]:
    """The tokens of the last start, so that nobody has to be told new ones; fresh ones where there are none."""
    known: dict[str, str] = {}
    with contextlib.suppress(VouchError):
        known = settings.folder.read_access().tokens
    return {role: known.get(role) or secrets.token_urlsafe(32) for role in ROLES}
