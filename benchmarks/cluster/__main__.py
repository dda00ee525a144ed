"""`python -m benchmarks.cluster --json FILE [--only FIGURE ...]`: the figures of a cluster, on one machine.

A figure that was not asked for, or needs what this machine lacks, stays out of the file; earlier ones in it are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cluster import alerts, manifests, races, scale, typos
from benchmarks.cluster.databases import NAMES, database
from benchmarks.cluster.object_server import BUCKET, object_server

Options = argparse.Namespace


def two_writers_conflicts(options: Options) -> dict[str, Any]:
    """Races of two processes for one name, half of them with one clock, on PostgreSQL and an S3 protocol server."""
    figures: dict[str, Any] = {"races": options.races, "wrong": 0, "examples": []}
    for clock in ("own", "same"):
        with object_server() as environment, database("postgresql") as url, tempfile.TemporaryDirectory() as folder:
            os.environ.update(environment)
            outcomes = races.run(
                url, f"s3://{BUCKET}/models", Path(folder), races=options.races // 2, clock=clock  # type: ignore[arg-type]
            )  # fmt: skip
        figures[f"{clock}_clock"] = {"both": outcomes.both, "one": outcomes.one}
        figures["wrong"] += len(outcomes.wrong)
        figures["examples"] += outcomes.wrong[:5]
    return figures


def renders_valid(options: Options) -> dict[str, Any]:
    """Combinations of the Kubernetes manifests that are valid."""
    combinations = manifests.all_combinations()
    with tempfile.TemporaryDirectory() as folder:
        root = typos.copy_manifests(Path(folder))
        wrong = {str(one): found for one in combinations if (found := typos.check(one, root))}
    return {"combinations": len(combinations), "valid": len(combinations) - len(wrong), "wrong": wrong}


def typos_found(options: Options) -> dict[str, Any]:
    """Planted typos that the checks of the manifests find."""
    with tempfile.TemporaryDirectory() as folder:
        root = typos.copy_manifests(Path(folder))
        known = frozenset(problem for one in typos.SEEN_IN for problem in typos.check(one, root))
        missed = [f"{typo.file}: {typo.wrong}" for typo in typos.TYPOS if not typos.found(typo, root, known)]
    return {"planted": len(typos.TYPOS), "found": len(typos.TYPOS) - len(missed), "missed": missed}


def alerts_fired(options: Options) -> dict[str, Any]:
    """Alert rules that fire in a real Prometheus when their fault is made."""
    with tempfile.TemporaryDirectory() as folder:
        return alerts.run(Path(folder))


def catalog_ms_at_scale(options: Options) -> dict[str, Any]:
    """p95 in ms of the catalog's calls on the request path, on both databases."""
    return {name: scale.measure(name, options.images, options.ratings, options.calls) for name in NAMES}


FIGURES: dict[str, Callable[[Options], dict[str, Any]]] = {
    function.__name__: function
    for function in (two_writers_conflicts, renders_valid, typos_found, alerts_fired, catalog_ms_at_scale)
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="the file of figures")
    parser.add_argument("--only", nargs="+", choices=sorted(FIGURES), default=sorted(FIGURES))
    parser.add_argument("--races", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--ratings", type=int, default=100_000)
    parser.add_argument("--calls", type=int, default=300, help="of each kind at each scale")
    options = parser.parse_args(arguments)
    figures = json.loads(options.json.read_text()) if options.json.is_file() else {}
    for name in options.only:
        load = os.getloadavg()[0]
        figures[name] = {**FIGURES[name](options), "load_before": load, "cores": os.cpu_count()}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
        sys.stdout.write(f"{name}: {json.dumps(figures[name])[:300]}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
