"""Start, memory, overhead, filtering, and serving beside a training job.

    python -m benchmarks.basics --json basics.json
    python -m benchmarks.basics --quick          # only shows that it runs; its figures mean nothing

Everything goes through `vouch up`, the client and the `vouch` command, as a user's requests do.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.beside_training import p95_beside_training
from benchmarks.filtering import filter_rates
from benchmarks.load import engine_s
from benchmarks.report import Figure, Report, arguments, median_figure
from benchmarks.system import BenchmarkSystem, running_system


@dataclass(frozen=True)
class BasicsPlan:
    """How much is measured."""

    starts: int = 3  # systems started for cold_start_s
    requests: int = 200  # sequential requests for overhead_ms_p50
    steps: int = 10  # denoising steps of a request
    filter_s: float = 20.0  # length of one filter run at the bare model's rate
    filter_repeats: int = 3
    window_s: float = 60.0  # each half of p95_while_training_ratio
    warm_up_s: float = 20.0  # of the training job, before its half is measured


QUICK = BasicsPlan(
    starts=1, requests=10, steps=2, filter_s=1.0, filter_repeats=1, window_s=8.0, warm_up_s=1.0
)


def main() -> None:
    parser = arguments("benchmarks.basics", "Start, memory, overhead, filtering, serving beside training.")
    parser.add_argument(
        "--quick", action="store_true", help="only show that it runs; the figures mean nothing"
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="leave out the others"
    )
    given = parser.parse_args()
    report = Report("basics")
    with tempfile.TemporaryDirectory(prefix="vouch-basics-") as folder:
        measure(report, Path(folder), QUICK if given.quick else BasicsPlan(), given.only)
    report.finish(given.json)


def measure(report: Report, folder: Path, plan: BasicsPlan, chosen: list[str]) -> None:
    """Start systems until the starts are enough; the last one serves for everything else."""
    seconds = []
    for number in range(plan.starts - 1):
        with running_system(folder / f"state-{number}") as (_, to_first):
            seconds.append(to_first)
    with running_system(folder / "state") as (system, to_first):
        report.add("cold_start_s", median_figure([*seconds, to_first], "s", must="<= 25"))
        system.wait_until_compiled()
        for name, part in PARTS.items():
            if name in chosen:
                part(report, system, plan)


def overhead(report: Report, system: BenchmarkSystem, plan: BasicsPlan) -> None:
    """What a caller waits beyond the engine's own time, one request after another."""
    with system.client("client") as client:
        prompt = client.describe_generator().example_prompts[0]

        def once(seed: int) -> float:
            began = time.perf_counter()
            reply = client.generate_images(prompt, count=1, seed=seed, steps=plan.steps, score=False)
            return (time.perf_counter() - began - engine_s(reply)) * 1000

        for seed in range(5):
            once(seed)
        waits = [once(100 + seed) for seed in range(plan.requests)]
        ways = [_milliseconds(client.describe_generator) for _ in range(plan.requests)]
    report.add("overhead_ms_p50", median_figure(waits, "ms", must="<= 11", aim="<= 5"))
    # The same way through gRPC and Serve to the same replica and back, with nothing drawn and nothing stored.
    report.add("grpc_and_serve_ms_p50", median_figure(ways, "ms"))


def _milliseconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def filtering(report: Report, system: BenchmarkSystem, plan: BasicsPlan) -> None:
    """The whole `vouch filter` command against the bare forward pass, in turns."""
    rates = filter_rates(system, seconds=plan.filter_s, repeats=plan.filter_repeats)
    ratios = [whole / bare for whole, bare in rates]
    report.add("filter_rate_of_bare", median_figure(ratios, "ratio", must=">= 0.7"))
    report.add("filter_images_per_s", median_figure([whole for whole, _ in rates], "images/s"))


def memory(report: Report, system: BenchmarkSystem, plan: BasicsPlan) -> None:
    """The sum over all processes, after they have worked."""
    readings = [system.pss_mb() for _ in range(3)]
    report.add("pss_mb", Figure(statistics.median(readings), unit="MB", must="<= 3000"))


def beside_training(report: Report, system: BenchmarkSystem, plan: BasicsPlan) -> None:
    """The same constant load, first alone, then beside a training job."""
    found = p95_beside_training(system, steps=plan.steps, window_s=plan.window_s, warm_up_s=plan.warm_up_s)
    low, high = found.interval()
    report.add("p95_while_training_ratio", Figure(found.ratio, low=low, high=high, unit="ratio", must="<= 3"))
    report.add("p95_idle_ms", Figure(found.idle_s * 1000, unit="ms"))
    report.add("p95_while_training_ms", Figure(found.training_s * 1000, unit="ms"))
    report.add("requests", Figure(found.requests, unit="requests"))
    report.add("requests_failed", Figure(found.failed, unit="requests", must="<= 0"))
    report.add("health_checks", Figure(found.checks, unit="checks"))
    report.add("health_checks_failed", Figure(found.unhealthy, unit="checks", must="<= 0"))


PARTS: dict[str, Callable[[Report, BenchmarkSystem, BasicsPlan], None]] = {
    "overhead": overhead,
    "filtering": filtering,
    "memory": memory,
    "beside_training": beside_training,
}


if __name__ == "__main__":
    main()
