"""``vouch score``: the reward model's opinion of a few images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vouch.cli import render
from vouch.cli.session import Session, command
from vouch.errors import InvalidInput

if TYPE_CHECKING:
    from vouch.client.values import ImageScore, ScoreItem

PER_CALL = 64
_DIGEST = re.compile(r"^[0-9a-f]{64}$")

app = typer.Typer()


@command(
    app,
    "score",
    """
    vouch score cell.png --prompt neutrophil
    vouch score cells/*.png --prompt "neutrophil, cell size big" --json
    vouch score 3f786850e387550fdab836ed7e6dc881de23001b6a2f2d0e7f9d8c0e4c7b1a55
    """,
)
def score(
    session: Session,
    images: Annotated[list[str], typer.Argument(help="Image files, or digests of images that vouch stores.")],
    prompt: Annotated[
        str, typer.Option(help="What the images should show. Stored images have their own.")
    ] = "",
    version: Annotated[str, typer.Option(help="Reward model by name or digest. Default: what serves.")] = "",
) -> None:
    """Score images against what they should show.

    The score is the probability that an expert finds the image plausible for its prompt. For whole data sets use
    `vouch filter`, which streams, resumes and writes a ledger.
    """
    items = [_item(image, prompt) for image in images]
    scores: list[ImageScore] = []
    with session.connect() as client:
        for start in range(0, len(items), PER_CALL):
            scores += client.score_images(items[start : start + PER_CALL], version=version)
    criteria = sorted({name for one in scores for name in one.criterion_scores})
    rows = [
        (
            one.item_id,
            render.score(one.score, one.score_std),
            *(render.percent(one.criterion_scores.get(c)) for c in criteria),
        )
        for one in scores
    ]
    session.emit(
        {"scores": scores}, lambda: render.table(("image", "score", *(f"#{c}" for c in criteria)), rows)
    )


def _item(image: str, prompt: str) -> ScoreItem:
    from vouch.client.values import ScoreItem

    path = Path(image)
    if path.is_file():
        if not prompt:
            raise InvalidInput(
                f'A score says how well an image fits its prompt. Add --prompt "neutrophil" for {image}.'
            )
        return ScoreItem(item_id=image, data=path.read_bytes(), prompt=prompt)
    if _DIGEST.match(image):
        return ScoreItem(item_id=image, digest=image, prompt=prompt)
    raise InvalidInput(f"{image} is neither an image file nor the 64-digit digest of a stored image.")
