"""``vouch review``: what experts are asked about besides what was drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vouch.cli import render
from vouch.cli.session import Session, command
from vouch.cli.vocabulary import vocabulary_of

if TYPE_CHECKING:
    from vouch.client.values import ImportRealImagesResponse, RealImage
    from vouch.imagesets import SourceImage

SHOWN = 20

app = typer.Typer(help="Prepare what experts are asked about.", no_args_is_help=True)


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
    count: Annotated[int, typer.Option(min=1, help="At most this many, drawn at random.")] = 500,
    seed: Annotated[int, typer.Option(help="Which are drawn.")] = 0,
    prompt: Annotated[str, typer.Option(help="For images that bring no label or prompt of their own.")] = "",
) -> None:
    """Store labelled real images, to be hidden in reviews: what raters say of them shows how reliable they are.

    They are stored as PNG in the size that the generator draws, cut from the middle, and half of them are worded by
    their class alone: whichever way drawn images are asked for, real ones do not stand out. How often one turns up is
    VOUCH_REVIEW__REAL_SHARE, 7 % by default. What is there already is left.

    Labels come with the images, as for `vouch filter`; rows are counted from 0. Take images that no evaluation reads:
    once rated, they teach the reward model.
    """
    from vouch.imagesets import open_image_set, sampled

    open_image_set(data)  # complains before anything is asked of the system
    with session.connect() as client:
        words = vocabulary_of(client)
        sent = Parcel(sampled(open_image_set(data, words), count, seed), prompt, vary=words is not None)
        report = client.import_real_images(sent)
    failures = sent.refused(report)
    failed = report.failed + len(sent.unreadable)
    told = {"stored": report.stored, "already_stored": report.already_stored, "failed": failed}
    session.emit({**told, "failures": failures}, lambda: _told(**told))
    if failed:
        _explain(failures)
        raise typer.Exit(2)


class Parcel:
    """Real images on their way, and where each of them came from."""

    def __init__(self, images: Iterable[SourceImage], prompt: str, *, vary: bool) -> None:
        self._images, self._prompt, self._vary = images, prompt, vary
        self._keys: list[str] = []
        self.unreadable: list[tuple[str, str]] = []
        """Those that cannot be sent, with the reason."""

    def __iter__(self) -> Iterator[RealImage]:
        from vouch.client.values import RealImage

        for image in self._images:
            if image.problem:
                self.unreadable.append((image.key, image.problem))
                continue
            self._keys.append(image.key)
            yield RealImage(data=image.data, prompt=self._worded(image))

    def _worded(self, image: SourceImage) -> str:
        """Its whole prompt, or its class alone; by its own digest, so that it is the same whenever it is sent."""
        from vouch.images import digest

        whole = image.prompt or self._prompt
        alone = self._vary and int(digest(image.data)[-1], 16) % 2
        return whole.partition(",")[0] if alone else whole

    def refused(self, report: ImportRealImagesResponse) -> list[dict[str, str]]:
        """What could not be stored: its place in the set, and why."""
        lost = [("INVALID_INPUT", key, problem) for key, problem in self.unreadable]
        lost += [(one.reason, self._keys[one.index], one.message) for one in report.failures]
        return [{"image": _place(key), "reason": reason, "message": message} for reason, key, message in lost]


def _place(key: str) -> str:
    shard, _, row = key.rpartition("/")
    return f"{shard} row {int(row)}".strip() if row.isdigit() else key


def _told(*, stored: int, already_stored: int, failed: int) -> str:
    return f"{stored} real images added, {already_stored} already there, {failed} refused"


def _explain(failures: list[dict[str, Any]]) -> None:
    console = render.stderr()
    for one in failures[:SHOWN]:
        console.print(f"{one['image']}: {one['message']}", markup=False, highlight=False)
    if len(failures) > SHOWN:
        console.print(f"... and more; --json lists {len(failures)}.", highlight=False)
    if any(one["reason"] in ("UNKNOWN_LABEL", "UNKNOWN_ATTRIBUTE") for one in failures):
        console.print(
            "Rename these words in the data to words of the generator (`vouch generate ?` lists them), "
            "or leave the images out.",
            highlight=False,
        )
