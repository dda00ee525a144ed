"""``vouch token``: who may call a system, and under which name."""

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
    help="Give people and programs tokens of their own. Runs where the system's state folder is.",
    no_args_is_help=True,
)

NameArgument = Annotated[str, typer.Argument(help="Name of the token.")]
WITHIN = "A running system knows it within a second."


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
        str, typer.Option(help="Who will hold it. Ratings carry this name; it is never given again.")
    ],
    role: Annotated[
        str, typer.Option(help="client, rater or operator; each may do what those before it may.")
    ],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What its ratings may be: human, simulated, and under other names: any-rater. May be repeated.",
            show_default="human for raters and operators",
        ),
    ] = None,
) -> None:
    """Make a token and print it, once: only its SHA-256 is kept.

    A rater's ratings carry the token's name, whatever the program that sends them says. With the scope any-rater it may
    hand in what others said. A simulated rater has the scope simulated alone, so that nothing it says passes for a
    person's verdict.
    """
    scopes = scope if scope is not None else [] if role == "client" else ["human"]
    with _tokens(session) as (_, tokens):
        token, secret = tokens.create(name, role, scopes)  # type: ignore[arg-type]
    _show(session, token, secret, f"The {token.role} token of {token.name}. {WITHIN} It is not shown again:")


@command(app, "list", "vouch token list --json")
def list_tokens(session: Session) -> None:
    """List the tokens: role, scopes, when they were made, used last (to the minute) and revoked."""
    with _tokens(session) as (_, tokens):
        records = tokens.list()
    columns = ("name", "role", "scopes", "made", "last used", "state")
    session.emit(
        {"tokens": records}, lambda: render.table(columns, map(_row, records), empty="There is no token yet.")
    )


@command(app, "revoke", "vouch token revoke alice")
def revoke(session: Session, name: NameArgument) -> None:
    """Let a token open nothing any more. What it did stays under its name."""
    with _tokens(session) as (settings, tokens):
        token = tokens.revoke(name)
        _keep(settings, name, None)
    session.emit(token, lambda: f"{name} is revoked. {WITHIN}")


@command(app, "rotate", "vouch token rotate alice")
def rotate(session: Session, name: NameArgument) -> None:
    """Give a token a new secret, also after it was revoked. The old one opens nothing any more."""
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
    """The default tokens stand in access.json too, from where every start takes them."""
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
