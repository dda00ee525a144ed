"""``vouch adapt``: adapt a foundation model to captioned images of another domain, after a data check."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vouch import recipes
from vouch.cli.run_settings import parse_settings, settings_help
from vouch.cli.session import Session, command
from vouch.cli.train import DetachOption, start
from vouch.errors import InvalidInput
from vouch.extras import require
from vouch.models.folders import check_base_folder

OFFLINE = "training"

app = typer.Typer()


DataOption = Annotated[
    Path,
    typer.Option(
        help="Captioned images: a folder (metadata.csv or .jsonl, class folders, DICOM), WebDataset or Parquet.",
        exists=True,
    ),
]
BaseOption = Annotated[
    str,
    typer.Option(
        help="Foundation model: a version, or a diffusers folder.",
        show_default="the serving generator",
    ),
]
OutOption = Annotated[
    Path | None, typer.Option(help="Folder for the result; trains without a running system.")
]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Train in this process, without a running system.")
]
CheckOnlyOption = Annotated[bool, typer.Option("--check-only", help="Check the data and train nothing.")]
DomainOption = Annotated[
    str,
    typer.Option(
        envvar="VOUCH_DOMAIN",
        help="Name of a shipped domain, or folder of a custom one. Default: the system's.",
    ),
]
SizeOption = Annotated[int | None, typer.Option(help="Side of the training images, pixels.", min=8, max=4096)]
WindowOption = Annotated[
    str,
    typer.Option(
        help="Values shown as black and as white, of DICOM files (after rescaling) and greys of more than 8 bits. "
        "Default: each DICOM file's first window.",
        metavar="LOW:HIGH",
    ),
]
AcceptOption = Annotated[
    list[str], typer.Option(help="Code of an error to downgrade to a warning. Repeatable.")
]


@command(
    app,
    "adapt",
    """
    vouch adapt --base stable-diffusion-2-1/ --data chests/
    vouch adapt --base generator-2 --data chests/ --recipe unet --rank 32 --steps 2000 --detach
    vouch adapt --check-only --data dicom/ --window=-1000:400 --json
    """,
    any_options=True,
    more_help=settings_help("adapt"),
)
def adapt(
    session: Session,
    context: typer.Context,
    data: DataOption,
    base: BaseOption = "",
    check_only: CheckOnlyOption = False,
    domain: DomainOption = "",
    size: SizeOption = None,
    window: WindowOption = "",
    accept: AcceptOption = [],  # noqa: B006
    out: OutOption = None,
    offline: OfflineOption = False,
    detach: DetachOption = False,
) -> None:
    """Adapt a foundation model to captioned images of another domain; publishes a generator version.

    The data are checked first: unreadable files, duplicates, leakage between splits and patients, constant captions,
    tinted grey images, the spread of sizes, too few images. Nothing is edited or deleted, and the output names no
    patient. --check-only stops after the check, with exit code 0 if training can start and 2 if it found an error.
    With --offline or --out the training runs in this process, without a running system, and writes a folder (--out).
    """
    _refuse_unused_options(context, check_only, offline or out is not None)
    if check_only:
        _python(session, ["--data", str(data), "--check-only", *_data_options(domain, size, window, accept)])
    settings = parse_settings(context.args)
    if not offline and out is None:
        reading = {"window": window, "accept": accept}
        given = {name: value for name, value in reading.items() if value}
        start(session, "adapt", {"data": str(data), **_base_setting(base), **given, **settings}, detach)
        return
    arguments = ["--data", str(data), *_data_options(domain, None, window, accept)]
    _train_here(session, arguments, {"base": base, "out": out}, settings)


def _train_here(
    session: Session, arguments: list[str], places: Mapping[str, object], settings: dict[str, Any]
) -> None:
    """Replaces this process by the training. places: options of the training, left out if empty."""
    for name, value in places.items():
        arguments += [f"--{name}", str(value)] if value else []
    for name in ("run_dir", "workers"):
        if name in settings:
            arguments += [f"--{name.replace('_', '-')}", str(settings.pop(name))]
    for name, value in recipes.flat(settings).items():
        arguments += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    _python(session, arguments)


def _refuse_unused_options(context: typer.Context, check_only: bool, here: bool) -> None:
    """Raises InvalidInput for a given option without effect. here: whether training runs in this process."""
    ways = {
        "size": (
            check_only,
            "with --check-only: training uses the base's size",
        ),
        "domain": (
            check_only or here,
            "without a system, which has its own domain (VOUCH_DOMAIN of vouch up)",
        ),
        "detach": (not check_only and not here, "if a running system trains"),
        "out": (not check_only, "without --check-only"),
        "offline": (not check_only, "without --check-only"),
    }
    for name, (has_effect, where) in ways.items():
        source = context.get_parameter_source(name)
        if not has_effect and source is not None and source.name == "COMMANDLINE":
            raise InvalidInput(f"--{name} has an effect only {where}. Leave it out.", "NO_EFFECT")
    if check_only and context.args:
        raise InvalidInput(
            f"{context.args[0]} is a setting of a training, and --check-only trains nothing.", "NO_EFFECT"
        )


def _base_setting(base: str) -> dict[str, Any]:
    """The setting that names the foundation model: a folder of this machine, or else a version.

    Raises InvalidInput for a path or hub name that does not exist here.
    """
    if not base:
        return {}
    if Path(base).expanduser().exists() or "/" in base:
        return {"base": str(check_base_folder(Path(base)))}
    return {"parent": base}


def _data_options(domain: str, size: int | None, window: str, accept: list[str]) -> list[str]:
    arguments = []
    for name, value in {"--domain": domain, "--size": size, "--window": window}.items():
        arguments += [f"{name}={value}"] if value else []
    for code in accept:
        arguments += ["--accept", code]
    return arguments


def _python(session: Session, arguments: list[str]) -> None:
    """Replaces this process by `python -m training adapt`."""
    require("train")
    arguments = ["adapt", *arguments, *(["--json"] if session.as_json else [])]
    os.execv(sys.executable, [sys.executable, "-m", OFFLINE, *arguments])  # noqa: S606 - no shell
