"""``vouch score``: score a few images with the reward model."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vouch.cli import render
from vouch.cli.session import Session, WindowOption, command
from vouch.errors import InvalidInput, VouchError
from vouch.formats.texts import printable_name

if TYPE_CHECKING:
    from vouch.client import Client
    from vouch.formats.intensity import IntensityWindow
    from vouch.types.score import ImageScore, ScoreItem, ScoreResult

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
    images: Annotated[list[str], typer.Argument(help="Image files, or digests of stored images.")],
    prompt: Annotated[str, typer.Option(help="Prompt of the images. Stored images have their own.")] = "",
    window: WindowOption = "",
    version: Annotated[
        str, typer.Option(help="Reward model by name or digest. Default: the serving version.")
    ] = "",
) -> None:
    """Score images against their prompts.

    The score is the probability that an expert finds the image plausible for its prompt. If some of several images
    cannot be scored, they are listed and the exit code is 2. For whole data sets use `vouch filter`, which streams,
    resumes and writes a ledger.
    """
    if not prompt and (file := next((image for image in images if Path(image).is_file()), "")):
        raise InvalidInput(
            f'A score says how well an image fits its prompt. Add --prompt "neutrophil" for {file}.'
        )
    if len(images) == 1:
        with session.connect() as client:
            results = [_single(client, _item(images[0], prompt, window), version)]
    else:
        entries = [_item_or_error(image, prompt, window) for image in images]
        with session.connect() as client:
            results = _scored(client, entries, version)
    scores = [one.score for one in results if one.score]
    failures = [
        {"image": one.item_id, "reason": one.error.reason, "message": one.error.message}
        for one in results
        if one.error
    ]
    session.emit({"scores": scores, "failures": failures}, lambda: _table(scores))
    for failure in failures:
        render.stderr().print(f"{failure['image']}: {failure['message']}", markup=False, highlight=False)
    if failures:
        raise typer.Exit(2)


def _single(client: Client, item: ScoreItem, version: str) -> ScoreResult:
    """The result of a single item. Raises its error."""
    from vouch.types.score import ScoreResult

    (only,) = client.score_images([item], version=version)
    return ScoreResult(item_id=only.item_id, score=only, error=None)


def _scored(client: Client, entries: list[ScoreItem | ScoreResult], version: str) -> list[ScoreResult]:
    """One result per image, in order. Items are scored by the system; results are passed through."""
    from vouch.types.score import ScoreItem

    items = {str(number): one for number, one in enumerate(entries) if isinstance(one, ScoreItem)}
    numbered = (replace(item, item_id=number) for number, item in items.items())
    results = {one.item_id: one for one in client.score_stream(numbered, version=version)} if items else {}
    return [
        _with_id(results[str(number)], one.item_id) if isinstance(one, ScoreItem) else one
        for number, one in enumerate(entries)
    ]


def _item_or_error(image: str, prompt: str, window: str) -> ScoreItem | ScoreResult:
    """The item of one image among several, or its error: one bad file must not stop the others."""
    from vouch.types.score import ItemError, ScoreResult

    try:
        return _item(image, prompt, window)
    except VouchError as error:
        why = ItemError(reason=error.reason, message=error.message)
    except OSError as error:
        why = ItemError(reason=InvalidInput.reason, message=f"The file could not be read: {error.strerror}.")
    except Exception as error:  # noqa: BLE001 - a reader may raise anything on a bad file
        message = f"The file could not be read ({type(error).__name__}: {error})."
        why = ItemError(reason=InvalidInput.reason, message=message)
    return ScoreResult(item_id=printable_name(image), score=None, error=why)


def _with_id(result: ScoreResult, item_id: str) -> ScoreResult:
    score = replace(result.score, item_id=item_id) if result.score else None
    return replace(result, item_id=item_id, score=score)


def _table(scores: list[ImageScore]) -> Any:
    criteria = sorted({name for one in scores for name in one.criterion_scores})
    rows = [
        (
            one.item_id,
            render.score(one.score, one.score_std),
            *(render.percent(one.criterion_scores.get(c)) for c in criteria),
        )
        for one in scores
    ]
    return render.table(("image", "score", *(f"#{c}" for c in criteria)), rows)


def _item(image: str, prompt: str, window: str) -> ScoreItem:
    from vouch.types.score import ScoreItem

    path = Path(image)
    if path.is_file():
        return ScoreItem(item_id=printable_name(image), data=_data(path, window), prompt=prompt)
    if _DIGEST.match(image):
        return ScoreItem(item_id=image, digest=image, prompt=prompt)
    raise InvalidInput(f"{image} is neither an image file nor the 64-digit digest of a stored image.")


def _dicom(path: Path, window: IntensityWindow | None) -> bytes:
    """A PNG of a DICOM file. Raises `InvalidInput` for a file that cannot be read."""
    from vouch.datasets.dicom import read_dicom

    image = read_dicom(path, b"one image groups with no other", window)
    for note in image.notes:
        render.stderr().print(f"{printable_name(path.name)}: {note}", markup=False, highlight=False)
    return image.data


def _data(path: Path, window: str) -> bytes:
    """The file's bytes, with the window applied. The system reports files that are not images."""
    from vouch.datasets.imagesets.items import HEAD_BYTES, is_dicom_file
    from vouch.formats.images import range_note, windowed
    from vouch.formats.intensity import IntensityWindow

    chosen = IntensityWindow.parse(window) if window else None
    data = path.read_bytes()
    if is_dicom_file(path.name, data[:HEAD_BYTES]):
        return _dicom(path, chosen)
    try:
        if chosen:
            return windowed(data, chosen)
        if note := range_note(data):
            render.stderr().print(f"{path.name}: {note}", markup=False, highlight=False)
    except InvalidInput:
        pass
    return data
