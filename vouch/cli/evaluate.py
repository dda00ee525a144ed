"""``vouch evaluate``: measure a generator version; the gate passes or refuses it."""

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
    typer.Option(
        help="Labelled real images that no model was trained on: Parquet, tar or folder.", exists=True
    ),
]
AgainstOption = Annotated[
    str,
    typer.Option(
        help="Version to compare with, on the same prompts and seeds. Default: the serving version."
    ),
]
TrainOption = Annotated[
    Path | None,
    typer.Option(help="Training images of the version; without them the copy check is skipped.", exists=True),
]
JudgeOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the judge. Default: the starter's judge, for blood cells.", exists=True),
]
FeaturesOption = Annotated[
    list[Path],
    typer.Option(
        help="Folder of a transformers vision model, such as DINOv2, for figures in its features. Repeatable.",
        exists=True,
    ),
]
FirstOption = Annotated[
    str,
    typer.Option(
        help="Baseline of the cumulative non-inferiority check. Default: the root of --against's lineage."
    ),
]
DomainOption = Annotated[
    str,
    typer.Option(
        envvar="VOUCH_DOMAIN",
        help="Name of a shipped domain, or folder of a custom one. Default: the system's.",
    ),
]
SymmetricOption = Annotated[
    bool | None,
    typer.Option(
        help="Whether flips and quarter turns keep an image valid, as for cells but not for chests.",
        show_default="the domain's setting",
    ),
]
DownstreamOption = Annotated[
    bool,
    typer.Option(
        "--downstream", help="Also train classifiers on the generated images. Takes minutes; needs --train."
    ),
]
OutOption = Annotated[Path, typer.Option(help="With --offline: folder for evidence.json and report.html.")]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Run locally instead of as a job of the system.")
]
PerClassOption = Annotated[int, typer.Option(help="Images per class.", min=2)]
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
    """Compare a generator with the champion; the gate passes or refuses it.

    It runs as a job of the system, like a training run, on its GPU if there is one. The verdict is stored with the
    version: `vouch rollout start` reads it and `vouch versions VERSION` shows it.

    With --offline it runs locally on the versions in the state folder, without a running system. --features and --out
    apply only to --offline. Without --against, --offline measures the version without a comparison. Run the same
    command again to resume after an interruption.
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
    """Replaces this process by `python -m training evaluate`."""
    require("train")
    arguments = [sys.executable, "-m", OFFLINE, "evaluate", request.model_dump_json()]
    os.execv(sys.executable, arguments)  # noqa: S606 - no shell


def _given(config: dict[str, object]) -> dict[str, object]:
    """The given settings, with paths as text."""
    given = {name: value for name, value in config.items() if value not in ("", None)}
    return {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
