"""``vouch concept``: teach the generator sub-types without labels, from experts' sub-labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vouch.cli.desk import Desk, Exhibit, Question
from vouch.cli.keys import open_keys
from vouch.cli.rate import RaterOption, TerminalScreen, default_rater, recorder, tally_text
from vouch.cli.run_settings import parse_settings, settings_help
from vouch.cli.session import Session, command
from vouch.cli.train import DataOption, DetachOption, SimulatedOption, start
from vouch.domains.criteria import sub_label
from vouch.errors import InvalidInput
from vouch.models.captions import Vocabulary

if TYPE_CHECKING:
    from vouch.client import Client

app = typer.Typer(help="Teach the generator sub-types without labels.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Name of the sub-type, such as 'band neutrophil'.")]
ParentOption = Annotated[str, typer.Option(help="Class of the sub-type, such as neutrophil.")]


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
    """Label images of a class as belonging to a sub-type or not: y yes, n no, u unsure.

    The answers are stored as ratings without a verdict on plausibility. Files of them can be imported with
    `vouch ratings import`; the column is `answer.concept_band_neutrophil`.
    """
    question = Question(id=sub_label(name), text=f"Is it a {name}?")
    with session.connect() as client, open_keys() as keys:
        rater = rater or default_rater(client)
        Vocabulary((parent,), {}).with_concept(name, parent)  # refuses a name that cannot be learned
        desk = Desk((question,), keys, TerminalScreen(), recorder(client, rater), overall=None)
        tally = desk.rate(_unlabelled(client, rater, name, parent, limit))
    session.emit({"rater": rater, **vars(tally)}, lambda: tally_text(tally))


def _unlabelled(client: Client, rater: str, name: str, parent: str, limit: int) -> Iterator[Exhibit]:
    """Images of the class that this rater has not sub-labelled, newest first."""
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
    column: Annotated[
        str, typer.Option(help="Column of --data with the sub-labels. Default: sub-labels come from ratings.")
    ] = "",
    value: Annotated[str, typer.Option(help="Value that marks the sub-type.")] = "",
    other: Annotated[
        list[str] | None,
        typer.Option(help="Value that marks other sub-types. Default: every other value. Repeatable."),
    ] = None,
    simulated: SimulatedOption = False,
    detach: DetachOption = False,
) -> None:
    """Teach the generator a sub-type of one of its classes; publishes a generator with the sub-type in its vocabulary.

    It trains on the sub-labels of `vouch concept label`, or on a column of labelled real images. A classifier head
    trained on these pseudo-labels the other images of the class. Then DRaFT fine-tunes it with classifier ensembles as
    the reward. A prior-preservation loss keeps the other classes.
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
