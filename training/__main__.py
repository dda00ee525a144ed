"""`python -m training pretrain | starter | evaluate`: work outside a running system; training on a Ray of its own."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from training.jobs.progress_bar import ProgressBar
from vouch import recipes
from vouch.cli import render
from vouch.cli.figures import figures_table, image_sheet
from vouch.domains.criteria import load_domain
from vouch.errors import InvalidInput, VouchError
from vouch.formats.escapes import spell_out, visible_lines
from vouch.settings import load_settings

BLOOD_CELLS = "blood_cells"

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Train outside a running system.")


@app.callback()
def main() -> None:
    """Keeps `pretrain` a sub-command."""


@app.command()
def pretrain(
    data: Annotated[Path, typer.Option(help="Labelled Parquet, tar or folder: the training split only.")],
    out: Annotated[Path, typer.Option(help="Where the diffusers folder goes.")],
    run_dir: Annotated[
        Path, typer.Option(help="Checkpoints, sample grids, MLflow. The same folder resumes.")
    ] = Path("state/runs/pretrain"),
    setting: Annotated[list[str], typer.Option("--set", help="Any setting: --set steps=2000")] = [],  # noqa: B006
    workers: Annotated[int, typer.Option(help="Ray Train workers.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Learns a miniature Stable Diffusion from a labelled image set and writes a plain diffusers folder.

    Example: python -m training pretrain --data train.parquet --out model --set minutes=60
    """
    _, recipe = recipes.parse("pretrain", {"data": str(data.resolve()), **recipes.parse_assignments(setting)})
    config = {**recipe.model_dump(mode="json"), "out": str(out.resolve())}
    figures = _run("pretrain", config, run_dir.resolve(), workers)
    _tell("pretrain", figures, run_dir.resolve(), as_json)


@app.command()
def decoder(
    generator: Annotated[
        Path, typer.Option(help="The diffusers folder whose decoder is sharpened, in place.")
    ],
    data: Annotated[Path, typer.Option(help="Labelled images: the training split only.")],
    features: Annotated[
        Path | None,
        typer.Option(help="Folder of an attribute network to compare images by; default EfficientNet-Lite1."),
    ] = None,
    run_dir: Annotated[Path, typer.Option(help="Checkpoints. The same folder resumes.")] = Path(
        "state/runs/decoder"
    ),
    setting: Annotated[list[str], typer.Option("--set", help="Any setting: --set minutes=10")] = [],  # noqa: B006
    ray: Annotated[bool, typer.Option(help="Run as a Ray Train job; without, in this process.")] = True,
) -> None:
    """Sharpens a generator's decoder with a perceptual loss; its latents stay as they are.

    Example: python -m training decoder --generator model --data train.parquet
    """
    config = {
        "generator": str(generator.resolve()),
        "features": str(features.resolve()) if features else None,
        "data": str(data.resolve()),
    }
    run = _run if ray else _here
    figures = run("decoder", {**config, **recipes.parse_assignments(setting)}, run_dir.resolve())
    print(json.dumps(figures, indent=1))


@app.command()
def starter(
    data: Annotated[Path, typer.Option(help="Folder of pbc64: train, val and test.parquet.")],
    out: Annotated[Path, typer.Option(help="Where the parts go.")] = Path("vouch/starter"),
    run_dir: Annotated[Path, typer.Option(help="Checkpoints. The same folder resumes.")] = Path(
        "state/runs/starter"
    ),
    part: Annotated[
        list[str], typer.Option(help="rater, generator, decoder, judge or reward; repeatable.")
    ] = [],  # noqa: B006
    setting: Annotated[
        list[str], typer.Option("--set", help="Any setting of the generator's training: --set minutes=60")
    ] = [],  # noqa: B006
    ray: Annotated[bool, typer.Option(help="Run as Ray Train jobs; without, in this process.")] = True,
) -> None:
    """Learns everything that ships: rater, generator, judge and the first reward model.

    Example: python -m training starter --data pbc64 --out vouch/starter
    """
    from training.starter import PARTS, build

    if unknown := sorted(set(part) - set(PARTS)):
        raise InvalidInput(f"There is no part {', '.join(unknown)}. Parts: {', '.join(PARTS)}.")
    run = _run if ray else _here
    figures = build(
        data.resolve(),
        out.resolve(),
        run_dir.resolve(),
        run,
        part or PARTS,
        recipes.parse_assignments(setting),
    )
    print(json.dumps(figures, indent=1))


@app.command(hidden=True)
def evaluate(
    request: Annotated[str, typer.Argument(help="The request as JSON, as `vouch evaluate` makes it.")],
) -> None:
    """Measures what a generator version draws; `vouch evaluate` is the command for people."""
    from training.evaluation import command
    from vouch.recipes.evaluation import EvaluationRequest

    figures = command.evaluate(EvaluationRequest.model_validate_json(request).check(), _here)
    print(json.dumps(figures, indent=1))


