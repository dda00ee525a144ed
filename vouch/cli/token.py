"""``vouch token``: create, list, revoke and rotate access tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from vouch.cli import render
from vouch.cli.local import local_catalog
from vouch.cli.session import Session, command
from vouch.errors import VouchError

if TYPE_CHECKING:
    from vouch.settings import Settings
    from vouch.storage.catalog.tokens import Tokens
    from vouch.types.token import Token

app = typer.Typer(
    help="Manage access tokens of people and programs, on the machine of the state folder.",
    no_args_is_help=True,
)

NameArgument = Annotated[str, typer.Argument(help="Name of the token.")]
WITHIN = "A running system applies it within a second."


@command(
    app,
    "create",
    """
    vouch token create --role rater --name alice
    vouch token create --role rater --name sim-1 --scope simulated
    vouch token create --role operator --name import --scope human --scope any-rater
    """,
)
def create(
    session: Session,
    name: Annotated[
        str, typer.Option(help="Unique name of the token; ratings carry it. A name is never reused.")
    ],
    role: Annotated[str, typer.Option(help="client, rater or operator; each role includes those before it.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="Kinds of ratings it may give: human, simulated. any-rater allows other raters' names. Repeatable.",
            show_default="human for raters and operators",
        ),
    ] = None,
) -> None:
    """Create a token and print it once: only its SHA-256 is stored.

    Ratings carry the name of the token. The scope any-rater allows ratings under other names, as for an import. Give a
    simulated rater only the scope simulated, so that its ratings cannot pass for human ones.
    """
    scopes = scope if scope is not None else [] if role == "client" else ["human"]
    with _tokens(session) as (_, tokens):
        token, secret = tokens.create(name, role, scopes)  # type: ignore[arg-type]
    _show(session, token, secret, f"The {token.role} token of {token.name}. {WITHIN} It is not shown again:")


@command(app, "list", "vouch token list --json")
def list_tokens(session: Session) -> None:
    """List tokens with role, scopes, creation time, last use (to the minute) and state."""
    with _tokens(session) as (_, tokens):
        records = tokens.list()
    columns = ("name", "role", "scopes", "created", "last used", "state")
    session.emit(
        {"tokens": records}, lambda: render.table(columns, map(_row, records), empty="No tokens yet.")
    )


@command(app, "revoke", "vouch token revoke alice")
def revoke(session: Session, name: NameArgument) -> None:
    """Revoke a token. Its ratings and audit entries are kept."""
    with _tokens(session) as (settings, tokens):
        token = tokens.revoke(name)
        _keep(settings, name, None)
    session.emit(token, lambda: f"{name} is revoked. {WITHIN}")


@command(app, "rotate", "vouch token rotate alice")
def rotate(session: Session, name: NameArgument) -> None:
    """Give a token a new secret, which replaces the old one. A revoked token becomes valid again."""
    with _tokens(session) as (settings, tokens):
        secret = tokens.rotate(name)
        token = tokens.get(name)
        _keep(settings, name, secret)
    _show(session, token, secret, f"The new token of {name}. {WITHIN} It is not shown again:")


@contextlib.contextmanager
def _tokens(session: Session) -> Iterator[tuple[Settings, Tokens]]:
    with local_catalog(session) as (settings, catalog):
        yield settings, catalog.tokens


def _keep(settings: Settings, name: str, secret: str | None) -> None:
    """Updates access.json, from which every start reads the default tokens."""
    with contextlib.suppress(VouchError):
        access = settings.folder.read_access()
        tokens = {known: value for known, value in access.tokens.items() if known != name}
        if name in ("client", "rater", "operator") and secret is not None:
            tokens[name] = secret
        if tokens != access.tokens:
            settings.folder.write_access(replace(access, tokens=tokens))


def _show(session: Session, token: Token, secret: str, sentence: str) -> None:
    if session.as_json:
        render.print_json({**render.plain(token), "token": secret})
        return
    render.stderr().print(sentence, markup=False, highlight=False)
    typer.echo(secret)  # alone on stdout, for `TOKEN=$(vouch token create …)`


def _row(token: Token) -> tuple[str | Text, ...]:
    return (
        token.name,
        token.role,
        ", ".join(token.scopes) or "–",
        render.ago(token.created_at),
        render.ago(token.last_used_at) if token.last_used_at else "never",
        Text("revoked", style="red") if token.revoked_at else Text("valid", style="green"),
    )
