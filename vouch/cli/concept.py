"""``vouch concept``: sub-types that no label told of, from experts' sub-labels to a generator that draws them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vouch.cli.desk import Desk, Exhibit, Question
from vouch.cli.keys import open_keys
from vouch.cli.rate import RaterOption, TerminalScreen, rater_of, recorder, tallied
from vouch.cli.run_settings import parse_settings, settings_help
from vouch.cli.session import Session, command
from vouch.cli.train import DataOption, DetachOption, SimulatedOption, start
from vouch.domains.criteria import sub_label
from vouch.errors import InvalidInput
from vouch.models.captions import Vocabulary

if TYPE_CHECKING:
    from vouch.client import Client

app = typer.Typer(help="Teach the generator sub-types that its labels never told of.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="The new word, such as 'band neutrophil'.")]
ParentOption = Annotated[str, typer.Option(help="The class that it is a sub-type of, such as neutrophil.")]


@command(
    app,
    "label",
    """
    vouch concept label "band neutrophil" --parent neutrophil
    vouch concept label "band neutrophil" --parent neutrophil --rater haematology-1 --limit 200
    """,
)
def label(
    session: Session,
    name: NameArgument,
    parent: ParentOption,
    rater: RaterOption = "",
    limit: Annotated[int, typer.Option(min=1, help="Stop after this many images.")] = 1000,
) -> None:
    """Say of images of a class whether they are of a sub-type: y yes, n no, u unsure.

    The answers are ratings like any other, but say nothing of how plausible an image is. Files of them can be imported
    with `vouch ratings import`; the column is `answer.concept_band_neutrophil`.
    """
    question = Question(id=sub_label(name), text=f"Is it a {name}?")
    with session.connect() as client, open_keys() as keys:
        rater = rater or rater_of(client)
        Vocabulary((parent,), {}).with_concept(
            name, parent
        )  # a name that could not be learned is not asked about
        desk = Desk((question,), keys, TerminalScreen(), recorder(client, rater), overall=None)
        tally = desk.rate(_unsaid(client, rater, name, parent, limit))
    session.emit({"rater": rater, **vars(tally)}, lambda: tallied(tally))


def _unsaid(client: Client, rater: str, name: str, parent: str, limit: int) -> Iterator[Exhibit]:
    """Images of the class, the newest first, of which this rater has not said whether they are of the sub-type."""
    answered = {one.image for one in client.list_ratings(rater=rater) if sub_label(name) in one.answers}
    for number, image in enumerate(i for i in client.list_images(label=parent) if i.digest not in answered):
        if number == limit:
            return
        yield Exhibit(digest=image.digest, data=client.get_image(image.digest).data, prompt=image.prompt)


@command(
    app,
    "add",
    """
    vouch concept add "band neutrophil" --parent neutrophil
    vouch concept add "band neutrophil" --parent neutrophil --data train.parquet --column subtype --value BNE
    vouch concept add "band neutrophil" --parent neutrophil --minutes 10 --practice-minutes 10 --detach
    """,
    any_options=True,
    more_help=settings_help("concept"),
)
def add(
    session: Session,
    context: typer.Context,
    name: NameArgument,
    parent: ParentOption,
    data: DataOption = None,
    column: Annotated[str, typer.Option(help="Column of --data with sub-labels. Default: ratings.")] = "",
    value: Annotated[str, typer.Option(help="What the column says of the sub-type.")] = "",
    other: Annotated[
        list[str] | None, typer.Option(help="What it says of images that are not. Default: anything else.")
    ] = None,
    simulated: SimulatedOption = False,
    detach: DetachOption = False,
) -> None:
    """Teach the generator a sub-type of one of its classes; publishes a generator that draws it on request.

    It learns from what `vouch concept label` recorded, or from a column of labelled real images. The other images
    of the class are sub-labelled by a head that learns from these. Then it practises: it draws the sub-type and follows
    what tutors, who learned from the same answers, say of its drawings. What it knew before is kept.
    """
    if column and data is None:
        raise InvalidInput("--column names a column of labelled images: give them with --data FILE.")
    if bool(column) != bool(value):
        raise InvalidInput("--column and --value belong together: --column subtype --value BNE.")
    config: dict[str, Any] = {
        "concept": name,
        "kind_of": parent,
        **_sources(data, column, value, other or []),
    }
    if simulated:
        config["kinds"] = ["human", "simulated"]
    config |= parse_settings(context.args)
    with session.connect() as client:
        known = client.describe_generator(str(config.get("generator", "")))
    words = {one.name.replace(" ", "_"): tuple(one.values) for one in known.attributes}
    Vocabulary(tuple(known.labels), words).with_concept(name, parent)
    start(session, "concept", config, detach)


def _sources(data: Path | None, column: str, value: str, others: list[str]) -> dict[str, Any]:
    if data is None:
        return {}
    sources = {"column": column, "value": value, "others": others} if column else {}
    return {"data": str(data.resolve()), **sources}
