"""access.json: the address of a system, and its default tokens client, rater and operator."""

from __future__ import annotations

import contextlib

from vouch.errors import VouchError
from vouch.settings import Access, Settings
from vouch.storage.catalog import Catalog
from vouch.storage.catalog.tokens import new_secret
from vouch.types.token import ROLES, SCOPES, Role, Scope

# Whoever can read access.json is the user of the system: they may rate under any name, and hand in what others said.
DEFAULT_SCOPES: dict[Role, tuple[Scope, ...]] = {"client": (), "rater": SCOPES, "operator": SCOPES}


def access_of(settings: Settings) -> Access:
    """The content of access.json."""
    server = settings.server
    host = server.url_host
    tls = server.tls_cert is not None
    return Access(
        address=f"{'grpcs://' if tls else ''}{host}:{server.grpc_port}",
        http=f"{'https' if tls else 'http'}://{host}:{server.http_port}",
        tokens=default_tokens(settings) if server.auth else {},
    )


def default_tokens(settings: Settings) -> dict[str, str]:
    """The secrets for access.json by role: those of the last start, or new ones. Revoked tokens are left out."""
    known: dict[str, str] = {}
    with contextlib.suppress(VouchError):
        known = settings.folder.read_access().tokens
    with Catalog(settings.resolved_catalog_url) as catalog:
        chosen = {role: _entered(catalog, role, known.get(role, "")) for role in ROLES}
    return {role: secret for role, secret in chosen.items() if secret}


def _entered(catalog: Catalog, role: Role, known: str) -> str:
    """The secret of the token that has the role's name, in the catalog from now on; "" for a revoked one."""
    secret = known or new_secret()
    if not catalog.tokens.ensure(role, role, DEFAULT_SCOPES[role], secret):
        if catalog.tokens.get(role).revoked_at is not None:
            return ""
        catalog.tokens.rotate(role, secret)
    return secret
