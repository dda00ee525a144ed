"""What the generator draws, beside real cells under prompts of the same form."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.report import Figure, Report
from benchmarks.starter.bench import Bench, arrays, balanced
from benchmarks.starter.compression import as_stored
from benchmarks.starter.ratios import figure, ratio
from training.attributes.annotations import Annotations
from training.attributes.recognition import recognise
from training.contact_sheet import contact_sheet
from training.evaluation.coverage import coverage
from training.evaluation.evidence import GeneratedSet
from training.evaluation.intervals import Estimate, rate
from training.evaluation.sharpness import HIGH_BAND, Spectra, sharpness
from training.evaluation.two_sample import two_sample_auc, two_sample_auc_by_network


def measure(report: Report, bench: Bench) -> None:
    if bench.options.sheets:
        show(bench.drawn, bench.options.sheets)
    _add_plausible(report, bench)
    _add_likeness(report, bench)
    _add_two_sample(report, bench)


def _add_plausible(report: Report, bench: Bench) -> None:
    real, drawn, judge = bench.real, bench.drawn, bench.sealed.judge
    said = recognise(bench.first_judge.plausibility.net, bench.test.images)
    right = said.labels.argmax(1) == Annotations(bench.test, bench.first_judge.plausibility.vocabulary).labels
    report.add("real_classifier_accuracy", figure(rate(int(right.sum()), len(right)), must=">= 0.94"))
    theirs, ours = judge.assess(real.images, real.prompts), judge.assess(drawn.images, drawn.prompts)
    report.add("prompted_class_recognised", figure(_share(ours.recognised), must=">= 0.90"))
    report.add("plausible", figure(_share(ours.plausible)))
    report.add("plausible_real", figure(_share(theirs.plausible)))
    of_real = ratio(ours.plausible, theirs.plausible)
    report.add("plausible_of_real", figure(of_real, "of real's", ">= 0.95", ">= 1.0"))
    classes, labels = {}, np.array(drawn.labels)
    for label in sorted(set(drawn.labels)):
        passed = ours.plausible[labels == label], theirs.plausible[real.labels == label]
        classes[label] = ratio(*passed)
        report.add(f"plausible {label}", figure(_share(passed[0])))
        report.add(f"plausible_real {label}", figure(_share(passed[1])))
    worst = min(classes, key=lambda label: classes[label].value)
    report.add(
        "worst_class_plausible_of_real", figure(classes[worst], f"of real's: {worst}", ">= 0.80", ">= 0.95")
    )
    by_first = [bench.first_judge.assess(side.images, side.prompts).plausible for side in (drawn, real)]
    report.add("plausible_of_real by the first judge", figure(ratio(*by_first), "of real's"))


def _add_likeness(report: Report, bench: Bench) -> None:
    """Coverage of the test split by drawings, and by as many other real cells of each class, from validation."""
    val, drawn, judge = bench.split("val"), bench.drawn, bench.sealed.judge
    counts = {
        label: min(bench.options.per_class, val.labels.count(label)) for label in sorted(set(val.labels))
    }
    chosen = [np.concatenate([np.flatnonzero(np.array(labels) == label)[:count] for label, count in counts.items()])
              for labels in (drawn.labels, val.labels)]  # fmt: skip
    ours, floor = (
        coverage(judge.reference, judge.features(images))["coverage"]
        for images in (drawn.images[chosen[0]], arrays(val)[chosen[1]])
    )
    report.add("coverage", figure(_share_of(ours, len(judge.reference))))
    report.add("coverage_real", figure(_share_of(floor, len(judge.reference))))
    report.add(
        "coverage_of_floor", Figure(ours / floor, "of real against real", must=">= 0.75", aim=">= 0.95")
    )
    power = sharpness(Spectra.of(bench.real.images), Spectra.of(drawn.images))[HIGH_BAND]
    report.add("high_band_power", figure(power, "of real's"))


def _add_two_sample(report: Report, bench: Bench) -> None:
    """As many of each class on both sides, and the floor: real cells against other real cells."""
    real, drawn = bench.real, bench.drawn
    held = arrays(bench.split("val"))[balanced(bench.split("val").labels, bench.options.per_class)]
    features = bench.sealed.features
    apart = two_sample_auc(features(real.images), features(drawn.images))
    report.add("two_sample_auc", figure(apart, "AUC", "<= 0.90", "<= 0.70"))
    report.add("two_sample_auc_of_real", figure(two_sample_auc(features(real.images), features(held)), "AUC"))
    stored = as_stored(drawn.images, bench.split_file("test"))
    if stored is not None:
        told = two_sample_auc(features(real.images), features(stored))
        report.add("two_sample_auc_as_stored", figure(told, "AUC, drawings compressed as real cells are"))
    by_network = two_sample_auc_by_network(real.images, drawn.images)
    report.add("two_sample_auc_by_network", figure(by_network, "AUC", aim="<= 0.90"))


def show(drawn: GeneratedSet, folder: Path) -> None:
    """A contact sheet of each class."""
    folder.mkdir(parents=True, exist_ok=True)
    for label in sorted(set(drawn.labels)):
        rows = [i for i, other in enumerate(drawn.labels) if other == label][:32]
        contact_sheet(drawn.images[rows], 8, folder / f"{label.replace(' ', '-')}.png")


def _share(passed: np.ndarray) -> Estimate:
    return rate(int(passed.sum()), len(passed))


def _share_of(value: float, count: int) -> Estimate:
    return rate(round(value * count), count)
