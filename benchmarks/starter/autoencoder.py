"""What the autoencoder keeps of real cells: nothing that is drawn can be better than this."""

from __future__ import annotations

import numpy as np

from benchmarks.report import Figure, Report
from benchmarks.starter.bench import Bench
from benchmarks.starter.compression import as_stored
from benchmarks.starter.ratios import figure, ratio
from training.evaluation.codec import load_autoencoder, through
from training.evaluation.intervals import rate
from training.evaluation.judge import Judge
from training.evaluation.sharpness import HIGH_BAND, Spectra, sharpness
from training.evaluation.two_sample import two_sample_auc


def measure(report: Report, bench: Bench) -> None:
    """Cells are judged under the drawings' form of prompts, before and after."""
    real, judge = bench.real, bench.sealed.judge
    kept = through(load_autoencoder(bench.options.generator), real.images)
    before, after = (judge.assess(images, real.prompts).plausible for images in (real.images, kept))
    report.add(
        "ae_plausible_of_real", figure(ratio(after, before, paired=True), "of real's", ">= 0.95", ">= 0.99")
    )
    for label in sorted(set(real.labels)):
        found = rate(int(after[real.labels == label].sum()), int((real.labels == label).sum()))
        report.add(f"ae_plausible {label}", figure(found))
    power = sharpness(Spectra.of(real.images), Spectra.of(kept))[HIGH_BAND]
    report.add("ae_high_band_power", figure(power, "of real's", ">= 0.75", ">= 0.95"))
    report.add("ae_two_sample_auc", figure(_told_apart(bench, kept), "AUC"))
    stored = as_stored(kept, bench.split_file("test"))
    if stored is not None:
        told = _told_apart(bench, stored)
        report.add("ae_two_sample_auc_as_stored", figure(told, "AUC, compressed as real cells are"))
    _add_old(report, bench)


def _told_apart(bench: Bench, kept: np.ndarray):
    """Half of the cells as they are against the other half through the autoencoder: no cell is on both sides."""
    even = np.arange(len(kept)) % 2 == 0
    features = bench.sealed.features
    return two_sample_auc(features(bench.real.images[even]), features(kept[~even]))


def _add_old(report: Report, bench: Bench) -> None:
    """Whether the first judge sees what an earlier autoencoder took away."""
    for name, judge, must in (
        ("judge_sees_texture", bench.first_judge, "<= 0.75"),
        ("sealed_judge_sees_texture", bench.sealed.judge, None),
    ):
        if bench.options.old is None:
            report.add(name, Figure(None, "of real's: give --old-vae", must=must))
        else:
            report.add(name, figure(_left_of_real(bench, judge), "of real's", must))


def _left_of_real(bench: Bench, judge: Judge):
    assert bench.options.old is not None
    real = bench.real
    soft = through(load_autoencoder(bench.options.old), real.images)
    before, after = (judge.assess(images, real.prompts).plausible for images in (real.images, soft))
    return ratio(after, before, paired=True)
