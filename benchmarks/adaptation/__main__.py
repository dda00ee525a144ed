"""Adapting a foundation model to a new domain, part by part, measured: every recipe at equal compute, from few and from
many images, beside a training from nothing.

    python -m benchmarks.adaptation --base BASE --work WORK --json FILE [--ladder far] [--recipes A,B] [--images 10,5%]
        [--seeds 3 [--first-seed 0]] [--passes N | --minutes N] [--encoder FOLDER]
        [--parts ladder,canaries,regret,ratings]

BASE is what `python -m benchmarks.adaptation.base` makes. `--passes` counts images through the U-Net, a backward pass
as two. A second start with the same WORK goes on where the first was cut; `--look-again` measures anew what is trained.
The parts canaries and regret are measured of the first recipe and number of images, ratings of the first recipe for
every seed, with the rater and the judge of `--models`. `--downstream 5` trains five pairs of classifiers for each cell:
it is asked of 5 % of the images. What is expected of the figures stands in `docs/results/adaptation.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch

from benchmarks.adaptation.canaries import canaries
from benchmarks.adaptation.experiment import Experiment, ExperimentOptions
from benchmarks.adaptation.ladder import ALL, RECIPES, Cell, LadderData, cells
from benchmarks.adaptation.ratings import ratings
from benchmarks.adaptation.regret import regret
from benchmarks.adaptation.sets import DATA, Sets
from benchmarks.adaptation.summary import of_canaries, of_ratings, of_regret, summarised
from benchmarks.report import Report, screen
from vouch import recipes as settings

console = screen()
LADDERS = ("near", "far")
MODELS = Path("benchmarks/adaptation/chest_xray")
"""What `python -m training models` makes for the domain of the far ladder."""


def main() -> None:
    asked = _parser().parse_args()
    options = _options(asked)
    report = Report("adaptation")
    for ladder in asked.ladder.split(","):
        experiment, parts = Experiment(ladder, options), asked.parts.split(",")
        sizes = [size_of(size, experiment.data) for size in asked.images.split(",")]
        seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
        if "ladder" in parts:
            measure(experiment, cells([ladder], asked.recipes.split(","), sizes, seeds))
            report.include(summarised(ladder, experiment.results))
        first = Cell(ladder, asked.recipes.split(",")[0], sizes[0], seeds[0])
        if "canaries" in parts:
            report.include(of_canaries(ladder, canaries(experiment, first, asked.overtrain)))
        if "regret" in parts:
            report.include(of_regret(ladder, regret(experiment, first)))
        if "ratings" in parts:
            of_seeds = [ratings(experiment, first.recipe, seed, asked.models) for seed in seeds]
            report.include(of_ratings(ladder, of_seeds))
    report.finish(asked.json, console=console)


def size_of(text: str, data: LadderData) -> int:
    """Images of each label: a number, "all", or a share of the training images such as "5%"."""
    if text == "all":
        return ALL
    return data.of_each(float(text[:-1]) / 100) if text.endswith("%") else int(text)


def measure(experiment: Experiment, plan: Iterable[Cell]) -> None:
    """Measures every cell that can be; says which cannot, and why."""
    experiment.measure_base()
    for cell in plan:
        if reason := experiment.why_not(cell):
            console.print(f"[yellow]{reason}[/yellow]")
            continue
        figures = experiment.measure(cell)
        console.print(
            f"{cell.name}: validation loss {figures.get('validation_loss')}, {figures['seconds']:.0f} s"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, required=True, help="diffusers folder of the foundation model")
    parser.add_argument("--work", type=Path, required=True, help="what is trained and drawn; goes on from it")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the shared image sets")
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--ladder", default="far", help=f"by comma: {', '.join(LADDERS)}")
    parser.add_argument("--recipes", default=",".join(RECIPES), help=f"by comma: {', '.join(RECIPES)}")
    parser.add_argument("--parts", default="ladder", help="by comma: ladder, canaries, regret, ratings")
    parser.add_argument("--overtrain", type=int, default=3000, help="steps on the planted images alone")
    parser.add_argument(
        "--images", default="10,100", help="of each label, by comma; all: every one; 5%%: of all together"
    )
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--first-seed", type=int, default=0, help="the seeds from this one on")
    parser.add_argument(
        "--passes", type=int, help="U-Net passes of each training; default: as the ladder says"
    )
    parser.add_argument("--minutes", type=float, help="of each training, instead")
    parser.add_argument(
        "--search", action="store_true", help="choose each recipe's learning rate by validation"
    )
    parser.add_argument("--encoder", type=Path, help="folder of a text encoder, for the projections")
    parser.add_argument(
        "--models", type=Path, default=MODELS, help="folder of the rater and the judge, for ratings"
    )
    parser.add_argument("--downstream", type=int, default=0, help="pairs of classifiers for each cell")
    parser.add_argument("--look-again", action="store_true", help="measure trained models anew")
    parser.add_argument("--drawn", type=int, default=192, help="images of each model")
    parser.add_argument("--judge-steps", type=int, default=600, help="steps of the first judge's training")
    parser.add_argument("--no-probe", action="store_true", help="without the second judge")
    parser.add_argument("--set", action="append", default=[], help="any setting of adapt: --set batch=32")
    return parser


def _options(asked: argparse.Namespace) -> ExperimentOptions:
    further = settings.parse_assignments(asked.set)
    batch = int(further.pop("batch", 16))
    return ExperimentOptions(
        base=asked.base, sets=Sets(asked.data, asked.size), work=asked.work, encoder=asked.encoder,
        passes=asked.passes, minutes=asked.minutes, batch=batch, drawn=asked.drawn,
        search=asked.search, judge_steps=asked.judge_steps, probe=not asked.no_probe, settings=settings.nested(further),
        downstream_seeds=asked.downstream, look_again=asked.look_again,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )  # fmt: skip


if __name__ == "__main__":
    main()
