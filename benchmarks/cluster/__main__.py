"""`python -m benchmarks.cluster [--json FILE] [--only FIGURE ...]`: the figures of a cluster, on one machine.

Not among them, for they need several Ray nodes: a node that is killed, and training from two workers to one and back.
"""

from __future__ import annotations

import os
import tempfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from benchmarks.cluster import alerts, manifests, races, same_tests, scale, typos
from benchmarks.cluster.databases import NAMES, database
from benchmarks.cluster.faults import FAULTS
from benchmarks.cluster.object_server import BUCKET, object_server
from benchmarks.report import Figure, Report, arguments


def two_writers_conflicts(report: Report, given: Namespace) -> None:
    """Races of two processes for one name, half of them with one clock, on PostgreSQL and an S3 protocol server."""
    wrong: list[str] = []
    clocks: tuple[races.Clock, ...] = ("own", "same")
    for clock in clocks:
        with (
            object_server() as environment,
            database("postgresql") as url,
            tempfile.TemporaryDirectory() as folder,
        ):
            os.environ.update(environment)
            models_url = f"s3://{BUCKET}/models"
            outcomes = races.run(url, models_url, Path(folder), races=given.races // 2, clock=clock)
        wrong += outcomes.wrong
        report.add(f"both_published_{clock}_clock", Figure(outcomes.both, f"of {given.races // 2} races"))
        report.add(f"one_was_told_{clock}_clock", Figure(outcomes.one, f"of {given.races // 2} races"))
    report.add(
        "two_writers_conflicts", Figure(len(wrong), f"wrong of {given.races}", must="<= 0", aim="<= 0")
    )
    for line in wrong[:5]:
        print(line)


def renders_valid(report: Report, given: Namespace) -> None:
    """Combinations of the Kubernetes manifests that are valid."""
    combinations = manifests.all_combinations()
    with tempfile.TemporaryDirectory() as folder:
        root = typos.copy_manifests(Path(folder))
        wrong = {str(one): found for one in combinations if (found := typos.check(one, root))}
    for name, found in list(wrong.items())[:5]:
        print(name, found)
    valid = (len(combinations) - len(wrong)) / len(combinations)
    report.add("renders_valid", Figure(valid, f"share of {len(combinations)}", must=">= 1", aim=">= 1"))


def typos_found(report: Report, given: Namespace) -> None:
    """Planted typos that the checks of the manifests find."""
    with tempfile.TemporaryDirectory() as folder:
        root = typos.copy_manifests(Path(folder))
        known = frozenset(problem for one in typos.SEEN_IN for problem in typos.check(one, root))
        missed = [f"{typo.file}: {typo.wrong}" for typo in typos.TYPOS if not typos.found(typo, root, known)]
    for line in missed:
        print("not found:", line)
    found = len(typos.TYPOS) - len(missed)
    report.add("typos_found", Figure(found, f"of {len(typos.TYPOS)}", must=">= 30", aim=">= 30"))


def alerts_fired(report: Report, given: Namespace) -> None:
    """Alert rules that fire in a real Prometheus when their fault is made."""
    with tempfile.TemporaryDirectory() as folder:
        found = alerts.run(Path(folder))
    must = f">= {len(FAULTS)}"
    report.add("alerts_fired", Figure(len(found["fired"]), f"of {len(FAULTS)}", must=must, aim=must))
    report.add(
        "alerts_without_their_fault", Figure(len(found["fired_without_their_fault"]), "alerts", must="<= 0")
    )
    report.add(
        "alerts_of_a_healthy_system", Figure(len(found["fired_before_any_fault"]), "alerts", must="<= 0")
    )


def catalog_ms_at_scale(report: Report, given: Namespace) -> None:
    """p95 of the catalog's calls on the request path, on both databases."""
    worst = 0.0
    for name in NAMES:
        found = scale.measure(name, given.images, given.ratings, given.calls)
        for call, times in found["calls"].items():
            label = call.replace(", ", "_").replace(" ", "_").replace(".", "_")
            report.add(f"{name}_{label}", Figure(times["p95"], f"ms (p95), p50 {times['p50']:.2f}"))
        worst = max(worst, found["worst_p95_ms"])
    size = f"ms (p95) with {given.images:,} images and {given.ratings:,} ratings"
    report.add("catalog_ms_at_scale", Figure(worst, size, must="<= 10", aim="<= 3"))


def same_tests_on_cluster_stores(report: Report, given: Namespace) -> None:
    """Share of the tests of stores, services and training that pass on PostgreSQL and S3 as on SQLite and folder."""
    passed, total = same_tests.run()
    report.add(
        "same_tests_on_cluster_stores", Figure(passed / total, f"share of {total}", must=">= 1", aim=">= 1")
    )


FIGURES: dict[str, Callable[[Report, Namespace], None]] = {
    function.__name__: function
    for function in (
        same_tests_on_cluster_stores,
        two_writers_conflicts,
        renders_valid,
        typos_found,
        alerts_fired,
        catalog_ms_at_scale,
    )
}


def main() -> None:
    parser = arguments("benchmarks.cluster", "The figures of a cluster, on one machine.")
    parser.add_argument("--only", nargs="+", choices=sorted(FIGURES), default=sorted(FIGURES))
    parser.add_argument("--races", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--ratings", type=int, default=100_000)
    parser.add_argument("--calls", type=int, default=300, help="of each kind, on each database")
    given = parser.parse_args()
    report = Report("cluster")
    for name in given.only:
        report.add(f"{name}_load", Figure(os.getloadavg()[0], f"processes on {os.cpu_count()} cores, before"))
        FIGURES[name](report, given)
    report.finish(given.json)


if __name__ == "__main__":
    main()
