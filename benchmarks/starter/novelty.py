"""Whether drawings are training images again, and how many planted copies the alarm finds."""

from __future__ import annotations

from functools import partial

from benchmarks.report import Report
from benchmarks.starter.bench import Bench, arrays
from benchmarks.starter.ratios import figure
from training.evaluation.codec import load_autoencoder, through
from training.evaluation.copies import CopyAlarm
from training.evaluation.intervals import rate


def measure(report: Report, bench: Bench) -> None:
    """The alarm knows the training split, and is calibrated on the test split."""
    train = arrays(bench.split("train"))
    alarm = CopyAlarm.calibrated(train, arrays(bench.test), symmetric=True)
    power = alarm.power(train, partial(through, load_autoencoder(bench.options.generator)))
    worst = min(power, key=lambda kind: power[kind].value)
    report.add("copy_alarm_power", figure(power[worst], f"found: {worst}", ">= 0.95", ">= 0.99"))
    for kind, estimate in power.items():
        report.add(f"copy_alarm_power {kind}", figure(estimate, "found"))
    report.add("copy_false_alarms", figure(alarm.false_alarms(), "of unseen real cells"))
    alarms = alarm.alarmed(bench.drawn.images)
    report.add("copy_alarms", figure(rate(int(alarms.sum()), len(alarms)), "of drawings"))
