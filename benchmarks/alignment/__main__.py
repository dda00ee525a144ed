"""Learning from experts, measured: every method of alignment on the same simulated ratings and in the same time, before
a judge that taught none of them; the review queue; a new concept; what a classifier gains; a reward's planted error.

    python -m benchmarks.alignment --json FILE [--quick] [--work FOLDER] [--parts A,B] [--methods A,B] [--peers]

Every part also runs on its own: `python -m benchmarks.alignment.queue` and so on.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.alignment import concept, curve, downstream, hacked, methods, peer, plots, queue, rare, reward
from benchmarks.alignment.measured_set import Judges
from benchmarks.alignment.plan import PBC64, QUICK, AlignmentPlan
from benchmarks.alignment.world import World
from benchmarks.report import Report, screen

console = screen()
WITHOUT_REAL = ("reward", "methods", "queue")
QUICK_PARTS = ("reward", "methods")
PARTS = (*WITHOUT_REAL, "curve", "hacked", "concept", "downstream", "rare")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="ten minutes; the figures mean little")
    parser.add_argument("--work", type=Path, help="keep what is drawn and trained here, and go on from it")
    parser.add_argument(
        "--data",
        type=Path,
        default=PBC64,
        help="folder of pbc64: real images that nobody learned from, and an anchor",
    )
    parser.add_argument(
        "--peers", action="store_true", help="make the environments of trainers that others wrote"
    )
    parser.add_argument(
        "--parts",
        help=f"only these, by comma: {', '.join(PARTS)}; --quick runs {' and '.join(QUICK_PARTS)} alone",
    )
    parser.add_argument("--methods", help="only these, by comma")
    parser.add_argument("--seconds", type=float, help="of training for every method")
    parser.add_argument("--seeds", type=int, help="how many")
    parser.add_argument("--rated", type=int, help="images that are rated; fewer teach less")
    parser.add_argument("--judged", type=int, help="images of every version; fewer widen the intervals")
    parser.add_argument(
        "--scales", type=float, nargs="+", help="of guidance, in place of the curve's own, on every interval"
    )
    arguments = parser.parse_args()
    plan = _runnable(_plan(arguments), arguments.peers)
    parts = arguments.parts.split(",") if arguments.parts else QUICK_PARTS if arguments.quick else PARTS
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    report = Report("alignment")
    with tempfile.TemporaryDirectory() as scratch:
        for part in parts:
            work = arguments.work or Path(scratch)
            report.include(measured(part, work, plan, _real(arguments.data), arguments.scales))
    report.finish(arguments.json, console=console)
    for path in plots.plot(arguments.json) if arguments.json else ():
        console.print(path)


def measured(
    part: str, work: Path, plan: AlignmentPlan, real: Path | None, scales: Sequence[float] | None = None
) -> Report:
    """One part on its own. Nothing, where it needs real images and there are none. scales: of the curve."""
    report = Report(part)
    if real is None and part not in WITHOUT_REAL:
        console.print(f"[yellow]{part} is left out: it needs real images.[/yellow]")
    elif part == "reward":
        reward.measure(report, World(work, plan, real))
    elif part == "methods":
        methods.measure(report, World(work, plan, real))
    elif part == "curve":
        drawings = curve.drawings(scales or curve.SCALES)
        world = World(work, plan, real)
        curve.measure(report, world, Judges(real, world.folder / "features", sealed=True), drawings)
    elif part == "queue":
        study = queue.Study(work / part, queue.unannotated(work / part, real), queue.QueuePlan())
        return queue.measured(study, ["random", "queue"])
    elif part == "hacked":
        hacked.measure(report, hacked.Hacked(work / part, hacked.PLAN, real))
    elif part == "concept":
        assert real is not None
        for name, figure in concept.measured(
            work / part, (concept.SECONDS, concept.PRACTICE), 0, real
        ).items():
            report.add(name, figure)
    elif part == "rare":
        assert real is not None
        return rare.measured(downstream.Source(downstream.STARTER, work / part), real, "test")
    else:
        assert real is not None
        source = downstream.Source(downstream.STARTER, work / part)
        return downstream.measured(source, real, downstream.COUNT, "test")
    return report


def _real(folder: Path) -> Path | None:
    if folder.is_dir():
        return folder
    console.print(
        f"[yellow]There is no {folder}: without real images reward weighting has no anchor, and how much of "
        "the gap to them is closed cannot be said.[/yellow]"
    )
    return None


def _plan(arguments: argparse.Namespace) -> AlignmentPlan:
    chosen = QUICK if arguments.quick else AlignmentPlan()
    changes = {
        "methods": tuple(arguments.methods.split(",")) if arguments.methods else chosen.methods,
        "seconds": arguments.seconds or chosen.seconds,
        "seeds": tuple(range(arguments.seeds)) if arguments.seeds else chosen.seeds,
        "rated": arguments.rated or chosen.rated,
        "judged": arguments.judged or chosen.judged,
    }
    return AlignmentPlan(**{**vars(chosen), **changes})


def _runnable(plan: AlignmentPlan, make: bool) -> AlignmentPlan:
    """The plan with the methods that can run here; says which cannot, and why."""
    reasons = {method: peer.why_not(method, make) for method in plan.methods}
    for reason in filter(None, reasons.values()):
        console.print(f"[yellow]{reason}[/yellow]")
    return replace(plan, methods=tuple(method for method, reason in reasons.items() if not reason))


if __name__ == "__main__":
    main()
