"""The slowest request of a whole gated rollout, with its comparisons, against as long a time without one."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.load import ConstantLoad, Order, Sample, saturated_s
from benchmarks.report import Figure, Report
from benchmarks.rollout.plan import MeasurementPlan
from benchmarks.system import BenchmarkSystem, running_system
from benchmarks.truth import publish_twin

UTILISATION = 0.6


def measure(report: Report, plan: MeasurementPlan) -> None:
    """`slowest_in_rollout` and `rollback_s`."""
    with (
        tempfile.TemporaryDirectory(prefix="vouch-slowest-") as folder,
        running_system(Path(folder)) as (system, _),
    ):
        system.wait_until_compiled()
        _measure(report, system, plan)


def _measure(report: Report, system: BenchmarkSystem, plan: MeasurementPlan) -> None:
    with system.client() as client:
        first = client.get_serving("generator").slots[0].champion_version
        twin = publish_twin(system.state, first)
        prompts = client.describe_generator().example_prompts
        orders = [Order(prompt, 1000 + row, plan.steps) for row, prompt in enumerate(prompts)]
        every_s = saturated_s(system.state, orders) / UTILISATION
        with ConstantLoad(system.state, orders, every_s=every_s) as load:
            calm = _window(plan.window_s)
            began = time.monotonic()
            rollout = client.start_rollout(
                twin,
                hold_s=plan.hold_s,
                shadow=True,
                force=True,
                reason="benchmark: a twin was not evaluated",
            )
            time.sleep(plan.window_s)
            asked = time.monotonic()
            client.roll_back_rollout(rollout.rollout_id)
            while not client.get_serving("generator").slots[0].converged:
                time.sleep(0.02)
            back_s = time.monotonic() - asked
            during = (began, time.monotonic())
    before = [
        sample for sample in load.samples if sample.ended <= began
    ]  # one that spans both would be its own measure
    ratio = _slowest(load.samples, during) / _slowest(before, calm)
    report.add("slowest_in_rollout", Figure(ratio, unit="ratio", must="<= 1.3", aim="<= 1.05"))
    report.add("rollback_s", Figure(back_s, unit="s", must="<= 2", aim="<= 1"))


def _window(seconds: float) -> tuple[float, float]:
    began = time.monotonic()
    time.sleep(seconds)
    return began, time.monotonic()


def _slowest(samples: list[Sample], window: tuple[float, float]) -> float:
    return max(sample.seconds for sample in samples if sample.overlaps(*window))
