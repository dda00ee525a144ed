"""``vouch replay``: generate a served image again from its record, and compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from vouch.cli.session import Session, command
from vouch.errors import DataLoss

if TYPE_CHECKING:
    from vouch.types.account import ReplayImageResponse

app = typer.Typer()


@command(
    app,
    "replay",
    """
    vouch replay 3f1c0a9b5d...
    vouch replay 3f1c0a9b5d... --out again.png
    """,
)
def replay(
    session: Session,
    image: Annotated[str, typer.Argument(help="Digest of a generated image, or a file with the image.")],
    out: Annotated[Path | None, typer.Option(help="File for the image generated again.")] = None,
) -> None:
    """Generate a served image again with the same version, and compare the two.

    They are the same if every pixel differs by at most one grey level: the other images in a batch can change the last
    bit of a sum. Exits with an error if they differ.
    """
    with session.connect() as client:
        answer = client.replay_image(_digest(image))
    if out is not None:
        out.write_bytes(answer.data)
    if not answer.same:
        raise DataLoss(
            f"{answer.generator_name} generates another image: pixels differ by {answer.largest_difference} levels.",
            "NOT_THE_SAME",
        )
    outcome = {
        name: getattr(answer, name) for name in ("generator_version", "generator_name", "same", "equal")
    }
    session.emit({**outcome, "largest_difference": answer.largest_difference}, lambda: _replayed(answer))


def _digest(image: str) -> str:
    """The digest itself, or the digest of a file."""
    import hashlib

    path = Path(image)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else image


def _replayed(answer: ReplayImageResponse) -> Text:
    how = "equal in every bit" if answer.equal else "the same within one grey level"
    return Text(f"{answer.generator_name} generates it again, {how}.", style="green")
