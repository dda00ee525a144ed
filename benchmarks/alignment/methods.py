"""Every method of alignment on the same simulated ratings, in the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.alignment.figures import Gained, across_seeds, add_race, gap_closed, points
from benchmarks.alignment.measured_set import Judges, MeasuredSet, share
from benchmarks.alignment.plan import DEFAULT, PEER
from benchmarks.alignment.world import KEEP, World
from benchmarks.report import Figure, Report, screen
from training.evaluation.evidence import paired_changes
from training.evaluation.intervals import rate

COUNTED = ("train_seconds", "forward_passes", "backward_passes", "steps", "best_step", "drift")
"""Of a run's own figures, those that are told; a peer has not all of them."""
STARTER_NAME, REJECTION = "starter", "rejection_sampling"
console = screen()


@dataclass
class MethodRuns:
    """One method: what its images gained on the starter's of the same noise, a row for each training seed."""

    measured: list[MeasuredSet] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    """Of their LoRAs."""

    def gain(self, base: MeasuredSet) -> np.ndarray:
        """By the judge, [S, N]."""
        return np.stack([found.plausible.astype(float) - base.plausible for found in self.measured])

    def gain_by_rater(self, base: MeasuredSet) -> np.ndarray:
        """By the rater that taught."""
        return np.stack([found.by_rater.astype(float) - base.by_rater for found in self.measured])

    def gained(self, base: MeasuredSet) -> Gained:
        return Gained(float(np.mean(self.seconds)), self.gain(base))


def measure(report: Report, world: World) -> None:
    """Adds every figure of the methods."""
    judges = Judges(world.real, world.folder / "features", sealed=True)
    report.add("judged_by_the_sealed_judge", Figure(float(judges.sealed), ""))
    report.add("threads", Figure(torch.get_num_threads(), "threads"))
    world.rate()
    base = MeasuredSet(world.judged("starter", None), judges)
    rejected = MeasuredSet(world.rejected(KEEP), judges)
    guided = MethodRuns([MeasuredSet(world.guided(), judges)])
    versions = Report("versions")
    base.tell(versions, "starter")
    rejected.tell(versions, "rejection_sampling")
    guided.measured[0].tell(versions, "ensemble_guidance")
    runs = {method: _runs(versions, world, judges, method) for method in world.plan.methods}
    folders = {method: found.folders[0] for method, found in runs.items()}
    seconds = world.seconds_an_image({STARTER_NAME: None, **folders})
    costs = {STARTER_NAME: (seconds[STARTER_NAME], base),
             REJECTION: ((seconds[STARTER_NAME] + world.seconds_a_score()) / KEEP, rejected)}  # fmt: skip
    rejection = add_costs(report, costs)
    for method, found in runs.items():
        add_cost(report, _word(method), found, seconds[method], rejection)
    report.add("ensemble_guidance_gain_points", points(guided.gain(base)))
    for method, found in runs.items():
        report.add(f"{_word(method)}_gain_points", points(found.gain(base)))
    add_default(report, runs, base, judges)
    if DEFAULT in runs and PEER in runs:
        ours, theirs = (runs[method].gained(base) for method in (DEFAULT, PEER))
        after, after_by_peer = (partial(_after, method, world, judges, base) for method in (DEFAULT, PEER))
        add_race(report, ours, theirs, after, after_by_peer)
    report.include(versions)


def _runs(report: Report, world: World, judges: Judges, method: str) -> MethodRuns:
    runs = MethodRuns()
    for seed in world.plan.seeds:
        run, lora, figures = world.align(method, seed)
        found = MeasuredSet(world.judged(run, lora), judges)
        runs.measured.append(found)
        runs.seconds.append(figures["train_seconds"])
        runs.folders.append(lora)
        found.tell(report, f"{_word(method)}_{seed}")
        for name in COUNTED:
            if name in figures:
                report.add(
                    f"{_word(method)}_{seed}_{name}", Figure(figures[name], "s" if "sec" in name else "")
                )
        console.print(f"{method} {seed}: plausible {found.plausible.mean():.3f}")
    return runs


