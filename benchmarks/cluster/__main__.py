"""`python -m benchmarks.cluster [--json FILE] [--only FIGURE ...]`: the figures of a cluster, on one machine."""

from __future__ import annotations

import os
import tempfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from benchmarks.cluster import alerts, elastic, manifests, node_kill, races, same_tests, scale, typos
from benchmarks.cluster.databases import NAMES, database
from benchmarks.cluster.faults import FAULTS
from benchmarks.cluster.object_server import BUCKET, object_server
from benchmarks.report import Figure, Report, arguments


def two_writers_conflicts(report: Report, given: Namespace) -> None:
    """Races of two processes for one name, half of them with one clock: in a folder with SQLite, and in a server of the
    S3 protocol with PostgreSQL."""
    wrong: list[str] = []
    clocks: tuple[races.Clock, ...] = ("own", "same")
    each = given.races // (2 * len(given.stores))
    with object_server() as environment:
        os.environ.update(environment)
        for store in given.stores:
            for clock in clocks:
                outcomes = _raced(store, clock, each)
                wrong += outcomes.wrong
                report.add(f"both_published_{store}_{clock}_clock", Figure(outcomes.both, f"of {each} races"))
                report.add(f"one_was_told_{store}_{clock}_clock", Figure(outcomes.one, f"of {each} races"))
    report.add(
        "two_writers_conflicts",
        Figure(len(wrong), f"wrong of {2 * len(given.stores) * each}", must="<= 0", aim="<= 0"),
    )
    for line in wrong[:5]:
        print(line)


def _raced(store: str, clock: races.Clock, count: int) -> races.Outcomes:
    kind, models_url = ("sqlite", "") if store == "folder" else ("postgresql", f"s3://{BUCKET}/{clock}-clock")
    with tempfile.TemporaryDirectory() as folder, database(kind) as url:
        return races.run(url, models_url, Path(folder), races=count, clock=clock)


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
    worst = {"p95": 0.0, "all_p95": 0.0}
    for name in NAMES:
        found = scale.measure(name, given.images, given.ratings, given.calls)
        for call, times in found["calls"].items():
            label = call.replace(", ", "_").replace(" ", "_").replace(".", "_")
            unit = f"ms (p95), p50 {times['p50']:.2f}; with waiting for a core {times['all_p95']:.1f}"
            report.add(f"{name}_{label}", Figure(times["p95"], unit))
        worst = {kind: max(value, found["worst"][kind]) for kind, value in worst.items()}
    size = f"with {given.images:,} images and {given.ratings:,} ratings"
    report.add(
        "catalog_ms_with_waiting", Figure(worst["all_p95"], f"ms (p95) {size}, with waiting for a core")
    )
    unit = f"ms (p95) {size}, without waiting for a core"
    report.add("catalog_ms_at_scale", Figure(worst["p95"], unit, must="<= 10", aim="<= 3"))


def same_tests_on_cluster_stores(report: Report, given: Namespace) -> None:
    """Share of the tests of stores, services and training that pass on PostgreSQL and S3 as on SQLite and folder."""
    passed, total = same_tests.run()
    report.add(
        "same_tests_on_cluster_stores", Figure(passed / total, f"share of {total}", must=">= 1", aim=">= 1")
    )


def node_kill_failures(report: Report, given: Namespace) -> None:
    """Failures that a caller of the client library sees while one of two generation nodes is killed."""
    with tempfile.TemporaryDirectory(prefix="vouch-nodes-") as folder:
        found = node_kill.measure(Path(folder))
    for error in found.failures[:5]:
        print("failed:", error)
    report.add("node_kill_requests", Figure(len(found.samples), f"requests, one every {found.every_s:.2f} s"))
    report.add("node_kill_replicas", Figure(found.replicas, "of 2 replicas on the node that was killed"))
    report.add(
        "node_kill_slowest", Figure(found.slowest_s, "s, the slowest request during the kill or after it")
    )
    report.add("node_kill_failures", Figure(len(found.failures), "requests", must="<= 0", aim="<= 0"))


def elastic_training_equal(report: Report, given: Namespace) -> None:
    """Whether a training that went from 2 workers to 1 and back ends within the noise of seeds."""
    with tempfile.TemporaryDirectory(prefix="vouch-elastic-") as folder:
        found = elastic.measure(Path(folder), seeds=given.seeds, steps=given.steps)
    low, high = found.interval
    seen = " -> ".join(map(str, found.workers))
    report.add("elastic_log_loss", Figure(found.disturbed, f"nats, workers {seen}"))
    report.add("elastic_interval_low", Figure(low, f"nats, of {given.seeds} undisturbed runs"))
    report.add("elastic_interval_high", Figure(high, f"nats, of {given.seeds} undisturbed runs"))
    is_equal = found.is_equal and found.workers == (2, 1, 2)
    report.add("elastic_training_equal", Figure(float(is_equal), "1 is yes", must=">= 1"))


FIGURES: dict[str, Callable[[Report, Namespace], None]] = {
    function.__name__: function
    for function in (
        same_tests_on_cluster_stores,
        two_writers_conflicts,
        renders_valid,
        typos_found,
        alerts_fired,
        catalog_ms_at_scale,
        node_kill_failures,
        elastic_training_equal,
    )
}


def main() -> None:
    parser = arguments("benchmarks.cluster", "The figures of a cluster, on one machine.")
    parser.add_argument("--only", nargs="+", choices=sorted(FIGURES), default=sorted(FIGURES))
    parser.add_argument("--races", type=int, default=10_000)
    parser.add_argument(
        "--stores", nargs="+", choices=("folder", "s3"), default=["folder", "s3"], help="of races"
    )
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--ratings", type=int, default=100_000)
    parser.add_argument("--calls", type=int, default=300, help="of each kind, on each database")
    parser.add_argument("--seeds", type=int, default=5, help="undisturbed trainings")
    parser.add_argument("--steps", type=int, default=1000, help="of a training")
    given = parser.parse_args()
    report = Report("cluster")
    for name in given.only:
        report.add(f"{name}_load", Figure(os.getloadavg()[0], f"processes on {os.cpu_count()} cores, before"))
        FIGURES[name](report, given)
    report.finish(given.json)


if __name__ == "__main__":
    main()
