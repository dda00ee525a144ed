"""The catalog's tokens, cached in memory: a call is authenticated without a query."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta

from vouch.errors import VouchError
from vouch.storage.catalog.tokens import Tokens, digest_of
from vouch.types.clock import now
from vouch.types.token import Token

log = logging.getLogger(__name__)

POLL_S = 1.0
USE_KEPT_EVERY = timedelta(minutes=1)


class Keyring:
    """Reads the tokens once a second, so that new and revoked tokens take effect within a second."""

    def __init__(self, tokens: Tokens, poll_s: float = POLL_S) -> None:
        self._tokens, self._poll_s = tokens, poll_s
        self._valid: Mapping[str, Token] = tokens.valid()
        self._used: dict[str, datetime] = {}
        threading.Thread(target=self._poll, name="keyring", daemon=True).start()

    def find(self, secret: str) -> Token | None:
        """The token of this secret. Looked up by digest, so that timing reveals nothing about the secret."""
        token = self._valid.get(digest_of(secret))
        if token is not None:
            self._used[token.name] = now()
        return token

    def refresh(self) -> None:
        """Note the uses of the last minute, and read the tokens again. Raises VouchError; the old ones then stay."""
        self._valid = self._tokens.valid()
        due = {}
        for token in self._valid.values():
            used = self._used.get(token.name)
            if used and (token.last_used_at is None or used - token.last_used_at > USE_KEPT_EVERY):
                due[token.name] = used
        self._tokens.note_use(due)

    def _poll(self) -> None:
        waiter = threading.Event()
        while not waiter.wait(self._poll_s):
            try:
                self.refresh()
            except VouchError as error:  # a busy database must not end the watch over revoked tokens
                log.warning("the tokens could not be read again: %s", error)
