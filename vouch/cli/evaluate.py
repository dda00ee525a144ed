"""``vouch evaluate``: what a version draws, in figures and pictures."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from vouch import recipes
from vouch.cli.session import Session, command
from vouch.cli.train import DetachOption, start
from vouch.errors import InvalidInput
from vouch.extras import require
from vouch.recipes.evaluation import EvaluationRequest

OFFLINE = "training"

app = typer.Typer()

VersionArgument = Annotated[str, typer.Argument(help="Generator version: name, digest or prefix.")]
DataOption = Annotated[
    Path,
    typer.Option(help="Labelled real images that no model has seen: Parquet, tar or folder.", exists=True),
]
AgainstOption = Annotated[
    str, typer.Option(help="Version to compare with, on the same prompts and seeds. Default: what serves.")
]
TrainOption = Annotated[
    Path | None,
    typer.Option(
        help="The images that it learned from; without them nothing is said of copies.", exists=True
    ),
]
JudgeOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the judge. Default: the starter's, for blood cells.", exists=True),
]
FeaturesOption = Annotated[
    list[Path],
    typer.Option(
        help="Folder of a vision model of transformers, such as DINOv2: figures in its features too. Repeatable.",
        exists=True,
    ),
]
FirstOption = Annotated[
    str,
    typer.Option(
        help="The first champion, since which nothing may be lost. Default: the root of --against's lineage."
    ),
]
DomainOption = Annotated[
    str,
    typer.Option(
        envvar="VOUCH_DOMAIN", help="A shipped domain, or the folder of another one. Default: the system's."
    ),
]
SymmetricOption = Annotated[
    bool | None,
    typer.Option(
        help="Flips and quarter turns show the same thing, as of cells but not of chests.",
        show_default="what the domain says",
    ),
]
DownstreamOption = Annotated[
    bool,
    typer.Option("--downstream", help="Also train classifiers on the images: minutes, and it needs --train."),
]
OutOption = Annotated[Path, typer.Option(help="With --offline: folder for evidence.json and report.html.")]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Here and now instead of as a job of the system.")
]
PerClassOption = Annotated[int, typer.Option(help="Images of each class.", min=2)]
SettingOption = Annotated[
    list[str], typer.Option("--set", help="Any other setting: --set seed=1 --set steps=30. Repeatable.")
]


@command(
    app,
    "evaluate",
    """
    vouch evaluate generator-1 --data cells/test.parquet
    vouch evaluate generator-1 --data cells/test.parquet --train cells/train.parquet --detach
    vouch evaluate generator-1 --offline --against starter-generator --data cells/test.parquet --out evidence
    """,
)
def evaluate(
    session: Session,
    version: VersionArgument,
    data: DataOption,
    against: AgainstOption = "",
    train: TrainOption = None,
    judge: JudgeOption = None,
    features: FeaturesOption = [],  # noqa: B006
    first: FirstOption = "",
    domain: DomainOption = "",
    symmetric: SymmetricOption = None,
    downstream: DownstreamOption = False,
    out: OutOption = Path("evidence"),
    per_class: PerClassOption = 50,
    setting: SettingOption = [],  # noqa: B006
    offline: OfflineOption = False,
    detach: DetachOption = False,
) -> None:
    """Measure what a generator draws beside what serves, and say whether it may take its place.

    A job of the system, like a training run; on its GPU where there is one. The verdict is kept with the version, where
    `vouch rollout start` reads it and `vouch versions VERSION` shows it.

    With --offline it draws here from the versions in the state folder, and the system need not run: --features and
    --out are for that alone, and without --against it is measured by itself. The same command again goes on where it
    was interrupted.
    """
    settings = {"per_class": per_class, **recipes.parse_assignments(setting)}
    if not offline:
        if features:
            raise InvalidInput("--features names models of this machine: add --offline.")
        config: dict[str, object] = {
            "version": version, "against": against, "first": first, "data": data, "train": train, "judge": judge,
            "symmetric": symmetric, "downstream": downstream or None, **settings,
        }  # fmt: skip
        start(session, "evaluate", _given(config), detach)
        return
    request = EvaluationRequest(
        version=version, data=data, out=out, state=session.state or Path(os.environ.get("VOUCH_STATE", "state")),
        against=against, first=first, train=train, judge=judge, features=tuple(features), domain=domain,
        symmetric=symmetric, downstream=downstream, settings=settings,
    ).check()  # fmt: skip
    _become_offline_evaluation(request)


def _become_offline_evaluation(request: EvaluationRequest) -> NoReturn:
    """The command of the training extra takes this process's place."""
    require("train")
    arguments = [sys.executable, "-m", OFFLINE, "evaluate", request.model_dump_json()]
    os.execv(sys.executable, arguments)  # noqa: S606 - no shell


def _given(config: dict[str, object]) -> dict[str, object]:
    """What was given, with paths as text."""
    given = {name: value for name, value in config.items() if value not in ("", None)}
    return {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