@app.command()
def models(
    data: Annotated[Path, typer.Option(help="Folder of labelled images: train, val and test.parquet.")],
    base: Annotated[Path, typer.Option(help="The diffusers folder that the generator is adapted from.")],
    out: Annotated[Path, typer.Option(help="Where generator, reward, rater and judge go.")],
    domain: Annotated[
        str, typer.Option(help="A shipped domain, or the folder of another one.")
    ] = "chest_xray",
    run_dir: Annotated[Path, typer.Option(help="Checkpoints. The same folder resumes.")] = Path(
        "state/runs/models"
    ),
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 64,
    part: Annotated[
        list[str], typer.Option(help="rater, judge, autoencoder, generator or reward; repeatable.")
    ] = [],  # noqa: B006
    setting: Annotated[
        list[str], typer.Option("--set", help="Any setting of a part: --set generator.minutes=60")
    ] = [],  # noqa: B006
) -> None:
    """Learns all models of a domain's loop, in this process: simulated expert, judge, generator and first reward.

    Example: python -m training models --data cxr224 --base base --out models/chest_xray
    """
    from training.domain_models import PARTS, DomainModels

    chosen, further = load_domain(domain), recipes.nested(recipes.parse_assignments(setting))
    made = DomainModels(
        chosen, data.resolve(), base.resolve(), out.resolve(), run_dir.resolve(), size, further
    )
    print(json.dumps(made.build(_here, part or PARTS), indent=1))


@app.command()
def adapt(
    data: Annotated[Path, typer.Option(help="Captioned images.")],
    base: Annotated[Path | None, typer.Option(help="The diffusers folder that is adapted.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the LoRA or the diffusers folder goes.")] = None,
    run_dir: Annotated[
        Path, typer.Option(help="Checkpoints, sheets, MLflow. The same folder resumes.")
    ] = Path("state/runs/adapt"),
    setting: Annotated[list[str], typer.Option("--set", help="Any setting: --set steps=2000")] = [],  # noqa: B006
    workers: Annotated[int, typer.Option(help="Ray Train workers; 0: in this process, without Ray.")] = 1,
    check_only: Annotated[bool, typer.Option("--check-only", help="Train nothing.")] = False,
    domain: Annotated[str, typer.Option(help="A shipped domain, or the folder of another one.")] = "",
    size: Annotated[int | None, typer.Option(help="Pixels a side that training will use.")] = None,
    window: Annotated[str, typer.Option(help="Values that are black and white in DICOM files.")] = "",
    accept: Annotated[
        list[str], typer.Option(help="Code of an error that is only warned of. Repeatable.")
    ] = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Adapts a foundation model to captioned images; with --check-only it only looks at these.

    Example: python -m training adapt --base stable-diffusion --data chests --out adapted --set steps=500
    """
    from training.adaptation.command import check, settings_of

    chosen = load_domain(domain or load_settings().domain)
    if check_only:
        raise typer.Exit(check(data, chosen, size, window, accept, as_json))
    given = {"data": data, "window": window, "accept": accept}
    config = settings_of(base, out, given, recipes.parse_assignments(setting), chosen)
    run = partial(_run, workers=workers) if workers else _here
    figures = run("adapt", config, run_dir.resolve())
    _tell("adapt", figures, run_dir.resolve(), as_json)


def _run(kind: str, config: dict[str, Any], folder: Path, workers: int = 1) -> dict[str, Any]:
    from training.jobs.ray_train import raise_reported, run_on_ray
    from training.jobs.worker import Work

    folder.mkdir(parents=True, exist_ok=True)
    job = Work(kind, config, str(folder), tracking_uri=f"sqlite:///{folder}/mlflow.db")
    with ProgressBar(folder / "progress.json"):
        return raise_reported(run_on_ray(job, workers=workers))


def _here(kind: str, config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """In this process, without Ray, on a GPU where there is one. The same folder resumes."""
    import torch

    from training.jobs.worker import Work, work

    folder.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with ProgressBar(folder / "progress.json"):
        return work(Work(kind, config, str(folder), device=device))


def _tell(kind: str, figures: dict[str, Any], folder: Path, as_json: bool) -> None:
    """A table of figures and the path of the image sheet, or JSON."""
    if as_json:
        print(json.dumps(figures))
        return
    console = render.stdout()
    if table := figures_table(kind, figures):
        console.print(table)
    if sheet := image_sheet(folder):
        console.print(f"images: {sheet}", highlight=False)


if __name__ == "__main__":
    spell_out(sys.stdout)
    try:
        app()
    except VouchError as error:
        print(visible_lines(f"error: {error.message}"), file=sys.stderr)
        sys.exit(error.exit_code)
