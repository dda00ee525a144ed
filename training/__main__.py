"""`python -m training pretrain | starter | evaluate`: work outside a running system; training on a Ray of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from training.bar import FollowedBar
from vouch import recipes
from vouch.errors import InvalidInput, VouchError

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
    _, recipe = recipes.parse("pretrain", {"data": str(data.resolve()), **_settings(setting)})
    config = {**recipe.model_dump(mode="json"), "out": str(out.resolve())}
    figures = _run("pretrain", config, run_dir.resolve(), workers)
    print(json.dumps(figures, indent=None if as_json else 1))


@app.command()
def decoder(
    generator: Annotated[
        Path, typer.Option(help="The diffusers folder whose decoder is sharpened, in place.")
    ],
    features: Annotated[Path, typer.Option(help="Folder of an attribute network, such as a rater's.")],
    data: Annotated[Path, typer.Option(help="Labelled images: the training split only.")],
    run_dir: Annotated[Path, typer.Option(help="Checkpoints. The same folder resumes.")] = Path(
        "state/runs/decoder"
    ),
    setting: Annotated[list[str], typer.Option("--set", help="Any setting: --set minutes=10")] = [],  # noqa: B006
) -> None:
    """Sharpens a generator's decoder with a perceptual loss; its latents stay as they are.

    Example: python -m training decoder --generator model --features vouch/starter/rater --data train.parquet
    """
    config = {
        "generator": str(generator.resolve()),
        "features": str(features.resolve()),
        "data": str(data.resolve()),
    }
    print(json.dumps(_run("decoder", {**config, **_settings(setting)}, run_dir.resolve()), indent=1))


@app.command()
def starter(
    data: Annotated[Path, typer.Option(help="Folder of pbc64: train, val and test.parquet.")],
    out: Annotated[Path, typer.Option(help="Where the parts go.")] = Path("vouch/starter"),
    run_dir: Annotated[Path, typer.Option(help="Checkpoints. The same folder resumes.")] = Path(
        "state/runs/starter"
    ),
    part: Annotated[
        list[str], typer.Option(help="rater, generator, judge or reward; repeatable. Default: all.")
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
    figures = build(data.resolve(), out.resolve(), run_dir.resolve(), run, part or PARTS, _settings(setting))
    print(json.dumps(figures, indent=1))


@app.command()
def evaluate(
    version: Annotated[str, typer.Argument(help="Generator version: name, digest or prefix.")],
    data: Annotated[Path, typer.Option(help="Labelled real images that no model has seen.")],
    out: Annotated[Path, typer.Option(help="Folder for evidence.json and report.html.")],
    against: Annotated[
        str, typer.Option(help="Version to compare with, on the same prompts and seeds.")
    ] = "",
    train: Annotated[
        Path | None,
        typer.Option(help="The images that it learned from; without them nothing is said of copies."),
    ] = None,
    judge: Annotated[Path | None, typer.Option(help="Folder of the judge. Default: the starter's.")] = None,
    features: Annotated[
        list[Path],
        typer.Option(help="Folder of a vision model of transformers, such as DINOv2. Repeatable."),
    ] = [],  # noqa: B006
    first: Annotated[
        str,
        typer.Option(
            help="The first champion, since which nothing may be lost. Default: the root of --against's lineage."
        ),
    ] = "",
    symmetric: Annotated[
        bool, typer.Option(help="Flips and quarter turns show the same thing, as of cells but not of chests.")
    ] = True,
    downstream: Annotated[
        bool, typer.Option("--downstream", help="Also train classifiers on the images: minutes.")
    ] = False,
    state: Annotated[Path, typer.Option(help="State folder of the system.")] = Path("state"),
    setting: Annotated[list[str], typer.Option("--set", help="Any setting: --set per_class=100")] = [],  # noqa: B006
) -> None:
    """Measures what a generator version draws, with pictures, alone or against another.

    Example: python -m training evaluate generator-1 --against starter-generator --data test.parquet --out evidence
    """
    import vouch
    from training.evaluate import attach, first_champion
    from training.plans import Store, side

    store = Store.open(state.resolve())
    first = (first or first_champion(store, against)) if against else ""
    config = {
        "version": side(store, version),
        "against": side(store, against) if against else None,
        "first": side(store, first) if first else None,
        "symmetric": symmetric,
        "features": [str(folder.resolve()) for folder in features],
        "cache": str(store.folder.root / "features"),
        "downstream": downstream,
        "data": str(data.resolve()),
        "train": str(train.resolve()) if train else None,
        "judge": str(judge.resolve() if judge else Path(vouch.__file__).parent / "starter" / "judge"),
        "out": str(out.resolve()),
        **_settings(setting),
    }
    figures = _here("evaluate", config, out.resolve() / "work")
    attach(store, version, against, out.resolve(), first)
    print(json.dumps(figures, indent=1))


def _run(kind: str, config: dict[str, Any], folder: Path, workers: int = 1) -> dict[str, Any]:
    from training.jobs import raise_reported, run_on_ray
    from training.worker import Work

    folder.mkdir(parents=True, exist_ok=True)
    job = Work(kind, config, str(folder), tracking_uri=f"sqlite:///{folder}/mlflow.db")
    with FollowedBar(folder / "progress.json"):
        return raise_reported(run_on_ray(job, workers=workers))


def _here(kind: str, config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """In this process, without Ray, on a GPU where there is one. The same folder resumes."""
    import torch

    from training.worker import Work, work

    folder.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with FollowedBar(folder / "progress.json"):
        return work(Work(kind, config, str(folder), device=device))


def _settings(pairs: list[str]) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InvalidInput(f"--set {pair!r} is not of the form NAME=VALUE.")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


if __name__ == "__main__":
    try:
        app()
    except VouchError as error:
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)
