"""Faults: what a system loses, and how soon it serves again.

    python -m benchmarks.faults --json FILE [--parts power,search,mutants,damage] [--quick]

`power`, `search`, `mutants` and `damage` drive the storage and the rollout controller without a system. The others
start systems and take minutes each. Power cuts need root and a loop device.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.faults import blobs, catalog, damage, live, overload, power, search
from benchmarks.report import Report


@dataclass(frozen=True)
class Amounts:
    """How much is tried."""

    seed: int = 0  # of the moments of power cuts
    cuts: int = 100
    schedules: int = 200
    damaged: int = 1_000  # flips, and as many truncations
    killing_s: float = 300.0
    load: float = live.UTILISATION
    turns: int = 1  # kills of each kind of process
    rollbacks: int = 5
    overload_s: float = 180.0
    idle: int = 10_000  # channels without a request
    gone_s: float = 60.0  # without a catalog, or a place for images


QUICK = Amounts(
    cuts=2, schedules=2, damaged=10, killing_s=20.0, rollbacks=1, overload_s=15.0, idle=100, gone_s=10.0
)

PARTS: dict[str, Callable[[Report, Amounts], None]] = {
    "power": lambda report, amounts: power.measure(report, amounts.cuts, amounts.seed),
    "search": lambda report, amounts: search.measure_alarms(report, amounts.schedules),
    "mutants": lambda report, amounts: search.measure_mutants(report, amounts.schedules),
    "damage": lambda report, amounts: damage.measure(report, amounts.damaged),
    "replicas": lambda report, amounts: live.replicas(report, amounts.killing_s, amounts.load),
    "turns": lambda report, amounts: live.turns(report, amounts.turns),
    "orphans": lambda report, amounts: live.orphans(report),
    "rollback": lambda report, amounts: live.rollback(report, amounts.rollbacks),
    "overload": lambda report, amounts: overload.measure(report, amounts.overload_s, amounts.idle),
    "catalog": lambda report, amounts: catalog.gone(report, amounts.gone_s),
    "blobs": lambda report, amounts: blobs.unwritable(report, amounts.gone_s / 2),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"only these, by comma: {', '.join(PARTS)}")
    parser.add_argument(
        "--killing", type=float, metavar="S", help="seconds in which replicas are killed (default 300)"
    )
    parser.add_argument(
        "--load",
        type=float,
        metavar="SHARE",
        help="of what the system can answer, while killing (default 0.6)",
    )
    parser.add_argument("--cuts", type=int, metavar="N", help="power cuts (default 100)")
    parser.add_argument("--schedules", type=int, metavar="N", help="schedules of a search (default 200)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the moments of power cuts (default 0)")
    parser.add_argument("--overload", type=float, metavar="S", help="seconds of overload (default 180)")
    parser.add_argument(
        "--quick", action="store_true", help="only show that it runs; the figures mean nothing"
    )
    given = parser.parse_args()
    parts = given.parts.split(",")
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    # What was started and mounted is ended and unmounted, whoever asks for the end.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    report = Report("faults")
    for part in parts:
        PARTS[part](report, _amounts(given))
    report.finish(given.json)
    return 0


def _amounts(given: argparse.Namespace) -> Amounts:
    amounts = QUICK if given.quick else Amounts()
    chosen = {
        "killing_s": given.killing,
        "load": given.load,
        "overload_s": given.overload,
        "cuts": given.cuts,
        "schedules": given.schedules,
        "seed": given.seed,
    }
    return replace(amounts, **{name: value for name, value in chosen.items() if value is not None})


if __name__ == "__main__":
    sys.exit(main())
