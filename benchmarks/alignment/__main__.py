"""Every method of alignment on the same simulated ratings, in the same time, before a judge that taught none of them.

python -m benchmarks.alignment --json FILE [--quick] [--work FOLDER] [--methods NAME,...] [--peers]
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.alignment import peer
from benchmarks.alignment.figures import Gained, add_race, points
from benchmarks.alignment.plan import DEFAULT, PEER, QUICK, Plan
from benchmarks.alignment.world import KEEP, STARTER, Drawn, World
from benchmarks.report import Figure, Report, screen
from training import calibration
from training.evaluation import support
from training.evaluation.intervals import Estimate, bootstrap
from training.evaluation.judge import Judge
from training.plausibility import Plausibility

PBC64 = Path("../shared/data/pbc64")
console = screen()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="ten minutes; the figures mean little")
    parser.add_argument("--work", type=Path, help="keep what is drawn and trained here, and go on from it")
    parser.add_argument(
        "--data",
        type=Path,
        default=PBC64,
        help="folder of pbc64: real images that nobody learned from, and an anchor",
    )
    parser.add_argument(
        "--peers", action="store_true", help="make the environments of trainers that others wrote"
    )
    parser.add_argument("--methods", help="only these, by comma")
    parser.add_argument("--seconds", type=float, help="of training for every method")
    parser.add_argument("--seeds", type=int, help="how many")
    arguments = parser.parse_args()
    plan = _runnable(_plan(arguments), arguments.peers)
    with tempfile.TemporaryDirectory() as scratch:
        report = measured(World(arguments.work or Path(scratch), plan, _real(arguments.data)), plan)
    report.finish(arguments.json, console=console)


def _real(folder: Path) -> Path | None:
    if folder.is_dir():
        return folder
    console.print(
        f"[yellow]There is no {folder}: without real images reward weighting has no anchor, and how much of "
        "the gap to them is closed cannot be said.[/yellow]"
    )
    return None


def _plan(arguments: argparse.Namespace) -> Plan:
    chosen = QUICK if arguments.quick else Plan()
    changes = {
        "methods": tuple(arguments.methods.split(",")) if arguments.methods else chosen.methods,
        "seconds": arguments.seconds or chosen.seconds,
        "seeds": tuple(range(arguments.seeds)) if arguments.seeds else chosen.seeds,
    }
    return Plan(**{**vars(chosen), **changes})


def _runnable(plan: Plan, make: bool) -> Plan:
    """The plan with the methods that can run here; says which cannot, and why."""
    reasons = {method: peer.why_not(method, make) for method in plan.methods}
    for reason in filter(None, reasons.values()):
        console.print(f"[yellow]{reason}[/yellow]")
    return replace(plan, methods=tuple(method for method, reason in reasons.items() if not reason))


def measured(world: World, plan: Plan) -> Report:
    judge, rater = Judge.load(STARTER / "judge"), Plausibility.load(STARTER / "rater")
    report = Report("alignment")
    add_reward(report, world)
    base = Found(world.judged("starter", None), judge, rater)
    base.tell(report, "starter")
    Found(world.rejected(KEEP), judge, rater).tell(report, "rejection_sampling")
    gains: dict[str, list[np.ndarray]] = {}
    seconds: dict[str, list[float]] = {}
    for method in plan.methods:
        for seed in plan.seeds:
            run, lora, figures = world.align(method, seed)
            name = f"{method}_{seed}".replace(" ", "_")
            found = Found(world.judged(run, lora), judge, rater)
            gains.setdefault(method, []).append(found.plausible.astype(float) - base.plausible)
            seconds.setdefault(method, []).append(figures["train_seconds"])
            found.tell(report, name)
            report.add(f"{name}_seconds", Figure(figures["train_seconds"], "s"))
            console.print(
                f"{name}: plausible {found.plausible.mean():.3f} (starter {base.plausible.mean():.3f})"
            )
    add_gains(report, gains, base, world.real_plausible(judge))
    if DEFAULT in gains and PEER in gains:
        ours, theirs = (Gained.of(seconds[method], gains[method]) for method in (DEFAULT, PEER))
        add_race(report, ours, theirs, lambda fraction: _after(fraction, world, judge, base))
    return report


def _after(fraction: float, world: World, judge: Judge, base: Found) -> Gained:
    """The default method with this fraction of the plan's seconds."""
    seconds, gains = [], []
    for seed in world.plan.seeds:
        run, lora, figures = world.align(DEFAULT, seed, fraction * world.plan.seconds)
        drawn = world.judged(run, lora)
        gains.append(judge.assess(drawn.images, drawn.prompts).plausible.astype(float) - base.plausible)
        seconds.append(figures["train_seconds"])
    return Gained.of(seconds, gains)


