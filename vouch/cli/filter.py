"""``vouch filter``: keep the images of a set with a high reward score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vouch.cli import render
from vouch.cli.session import Session, WindowOption, command
from vouch.cli.vocabulary import vocabulary_of

if TYPE_CHECKING:
    from vouch.client import Client
    from vouch.datasets.filter import FilterProgress, Item, Scored, ScoreItems

BATCH = 32  # half a forward pass: while two messages are scored, the next two are decoded

app = typer.Typer()


SourceArgument = Annotated[
    Path, typer.Argument(help="Folder of images, WebDataset .tar, or .parquet.", metavar="IN")
]
OutArgument = Annotated[
    Path,
    typer.Argument(
        help="New folder for the result, or the folder of an interrupted run to resume.", metavar="OUT"
    ),
]
MinScoreOption = Annotated[float, typer.Option(help="Minimum score to accept, 0 to 1.")]
PromptOption = Annotated[str, typer.Option(help="Prompt of images that have none.")]
OverridePromptsOption = Annotated[
    bool,
    typer.Option("--override-prompts", help="Use --prompt also for images that have a prompt."),
]
VersionOption = Annotated[
    str, typer.Option(help="Reward model by name or digest. Default: the serving version.")
]


@command(
    app,
    "filter",
    """
    vouch filter cells/ accepted/ --min-score 0.8 --prompt neutrophil
    vouch filter synthetic.parquet accepted/ --min-score 0.9
    vouch filter shard-0001.tar accepted/ --min-score 0.5 --json | jq .accepted
    """,
)
def filter_command(
    session: Session,
    source: SourceArgument,
    out: OutArgument,
    min_score: MinScoreOption = 0.8,
    prompt: PromptOption = "",
    override_prompts: OverridePromptsOption = False,
    window: WindowOption = "",
    version: VersionOption = "",
) -> None:
    """Score every image of a set and keep those with at least the minimum score.

    Writes OUT/images (the accepted images, unchanged), OUT/ledger.parquet (every score, also of rejected and failed
    images) and OUT/summary.json. Run the same command again to resume after an interruption.

    Every image is counted: seen = accepted + rejected + failed + skipped. The exit code is 2 if a file that looks like
    an image was skipped (an unknown format, a hidden name); the summary lists the reasons.

    Prompts are read from the set: a .txt, .json or .cls beside each image (in a folder or tar), a metadata.csv, .jsonl
    or .parquet with the column file_name, or the Parquet columns prompt, text or caption, or else label and attributes.
    """
    from vouch.datasets.filter import FilterSettings, filter_images
    from vouch.datasets.imagesets import open_image_set
    from vouch.formats.intensity import IntensityWindow
    from vouch.formats.texts import printable_name

    settings = FilterSettings(
        source=printable_name(str(source.resolve())), min_score=min_score, prompt=prompt, version=version,
        override_prompts=override_prompts, window=window,
    )  # fmt: skip
    open_image_set(source)  # refuses a bad set before the system is called
    with session.connect() as client:
        chosen = IntensityWindow.parse(window) if window else None
        images = open_image_set(source, vocabulary_of(client), chosen)
        with render.progress() as bar:
            task = bar.add_task("scoring", total=images.count())

            def advance(progress: FilterProgress) -> None:
                bar.update(task, completed=progress.done, description=f"{progress.accepted} accepted")

            summary = filter_images(images, out, settings, scorer(client), advance)
    session.emit(summary, lambda: _view(summary, out))
    _warn(summary)
    if summary["skipped"]:
        raise typer.Exit(2)


def scorer(client: Client) -> ScoreItems:
    """Adapts the client's score stream to `vouch.datasets.filter`."""
    from vouch.datasets.filter import Scored
    from vouch.types.score import ScoreItem

    def score(items: Iterable[Item], version: str) -> Iterator[Scored]:
        keys: dict[str, str] = {}  # of items in flight, by number: a key may be longer than an id

        def wire() -> Iterator[ScoreItem]:
            for number, item in enumerate(items):
                keys[str(number)] = item.key
                yield ScoreItem(item_id=str(number), data=item.data, prompt=item.prompt)

        for result in client.score_stream(wire(), version=version, batch=BATCH):
            key = keys.pop(result.item_id)
            if result.score is not None:
                yield Scored(
                    key=key,
                    score=result.score.score,
                    score_std=result.score.score_std,
                    criterion_scores=result.score.criterion_scores,
                    reward_version=result.score.reward_version,
                )
            elif result.error is not None:
                yield Scored(key=key, reason=result.error.reason, error=result.error.message)

    return score


def _view(summary: dict[str, Any], out: Path) -> Any:
    total = summary["images"]
    return render.facts(
        {
            "seen": summary["seen"],
            "accepted": f"{summary['accepted']} ({render.percent(summary['accepted'] / total if total else None)})",
            "rejected": summary["rejected"],
            "failed": summary["failed"],
            "skipped": summary["skipped"],
            **_prompts(summary),
            "mean score": "" if summary["mean_score"] is None else f"{summary['mean_score']:.3f}",
            "reward model": render.digest(summary["reward_version"]),
            "speed": f"{summary['images_per_s']:,} images/s"
            if summary["images_per_s"]
            else "nothing left to score",
            "read as": summary["read_as"],
            "written to": out,
        }
    )


def _prompts(summary: dict[str, Any]) -> dict[str, Any]:
    if not summary["prompt"]:
        return {}
    rows = {"prompts filled in": summary["prompts_filled"]}
    return rows | (
        {"prompts overridden": summary["prompts_overridden"]} if summary["override_prompts"] else {}
    )


def _warn(summary: dict[str, Any]) -> None:
    console = render.stderr()
    for why in summary["skipped_why"]:
        examples = ", ".join(why["examples"])
        console.print(f"skipped {why['count']}: {why['reason']} ({examples})", markup=False, highlight=False)
    for warning, count in summary["warnings"].items():
        console.print(f"{count} images: {warning}", markup=False, highlight=False)
    if summary["small_range"]:
        console.print(
            f"{summary['small_range']} images use a small part of their grey values and are nearly black to the reward"
            " model. The ledger's column `note` lists the values of each; give the range with --window LOW:HIGH.",
            markup=False, highlight=False,
        )  # fmt: skip
