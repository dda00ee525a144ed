"""Named tokens: who may call, and whether they still may. Secrets are kept as their SHA-256 alone."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, get_args

import sqlalchemy as sa

from vouch.errors import AlreadyExists, InvalidInput, NotFound
from vouch.storage.catalog import tables
from vouch.storage.catalog.audit import append_entry
from vouch.storage.catalog.database import Database, insert_once
from vouch.types.clock import now
from vouch.types.rating import RaterKind
from vouch.types.token import ROLES, SCOPES, Role, Scope, Token

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_RESERVED = frozenset({"system"})  # what the rollout controller calls itself
_KINDS = get_args(RaterKind)


ADMINISTRATOR = "administrator"
"""The actor of what is done with the state folder itself, without a token."""


class Tokens:
    """All tokens of a catalog. A name is never given to a second token: ratings carry it for ever."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, role: Role, scopes: Collection[Scope] = ()) -> tuple[Token, str]:
        """A new token and its secret, which cannot be read again.

        Raises:
            InvalidInput: a name, role or scope that is none, or scopes for a client, who does not rate.
            AlreadyExists: the name was given before, also to a token that is revoked.
        """
        secret = new_secret()
        if not self.ensure(name, role, scopes, secret):
            raise AlreadyExists(
                f"There is already a token {name}. `vouch token rotate {name}` gives it a new secret; another person "
                "needs another name.",
                "TOKEN_EXISTS",
            )
        return self.get(name), secret

    def ensure(self, name: str, role: Role, scopes: Collection[Scope], secret: str) -> bool:
        """Enter a token whose secret is known already; False where there is one of this name. Raises InvalidInput."""
        _check(name, role, scopes)
        row = {
            "name": name,
            "role": role,
            "scopes": [scope for scope in SCOPES if scope in scopes],
            "digest": digest_of(secret),
            "created_at": now(),
        }
        with self._database.write() as connection:
            new = insert_once(connection, tables.tokens, row)
            if new:
                append_entry(
                    connection, ADMINISTRATOR, "token create", name, {"role": role, "scopes": row["scopes"]}
                )
            return new

    def get(self, name: str) -> Token:
        """Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(tables.tokens).where(tables.tokens.c.name == name)).first()
        if row is None:
            raise NotFound(
                f"There is no token {name[:80]!r}: `vouch token list` names them.", "TOKEN_NOT_FOUND"
            )
        return _token(row)

    def list(self) -> tuple[Token, ...]:
        """Every token, revoked ones too, in the order of their creation."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(tables.tokens).order_by(tables.tokens.c.seq))
            return tuple(_token(row) for row in rows)

    def valid(self) -> dict[str, Token]:
        """The tokens that open the door, by the digest of their secret."""
        query = sa.select(tables.tokens).where(tables.tokens.c.revoked_at.is_(None))
        with self._database.read() as connection:
            return {row.digest: _token(row) for row in connection.execute(query)}

    def revoke(self, name: str) -> Token:
        """The token opens nothing any more; what it did stays under its name. Raises NotFound."""
        token = self.get(name)
        if token.revoked_at is None:
            self._update(name, {"revoked_at": now()}, "token revoke")
        return self.get(name)

    def rotate(self, name: str, secret: str = "") -> str:
        """A new secret for the same name, also after it was revoked; the old secret opens nothing. Raises NotFound."""
        self.get(name)
        secret = secret or new_secret()
        self._update(name, {"digest": digest_of(secret), "revoked_at": None}, "token rotate")
        return secret

    def note_use(self, moments: Mapping[str, datetime]) -> None:
        """Remember when each of these tokens, by name, was last used."""
        for name, moment in moments.items():
            self._update(name, {"last_used_at": moment})

    def _update(self, name: str, values: Mapping[str, Any], audited: str = "") -> None:
        with self._database.write() as connection:
            connection.execute(sa.update(tables.tokens).where(tables.tokens.c.name == name).values(**values))
            if audited:
                append_entry(connection, ADMINISTRATOR, audited, name, {})


def new_secret() -> str:
    """256 random bits behind a word by which scanners for leaked secrets know them."""
    return f"vouch_{secrets.token_urlsafe(32)}"


def digest_of(secret: str) -> str:
    """SHA-256. No salt and no slow hash: a secret of 256 random bits is in no dictionary."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _check(name: str, role: str, scopes: Collection[str]) -> None:
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise InvalidInput(
            f"{name[:80]!r} cannot name a token: use a-z, 0-9, '.', '_' and '-', at most 64, and not 'system'."
        )
    if role not in ROLES:
        raise InvalidInput(f"There is no role {role[:80]!r}; the roles are {', '.join(ROLES)}.")
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown:
        raise InvalidInput(f"There is no scope {unknown[0][:80]!r}; the scopes are {', '.join(SCOPES)}.")
    if role == "client" and scopes:
        raise InvalidInput("A client does not rate, so it has no scopes: leave them out, or make it a rater.")
    if role == "rater" and not set(scopes) & set(_KINDS):
        raise InvalidInput(f"A rater needs a scope that says what its ratings are: {' or '.join(_KINDS)}.")


def _token(row: Any) -> Token:
    values = {name: value for name, value in row._mapping.items() if name not in ("seq", "digest")}
    return Token(**{**values, "scopes": tuple(values["scopes"])})
