"""Faults: what a system loses, and how soon it serves again.

    python -m benchmarks.faults --json FILE [--parts power,search,damage] [--quick]

`power`, `search` and `damage` drive the storage and the rollout controller without a system. The others start systems
and take minutes each. Power cuts need root and a loop device.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults import damage, power, search
from benchmarks.report import Report


@dataclass(frozen=True)
class Amounts:
    """How much is tried."""

    cuts: int = 100
    schedules: int = 200
    damaged: int = 1_000  # flips, and as many truncations


QUICK = Amounts(cuts=2, schedules=2, damaged=10)

PARTS: dict[str, Callable[[Report, Amounts], None]] = {
    "power": lambda report, amounts: power.measure(report, amounts.cuts),
    "search": lambda report, amounts: search.measure(report, amounts.schedules),
    "damage": lambda report, amounts: damage.measure(report, amounts.damaged),
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
        "--quick", action="store_true", help="only show that it runs; the figures mean nothing"
    )
    given = parser.parse_args()
    parts = given.parts.split(",")
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    report = Report("faults")
    for part in parts:
        PARTS[part](report, QUICK if given.quick else Amounts())
    report.finish(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
