"""Identity and rights of a caller. They follow from the token alone, never from the message."""

from __future__ import annotations

from dataclasses import dataclass

from vouch.errors import PermissionDenied
from vouch.types.rating import RATER_KINDS
from vouch.types.token import ROLES, SCOPES, Scope, Token


@dataclass(frozen=True)
class Identity:
    """The caller of one RPC."""

    role: str  # one of ROLES
    client: str = (
        ""  # what the connection calls itself, so that clients may take turns; "" when it says nothing
    )
    name: str = ""  # of the token; "" where authentication is off
    scopes: tuple[Scope, ...] = ()

    @classmethod
    def of(cls, token: Token, client: str = "") -> Identity:
        return cls(token.role, client, token.name, token.scopes)

    @classmethod
    def unchecked(cls, client: str = "") -> Identity:
        """Any caller, if authentication is off."""
        return cls("operator", client, "", SCOPES)

    def may(self, role: str) -> bool:
        """Each role includes those before it."""
        return ROLES.index(self.role) >= ROLES.index(role)  # type: ignore[arg-type]

    @property
    def owner(self) -> str | None:
        """Owner of the images that this caller sees: a client's own; None (all images) for raters and operators."""
        return None if self.may("rater") else self.name

    @property
    def is_blinded(self) -> bool:
        """Whether this caller rates, and must not know the source of an image before rating it."""
        return self.role == "rater"

    @property
    def rates_for_others(self) -> bool:
        """Whether it may rate under other names."""
        return "any-rater" in self.scopes

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of ratings that this caller may give."""
        return tuple(scope for scope in self.scopes if scope in RATER_KINDS)

    def rater(self, declared: str) -> str:
        """The name under which this caller rates: the token's, unless it may rate for others.

        Raises:
            PermissionDenied: another name is declared.
        """
        if self.rates_for_others:
            return declared
        if declared and declared != self.name:
            raise PermissionDenied(
                f"This token rates as {self.name}, not as {declared[:80]!r}. Leave the rater out; to record what "
                "others said, use a token with the scope any-rater.",
                "NOT_THIS_RATER",
            )
        return self.name

    def check_kind(self, kind: str) -> None:
        """Raises PermissionDenied for a kind of rating that this token must not give."""
        if kind not in self.kinds:
            raise PermissionDenied(
                f"This token lacks the scope {kind}, so it gives no {kind} ratings. `vouch token create` makes one.",
                "NOT_THIS_KIND",
            )