def add_costs(report: Report, costs: Mapping[str, tuple[float, MeasuredSet]]) -> float | None:
    """Seconds for each image that the judge accepts, of rejection sampling and of the starter as it is: they lead the
    table, for whatever is trained has to be cheaper. costs: seconds of an image, and the images. Answers rejection's.
    """
    for name in (REJECTION, STARTER_NAME):
        seconds, found = costs[name]
        report.add(f"{name}_seconds_per_accepted", _per_accepted(seconds, found.plausible))
    return report.figures[f"{REJECTION}_seconds_per_accepted"].value


def add_cost(report: Report, name: str, runs: MethodRuns, image_s: float, rejection: float | None) -> None:
    """The same of a trained method, the seconds that it saves on each beside rejection sampling, and, where it saves
    any, after how many accepted images its training has paid for itself."""
    cost = _per_accepted(image_s, np.concatenate([found.plausible for found in runs.measured]))
    report.add(f"{name}_seconds_per_accepted", cost)
    if rejection is None or cost.value is None:
        return
    saved = rejection - cost.value
    report.add(f"{name}_saves_per_accepted", Figure(saved, "s"))
    if saved > 0:
        report.add(f"{name}_pays_after", Figure(float(np.mean(runs.seconds)) / saved, "accepted images"))


def _per_accepted(seconds: float, plausible: np.ndarray) -> Figure:
    accepted = rate(int(plausible.sum()), len(plausible))
    if not accepted.value:
        return Figure(None, "s")
    low, high = seconds / accepted.high, seconds / accepted.low if accepted.low else None
    return Figure(seconds / accepted.value, "s", low, high)


def _after(method: str, world: World, judges: Judges, base: MeasuredSet, fraction: float) -> Gained:
    """A method with this fraction of the plan's seconds."""
    runs = MethodRuns()
    for seed in world.plan.seeds:
        run, lora, figures = world.align(method, seed, fraction * world.plan.seconds)
        runs.measured.append(MeasuredSet(world.judged(run, lora), judges))
        runs.seconds.append(figures["train_seconds"])
    return runs.gained(base)


def add_default(report: Report, runs: Mapping[str, MethodRuns], base: MeasuredSet, judges: Judges) -> None:
    """What is asked of the default method. Training seeds and pairs of images of one prompt and seed are resampled."""
    if DEFAULT not in runs:
        return
    ours = runs[DEFAULT]
    gain = ours.gain(base)
    aligned = points(gain)
    report.add("aligned_gain_points", aligned)
    report.add("aligned_gain_low_points", Figure(aligned.low, "points", must="> 0"))
    if judges.real_plausible is not None:
        report.add("real_plausible", share(judges.real_plausible))
        report.add("gap_closed", gap_closed(gain, base.plausible, judges.real_plausible))
    if "reward_weighted" in runs:
        over = _over(gain, runs["reward_weighted"].gain(base))
        report.add("over_rwr_points", points(over, ">= 5", ">= 15"))
    if "real" in runs:
        report.add("over_no_feedback_points", points(_over(gain, runs["real"].gain(base))))
    apart = ours.gain_by_rater(base) - gain
    report.add("rater_judge_disagreement_points", points(apart, "<= 5", "<= 0"))
    _add_changes(report, ours.measured, base)


def _over(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Gains [S, N] less those of another method: seed by seed, or less their mean where that has other seeds."""
    return ours - (theirs if ours.shape == theirs.shape else theirs.mean(0))


def _add_changes(report: Report, measured: Sequence[MeasuredSet], base: MeasuredSet) -> None:
    """What else changed, beside the starter."""
    if base.seen is None:
        return
    changes = [paired_changes(one.seen, base.seen) for one in measured if one.seen is not None]
    for name, told, must, aim in (
        ("coverage", "coverage_change_points", ">= -2", ">= 0"),
        ("beta recall", "beta_recall_change_points", ">= -2", ">= 0"),
        ("authentic", "authenticity_change_points", None, None),
        ("copy alarms", "copy_alarm_change_points", None, None),
    ):
        mean = across_seeds([change[name] for change in changes])
        report.add(told, Figure(100 * mean.value, "points", 100 * mean.low, 100 * mean.high, must, aim))
        if must is None:
            worse = mean.high < 0 if name == "authentic" else mean.low > 0
            report.add(
                told.replace("_points", "_for_the_worse_beyond_chance"), Figure(float(worse), "", must="<= 0")
            )


def _word(method: str) -> str:
    return method.replace(" ", "_")
