"""Hot swaps under constant load: what fails, what lies, what waits.

    python -m benchmarks.swap --json swap.json
    python -m benchmarks.swap --quick            # only shows that it runs; its figures mean nothing

Two versions of the generator take each other's place again and again. Every swap has a window of its own, and as
long a window without a swap beside it in the same run. Requests cycle over a fixed set of prompts and seeds whose
images both versions have drawn beforehand, outside the system: so every single reply is checked against what the
version that it names really draws.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks.load import ConstantLoad, Order, Sample, saturated_s
from benchmarks.report import Figure, Report, arguments
from benchmarks.system import BenchmarkSystem, running_system
from benchmarks.truth import Truth, publish_twin
from training.evaluation.intervals import bootstrap_ratio, wilson
from vouch.client import Client

SLOT = "generator"


@dataclass(frozen=True)
class SwapPlan:
    """How much is measured."""

    swaps: int = 20
    window_s: float = 8.0  # at least; a swap's window lasts until every replica has followed
    orders: int = 24  # prompt and seed pairs that requests cycle over
    steps: int = 10
    utilisation: float = 0.6  # of what the system answers when it is never without work


QUICK = SwapPlan(swaps=2, window_s=3.0, orders=4, steps=2)


@dataclass
class Windows:
    """Times (begin, end) of time.monotonic()."""

    swap: list[tuple[float, float]] = field(default_factory=list)
    calm: list[tuple[float, float]] = field(default_factory=list)
    converged_s: list[float] = field(default_factory=list)


def main() -> None:
    parser = arguments("benchmarks.swap", "Hot swaps under constant load: what fails, what lies, what waits.")
    parser.add_argument(
        "--quick", action="store_true", help="only show that it runs; the figures mean nothing"
    )
    parser.add_argument("--swaps", type=int, metavar="N", help="how many swaps (default 20)")
    parser.add_argument("--window", type=float, metavar="S", help="least seconds of a window (default 8)")
    given = parser.parse_args()
    plan = QUICK if given.quick else SwapPlan()
    report = Report("swap")
    with (
        tempfile.TemporaryDirectory(prefix="vouch-swap-") as folder,
        running_system(Path(folder)) as (system, _),
    ):
        system.wait_until_compiled()
        chosen = replace(plan, swaps=given.swaps or plan.swaps, window_s=given.window or plan.window_s)
        measure(report, system, chosen)
    report.finish(given.json)


def measure(report: Report, system: BenchmarkSystem, plan: SwapPlan) -> None:
    """Publish a second version, swap to and fro under load, then judge every reply."""
    with system.client() as client:
        first = client.get_serving(SLOT).slots[0].champion_version
        versions = (first, publish_twin(system.state, first))
        orders = _orders(client, plan)
        truth = Truth.drawn(system.state, versions, orders)
        every_s = saturated_s(system.state, orders) / plan.utilisation
        with ConstantLoad(system.state, orders, every_s=every_s) as load:
            time.sleep(plan.window_s)  # warm up
            swap_to_and_fro(client, versions, replace(plan, swaps=2))  # both versions have been loaded once
            before = system.pss_mb()
            windows = swap_to_and_fro(client, versions, plan)
            report.add("memory_after_of_before", Figure(system.pss_mb() / before, unit="ratio"))
    judge(report, load.samples, windows, truth)


def swap_to_and_fro(client: Client, versions: tuple[str, str], plan: SwapPlan) -> Windows:
    windows = Windows()
    for number in range(plan.swaps):
        began = time.monotonic()
        windows.converged_s.append(swap(client, versions[(number + 1) % 2]))
        length = max(plan.window_s, time.monotonic() - began)
        windows.swap.append(_until(began + length, began))
        time.sleep(1.0)  # requests that began in the swap's window end in it
        calm = time.monotonic()
        windows.calm.append(_until(calm + length, calm))
    return windows


def swap(client: Client, version: str, timeout_s: float = 120.0) -> float:
    """Give the slot to `version`; seconds until every replica serves it. RuntimeError when one never does."""
    began = time.monotonic()
    client.start_rollout(version, percent=100, force=True, reason="benchmark: a twin was not evaluated")
    while time.monotonic() - began < timeout_s:
        slot = client.get_serving(SLOT).slots[0]
        if slot.converged and slot.champion_version == version:
            return time.monotonic() - began
        time.sleep(0.1)
    raise RuntimeError(f"{version[:12]} does not serve everywhere after {timeout_s:.0f} s: {slot.replicas}")


def judge(report: Report, samples: Sequence[Sample], windows: Windows, truth: Truth) -> None:
    failed = [sample for sample in samples if sample.error]
    answered = [sample for sample in samples if not sample.error]
    wrong = [sample for sample in answered if not truth.confirms(sample)]
    swap, calm = _slowest_of_each(samples, windows)
    low, high = bootstrap_ratio([[s] for s in swap], [[c] for c in calm], np.max)
    report.add("swaps", Figure(len(windows.swap), unit="swaps"))
    report.add("requests", Figure(len(samples), unit="requests"))
    report.add("failed", _count(len(failed), len(samples), "requests"))
    report.add("wrong_version", _count(len(wrong), len(answered), "replies"))
    report.add(
        "slowest_ratio",
        Figure(max(swap) / max(calm), low=low, high=high, unit="ratio", must="<= 1.3", aim="<= 1.05"),
    )
    report.add("slowest_during_swap_ms", Figure(max(swap) * 1000, unit="ms"))
    report.add("slowest_without_ms", Figure(max(calm) * 1000, unit="ms"))
    report.add("requests_per_s", Figure(_rate(samples), unit="requests/s"))
    report.add("converged_s_p50", Figure(float(np.median(windows.converged_s)), unit="s"))
    for sample in failed[:3]:
        print(f"failed: {sample.error}")


def _rate(samples: Sequence[Sample]) -> float:
    return len(samples) / (max(s.ended for s in samples) - min(s.began for s in samples))


def _count(count: int, trials: int, unit: str) -> Figure:
    low, high = wilson(count, trials)
    return Figure(count, low=low * trials, high=high * trials, unit=unit, must="<= 0")


def _slowest_of_each(samples: Sequence[Sample], windows: Windows) -> tuple[list[float], list[float]]:
    """The slowest request of each window with a swap, and of each without; failed ones count.

    A request that overlaps a swap's window belongs to the swap, wherever it began.
    """
    touched = {id(s) for begin, end in windows.swap for s in samples if s.overlaps(begin, end)}
    calm = [s for s in samples if id(s) not in touched]
    return _slowest(samples, windows.swap), _slowest(calm, windows.calm)


def _slowest(samples: Sequence[Sample], windows: Sequence[tuple[float, float]]) -> list[float]:
    inside = [[s.seconds for s in samples if s.overlaps(begin, end)] for begin, end in windows]
    return [max(seconds) for seconds in inside if seconds]


def _orders(client: Client, plan: SwapPlan) -> list[Order]:
    prompts = client.describe_generator().example_prompts
    return [Order(prompts[i % len(prompts)], 1000 + i, plan.steps) for i in range(plan.orders)]


def _until(moment: float, began: float) -> tuple[float, float]:
    time.sleep(max(0.0, moment - time.monotonic()))
    return began, time.monotonic()


if __name__ == "__main__":
    main()
