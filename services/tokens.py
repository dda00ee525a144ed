"""The three tokens that every system has, so that a single user need make none: client, rater and operator."""

from __future__ import annotations

import contextlib

from vouch.catalog import Catalog
from vouch.catalog.tokens import new_secret
from vouch.errors import VouchError
from vouch.records import ROLES, SCOPES, Role, Scope
from vouch.settings import Settings

# Whoever can read access.json is the user of the system: they may rate under any name, and hand in what others said.
DEFAULT_SCOPES: dict[Role, tuple[Scope, ...]] = {"client": (), "rater": SCOPES, "operator": SCOPES}


def default_tokens(settings: Settings) -> dict[str, str]:
    """The secrets for access.json by role: those of the last start, or fresh ones. One that was revoked stays away."""
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
