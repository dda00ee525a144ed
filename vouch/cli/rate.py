"""``vouch rate``: rate images in the terminal, one key per question."""

from __future__ import annotations

import getpass
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from vouch.cli import render
from vouch.cli.desk import HELP, Desk, Exhibit, Judgement, Question, RatingTally
from vouch.cli.keys import open_keys
from vouch.cli.session import Session, command

if TYPE_CHECKING:
    from vouch.client import Client

app = typer.Typer()

RaterOption = Annotated[
    str,
    typer.Option(
        help="Name of the rater.",
        show_default="the token's name; your user name if the token has the scope any-rater",
    ),
]


@command(
    app,
    "rate",
    """
    vouch rate
    vouch rate --rater haematology-1 --limit 20
    printf 'yyyyyyyy' | vouch rate --limit 1 --json
    """,
)
def rate(
    session: Session,
    rater: RaterOption = "",
    limit: Annotated[int, typer.Option(min=1, help="Stop after this many images.")] = 1000,
    generator: Annotated[str, typer.Option(help="Only images of this generator.")] = "",
) -> None:
    """Rate images, least-rated first.

    One key answers each question of the checklist: y yes, n no, u unsure; the last question is about the image as a
    whole. b goes back, from the first question to the previous image; a corrected rating supersedes the old one.
    t adds a note, s skips the image, ? explains the question, q quits. A rating is durable before the next image
    appears.
    """
    with session.connect() as client, open_keys() as keys:
        rater = rater or default_rater(client)
        criteria = client.describe_criteria().criteria
        questions = tuple(Question(id=c.criterion_id, text=c.question, help=c.help) for c in criteria)
        desk = Desk(questions, keys, TerminalScreen(), recorder(client, rater))
        tally = desk.rate(queue(client, rater, limit, generator))
    session.emit({"rater": rater, **vars(tally)}, lambda: tally_text(tally))


def default_rater(client: Client) -> str:
    """The default rater. The single user of a machine holds a token with the scope any-rater."""
    caller = client.describe_caller()
    return getpass.getuser() if caller.any_rater else caller.name


def queue(client: Client, rater: str, limit: int, generator: str) -> Iterator[Exhibit]:
    """Images that this rater has not seen, fetched one by one: each rating may change the next one."""
    seen: set[str] = set()
    while len(seen) < limit:
        # A skipped image stays first in the queue, so ask for as many as were passed over.
        items = client.next_for_review(rater, count=min(50, len(seen) + 1), generator_version=generator)
        item = next((one for one in items if one.digest not in seen), None)
        if item is None:
            return
        seen.add(item.digest)
        yield Exhibit(digest=item.digest, data=item.data, prompt=item.prompt)


class recorder:
    """Stores verdicts of one rater."""

    def __init__(self, client: Client, rater: str) -> None:
        self._client = client
        self._rater = rater

    def __call__(self, verdict: Judgement) -> str:
        import vouch
        from vouch.types.rating import NewRating

        rating = self._client.record_rating(
            NewRating(
                request_id=str(uuid.uuid4()),
                image=verdict.image,
                rater=self._rater,
                kind="human",
                verdict=verdict.verdict,  # type: ignore[arg-type]
                answers=verdict.answers,  # type: ignore[arg-type]
                text=verdict.text,
                duration_ms=verdict.duration_ms,
                ui_version=f"cli-{vouch.__version__}",
                supersedes=verdict.supersedes,
            )
        )
        return rating.id


class TerminalScreen:
    """Writes to stderr: stdout is for the result."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or render.stderr()

    def show(self, exhibit: Exhibit, number: int) -> None:
        console = self._console
        if console.is_terminal:
            console.clear()
        console.print(f"[bold]image {number}[/bold]  {render.escape(exhibit.prompt)}", highlight=False)
        if console.color_system:
            console.print(render.half_blocks(exhibit.data, render.image_width(console)))
        console.print(HELP, style="dim", highlight=False)

    def ask(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def note(self, text: str) -> None:
        self._console.print(text, style="yellow", markup=False, highlight=False)


def tally_text(tally: RatingTally) -> str:
    """The counts in one sentence."""
    extra = f", {tally.corrected} corrected" if tally.corrected else ""
    extra += f", {tally.skipped} skipped" if tally.skipped else ""
    return f"{tally.rated} images rated{extra}. Thank you."
