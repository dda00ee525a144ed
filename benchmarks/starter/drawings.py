"""What the generator draws, beside real cells under prompts of the same form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.report import Report
from benchmarks.starter.bench import Bench, arrays, balanced
from benchmarks.starter.compression import as_stored
from benchmarks.starter.ratios import figure, ratio
from training.attributes.annotations import Annotations
from training.attributes.recognition import recognise
from training.contact_sheet import contact_sheet
from training.data.examples import Examples
from training.evaluation.attribute_shares import Read, attribute_distances
from training.evaluation.coverage import covered
from training.evaluation.diversity import within_class
from training.evaluation.evidence import GeneratedSet
from training.evaluation.intervals import Estimate, rate
from training.evaluation.judge import Judge
from training.evaluation.sharpness import HIGH_BAND, HIGH_BAND_DISTANCE, Spectra, sharpness
from training.evaluation.two_sample import two_sample_auc, two_sample_auc_by_network


def measure(report: Report, bench: Bench) -> None:
    if bench.options.sheets:
        show(bench.drawn, bench.options.sheets)
    _add_plausible(report, bench)
    _add_likeness(report, bench)
    _add_variety(report, bench)
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
        covered(judge.reference, judge.features(images)).any(1)
        for images in (drawn.images[chosen[0]], arrays(val)[chosen[1]])
    )
    report.add("coverage", figure(_share(ours)))
    report.add("coverage_real", figure(_share(floor)))
    of_floor = ratio(ours.astype(float), floor.astype(float), paired=True)
    report.add("coverage_of_floor", figure(of_floor, "of real against real", ">= 0.75", ">= 0.95"))
    spectra = sharpness(Spectra.of(bench.real.images), Spectra.of(drawn.images))
    report.add("high_band_power", figure(spectra[HIGH_BAND], "of real's"))
    report.add("high_band_distance", figure(spectra[HIGH_BAND_DISTANCE], "deviations of real's"))


def _add_variety(report: Report, bench: Bench) -> None:
    """How varied the drawings of a class are, and how far the shares of its attributes are from real cells'; beside as
    many other real cells, of the validation split."""
    drawn, val, judge = bench.drawn, bench.split("val"), bench.sealed.judge
    held = balanced(val.labels, bench.options.per_class)
    sides = {"": (drawn.images, drawn.labels), "_of_real": (arrays(val)[held], np.array(val.labels)[held])}
    labels, known = bench.real.labels.tolist(), _annotated(bench.test)
    features, read = judge.features(bench.real.images), _attributes(judge, bench.real.images)
    for suffix, (images, named) in sides.items():
        variety = within_class(judge.features(images), list(named), features, labels)
        report.add(f"class_diversity{suffix}", figure(variety, "of real's"))
        apart = attribute_distances(read, labels, _attributes(judge, images), list(named), known)
        report.add(f"attribute_distance{suffix}", figure(apart["attribute distance"], "total variation"))


def _attributes(judge: Judge, images: np.ndarray) -> Read:
    """The value of each attribute that the judge's network sees, as an index [N]."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    seen = recognise(judge.plausibility.net, pixels).attributes
    return {name: logits.argmax(1).numpy() for name, logits in seen.items()}


def _annotated(examples: Examples) -> dict[str, list[str]]:
    """Of each class the attributes that its images are annotated with."""
    known: dict[str, set[str]] = {label: set() for label in examples.labels}
    for label, attributes in zip(examples.labels, examples.attributes, strict=True):
        known[label] |= set(attributes)
    return {label: sorted(names) for label, names in known.items() if names}


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