def add_reward(report: Report, world: World) -> None:
    """The reward on images that it never saw. The rater errs, so no reward can reach 1: what the rater itself would
    reach without its errors stands beside."""
    report.add("reward_seconds", Figure(world.rate()["train_seconds"], "s"))
    unseen = world.on_unseen()
    ece = calibration.calibration_error(unseen.scores, unseen.said)
    perfect = calibration.error_of_perfect(unseen.scores)
    report.add("reward_auroc", _auroc(unseen.scores, unseen.said, must=">= 0.90", aim=">= 0.95"))
    report.add("reward_auroc_ceiling", _auroc(unseen.meant, unseen.said))
    report.add("reward_auroc_noise_free", _auroc(unseen.scores, unseen.meant))
    report.add("reward_ece", Figure(ece.value, "share", ece.low, ece.high, must="<= 0.05", aim="<= 0.02"))
    report.add("reward_ece_of_perfect", Figure(perfect, "share"))


def _auroc(scores: np.ndarray, wanted: np.ndarray, **bars: str) -> Figure:
    found = calibration.auroc(scores, wanted)
    return (
        Figure(found.value, "share", found.low, found.high, **bars)
        if found
        else Figure(None, "share", **bars)
    )


def add_gains(report: Report, gains: dict[str, list[np.ndarray]], base: Found, real: float | None) -> None:
    """The mean over seeds, resampled by pairs of images of one prompt and seed. real: what real images reach."""
    over = {method: np.mean(rows, axis=0) for method, rows in gains.items()}
    for method, rows in over.items():
        report.add(f"{method}_gain_points".replace(" ", "_"), points(rows))
    if DEFAULT not in over:
        return
    if real is not None:
        report.add("real_plausible", Figure(real, "share"))
        gap = real - base.plausible.mean()
        low, high = (bound / gap for bound in bootstrap(over[DEFAULT], np.mean))
        closed = float(over[DEFAULT].mean() / gap)
        report.add("gap_closed", Figure(closed, "share", low, high, ">= 0.6", ">= 0.9"))
    if "reward_weighted" in over:
        report.add("over_rwr_points", points(over[DEFAULT] - over["reward_weighted"], ">= 5", ">= 15"))


class Found:
    """What the judge, and the rater that taught, say of a version's images."""

    def __init__(self, drawn: Drawn, judge: Judge, rater: Plausibility) -> None:
        self._judge, self._drawn = judge, drawn
        self.plausible = judge.assess(drawn.images, drawn.prompts).plausible
        self.verdict = judge.measure(drawn.images, drawn.prompts)
        pixels = torch.from_numpy(np.ascontiguousarray(drawn.images)).permute(0, 3, 1, 2)
        self.by_rater = rater.assess(pixels, drawn.prompts).plausible

    def tell(self, report: Report, name: str) -> None:
        report.add(f"{name}_plausible", _share(self.verdict.plausible))
        report.add(f"{name}_plausible_by_rater", Figure(float(self.by_rater.mean()), "share"))
        report.add(f"{name}_recognised", _share(self.verdict.recognised))
        report.add(f"{name}_coverage", _share(self.verdict.coverage))
        levels = support.recall_levels(self._judge.reference, self._judge.features(self._drawn.images))
        report.add(f"{name}_beta_recall", Figure(support.integrated(levels), "share"))


def _share(estimate: Estimate) -> Figure:
    return Figure(estimate.value, "share", estimate.low, estimate.high)


if __name__ == "__main__":
    main()
