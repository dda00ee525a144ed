"""Rollouts: false alarms, how soon harm is found, bad candidates stopped, images drawn again, the slowest request.

    python -m benchmarks.rollout --json FILE [--parts chance,planted,replayed,slowest] [--quick]

`chance` simulates verdicts and asks the real analysis. `planted` asks the real policy about pictures that the starter
really drew and the starter's judge really judged; its copies need the real cells (pbc64). `replayed` and `slowest`
start a system.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.report import Report
from benchmarks.rollout import chance, planted, replayed, slowest
from benchmarks.rollout.plan import MeasurementPlan, full, quick

PARTS: dict[str, Callable[[Report, MeasurementPlan], None]] = {
    "chance": chance.measure,
    "planted": planted.measure,
    "replayed": replayed.measure,
    "slowest": slowest.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rollout",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"only these, by comma: {', '.join(PARTS)}")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/pbc64"), help="folder of pbc64")
    parser.add_argument(
        "--replays", type=int, metavar="N", help="images that are drawn again (default 1,000)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="only show that it runs; the figures mean nothing"
    )
    given = parser.parse_args()
    parts = given.parts.split(",")
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    plan = (quick if given.quick else full)(given.data)
    if given.replays:
        plan = replace(plan, replays=given.replays)
    report = Report("rollout")
    for part in parts:
        PARTS[part](report, plan)
    report.finish(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
