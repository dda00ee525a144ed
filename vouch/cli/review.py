"""``vouch review``: hidden control images of reviews."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vouch.cli import render
from vouch.cli.session import Session, WindowOption, command
from vouch.cli.vocabulary import vocabulary_of
from vouch.errors import InvalidInput, VouchError

if TYPE_CHECKING:
    from vouch.datasets.imagesets import SourceImage
    from vouch.formats.intensity import IntensityWindow
    from vouch.types.image import RealImage
    from vouch.types.rating import ImportRealImagesResponse

SHOWN = 20

app = typer.Typer(help="Manage hidden control images.", no_args_is_help=True)


@command(
    app,
    "add-real",
    """
    vouch review add-real cells/held-out.parquet
    vouch review add-real cells/held-out.parquet --count 200 --seed 1
    vouch review add-real neutrophils/ --prompt neutrophil --json
    """,
)
def add_real(
    session: Session,
    data: Annotated[Path, typer.Argument(help="Labelled images: a folder, a WebDataset .tar, or .parquet.")],
    count: Annotated[int, typer.Option(min=1, help="Maximum number of images, sampled at random.")] = 500,
    seed: Annotated[int, typer.Option(help="Random seed of the selection.")] = 0,
    prompt: Annotated[str, typer.Option(help="Prompt of images without a label or prompt.")] = "",
    window: WindowOption = "",
) -> None:
    """Store labelled real images to hide in reviews. Their ratings measure the reliability of raters.

    They are stored as PNG, center-cropped to the size of the generator's images. Half of them get their class alone as
    the prompt, so that the prompt does not identify real images. VOUCH_REVIEW__REAL_SHARE is their fraction in reviews,
    7 % by default. Images that are stored already are skipped.

    Labels are read from the set, as for `vouch filter`; rows are counted from 0. Use images that no evaluation reads:
    the reward model trains on them once they are rated.
    """
    from vouch.datasets.imagesets import open_image_set, sampled
    from vouch.formats.intensity import IntensityWindow

    open_image_set(data)  # refuses a bad set before the system is called
    with session.connect() as client:
        words = vocabulary_of(client)
        chosen = IntensityWindow.parse(window) if window else None
        images = sampled(open_image_set(data, words, chosen), count, seed)
        sent = Parcel(images, prompt, vary=words is not None, window=chosen)
        report = client.import_real_images(sent)
    failures = sent.refused(report)
    failed = report.failed + len(sent.unreadable)
    counts = {
        "stored": report.stored, "already_stored": report.already_stored, "failed": failed,
        "prompts_filled": sent.filled,
    }  # fmt: skip
    warnings = [{"image": image, "message": message} for image, message in sent.warnings]
    session.emit({**counts, "failures": failures, "warnings": warnings}, lambda: _counts_text(**counts))
    _list(warnings)
    if failed:
        _explain(failures)
        raise typer.Exit(2)


class Parcel:
    """Real images in flight, and the place of each in the set."""

    def __init__(
        self,
        images: Iterable[SourceImage],
        prompt: str,
        *,
        vary: bool,
        window: IntensityWindow | None = None,
    ) -> None:
        self._images, self._prompt, self._vary, self._window = images, prompt, vary, window
        self._keys: list[str] = []
        self.unreadable: list[tuple[str, str]] = []
        """Images that cannot be sent, with the reason."""
        self.warnings: list[tuple[str, str]] = []
        """Images with a warning, and the warning."""
        self.filled = 0
        """Number of images that took the given prompt."""

    def __iter__(self) -> Iterator[RealImage]:
        for image in self._images:
            try:
                sent = self._sent(image)
            except VouchError as error:
                self.unreadable.append((image.key, error.message))
            except Exception as error:  # noqa: BLE001 - one bad image must not end the import
                self.unreadable.append(
                    (image.key, f"It could not be read ({type(error).__name__}: {error}).")
                )
            else:
                self._keys.append(image.key)
                yield sent

    def _sent(self, image: SourceImage) -> RealImage:
        """Raises `InvalidInput` for an image that cannot be sent."""
        from vouch.datasets.imagesets import Prompting
        from vouch.formats.images import range_note, windowed
        from vouch.types.image import RealImage

        prompt, whose = Prompting(self._prompt).choose(image)
        if problem := image.skipped or image.problem or image.prompt_problem:
            raise InvalidInput(problem)
        data = windowed(image.data, self._window) if self._window else image.data
        self.filled += whose == "given"
        notes = (image.note, range_note(image.data, self._window))
        self.warnings += [(_place(image.key), note) for note in notes if note]
        return RealImage(data=data, prompt=self._worded(image.data, prompt))

    def _worded(self, data: bytes, whole: str) -> str:
        """The whole prompt, or its class alone. The digest decides, so that a repeated import sends the same prompt."""
        from vouch.formats.images import digest

        alone = self._vary and int(digest(data)[-1], 16) % 2
        return whole.partition(",")[0] if alone else whole

    def refused(self, report: ImportRealImagesResponse) -> list[dict[str, str]]:
        """Images that were not stored: their place in the set and the reason."""
        lost = [("INVALID_INPUT", key, problem) for key, problem in self.unreadable]
        lost += [(one.reason, self._keys[one.index], one.message) for one in report.failures]
        return [{"image": _place(key), "reason": reason, "message": message} for reason, key, message in lost]


def _place(key: str) -> str:
    shard, _, row = key.rpartition("/")
    return f"{shard} row {int(row)}".strip() if row.isdigit() else key


def _counts_text(*, stored: int, already_stored: int, failed: int, prompts_filled: int) -> str:
    filled = f"; the given prompt was filled in for {prompts_filled}" if prompts_filled else ""
    return f"{stored} real images added, {already_stored} already there, {failed} refused{filled}"


def _list(sentences: list[dict[str, str]]) -> None:
    console = render.stderr()
    for one in sentences[:SHOWN]:
        console.print(f"{one['image']}: {one['message']}", markup=False, highlight=False)
    if len(sentences) > SHOWN:
        console.print(f"... and more; --json lists {len(sentences)}.", highlight=False)


def _explain(failures: list[dict[str, str]]) -> None:
    _list(failures)
    if any(one["reason"] in ("UNKNOWN_LABEL", "UNKNOWN_ATTRIBUTE") for one in failures):
        render.stderr().print(
            "Rename these words in the data to words of the generator's vocabulary (`vouch generate ?` lists it), "
            "or leave the images out.",
            highlight=False,
        )
