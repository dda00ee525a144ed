"""What guidance alone gives: the starter at many settings of guidance, as a curve of plausible rate against coverage,
and how far the aligned versions lie above it.

python -m benchmarks.alignment.curve --json FILE [--work FOLDER] [--quick]

Feedback has to give what guidance cannot: more guidance draws more plausible images too, and covers less of the real
ones. All versions draw the same prompts and seeds; aligned ones as they are served.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t as student_t

from benchmarks.alignment.measured_set import Judges
from benchmarks.alignment.plan import DEFAULT, PBC64, QUICK, AlignmentPlan, DrawingOptions
from benchmarks.alignment.world import World
from benchmarks.report import Figure, Report, arguments, screen
from training.evaluation.coverage import covered
from training.evaluation.evidence import GeneratedSet
from training.evaluation.intervals import Z95
from training.evaluation.judge import Judge

SCALES = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0)
WHOLE = (0.0, 1.0)
INTERVALS = (WHOLE, (0.2, 0.8), (0.4, 1.0))
"""Shares of an image's steps in which it is guided."""
QUICK_SCALES, QUICK_INTERVALS = (1.0, 2.0, 4.0), (WHOLE,)
ROUNDS = 1000


@dataclass(frozen=True)
class Point:
    """N images of one version at one setting: bool [N] which are plausible, and bool [R, N] which of R real images each
    covers."""

    plausible: np.ndarray
    covers: np.ndarray

    def at(self, count: np.ndarray) -> tuple[float, float]:
        """Plausible rate and coverage where each image is taken so often, [N]."""
        rate = float((self.plausible * count).sum() / count.sum())
        return rate, float(self.covers[:, count > 0].any(1).mean())


Drawings = Mapping[str, GeneratedSet]
"""By the name of their point."""
See = Callable[[np.ndarray, Sequence[str]], Point]
"""How a judge sees images uint8 [N, H, W, 3] and their prompts."""


class Curve:
    """The most of the real images that settings, or mixtures of two, cover at a plausible rate of at least so much.

    The upper concave hull of the points: who draws a share of the images at one setting and the rest at another has the
    rates of the line between the two, and covers no less than that. Beyond the most plausible setting it is that one's.
    """

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        hull: list[tuple[float, float]] = []
        for point in sorted({(0.0, max(cover for _, cover in points)), *points}):
            while hull and (hull[-1][1] <= point[1] or (len(hull) > 1 and _below(hull[-2], hull[-1], point))):
                hull.pop()
            hull.append(point)
        self.points = tuple(hull)

    def coverage(self, plausible: float) -> float:
        rates, covered = zip(*self.points, strict=True)
        # The first point of a hull that only falls is its highest.
        return float(np.interp(plausible, rates, covered))


def _below(left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]) -> bool:
    """Whether the middle point lies on or under the line from left to right."""
    (x0, y0), (x1, y1), (x2, y2) = left, middle, right
    return (y1 - y0) * (x2 - x0) <= (y2 - y0) * (x1 - x0)


def above(
    curve: Sequence[Point], aligned: Sequence[Point], rounds: int = ROUNDS
) -> tuple[float, float, float]:
    """Coverage of the aligned versions above the curve at their own plausible rate, in the mean over training seeds,
    with a 95 % interval.

    Two things might have come out otherwise. Training seeds: Student's t of the seeds' values. Images: prompt and seed
    are resampled, for all versions alike, and the deviations from their mean are counted, because resampled images are
    fewer different ones and cover less. Both are added as variances; with one training seed the images alone count.
    """

    def heights(count: np.ndarray) -> np.ndarray:
        hull = Curve([point.at(count) for point in curve])
        return np.array([cover - hull.coverage(rate) for rate, cover in (one.at(count) for one in aligned)])

    number = len(curve[0].plausible)
    random = np.random.default_rng(0)
    value = heights(np.ones(number))
    drawn = (np.bincount(random.integers(0, number, number), minlength=number) for _ in range(rounds))
    by_images = Z95 * float(np.std([heights(count).mean() for count in drawn]))
    by_seeds = 0.0
    if len(value) > 1:
        by_seeds = float(student_t.ppf(0.975, len(value) - 1) * value.std(ddof=1) / np.sqrt(len(value)))
    half = float(np.hypot(by_images, by_seeds))
    return float(value.mean()), float(value.mean()) - half, float(value.mean()) + half


def point_of(judge: Judge) -> See:
    def point(images: np.ndarray, prompts: Sequence[str]) -> Point:
        covers = covered(judge.reference, judge.features(images))
        return Point(judge.assess(images, prompts).plausible, covers)

    return point


def measure(
    report: Report, world: World, judges: Judges, drawings: Sequence[DrawingOptions], method: str = DEFAULT
) -> None:
    """Adds a point for each setting of the starter, one for each training seed, and the height above the curve; by the
    sealed judge where it is at hand, and by the first judge beside."""
    world.rate()
    report.add("curve_judged_by_the_sealed_judge", Figure(float(judges.sealed), ""))
    base = {f"curve_{one.name}": world.starter_at(one) for one in drawings}
    runs = [world.align(method, seed)[:2] for seed in world.plan.seeds]
    aligned = {f"curve_aligned_{number}": world.judged(*run) for number, run in enumerate(runs)}
    value, low, high = _heights(report, base, aligned, point_of(judges.judge))
    report.add("above_guidance_curve_points", Figure(value, "points", low, high, ">= 3", ">= 10"))
    report.add("above_guidance_curve_low_points", Figure(low, "points", must="> 0"))
    if judges.sealed:
        height = _heights(report, base, aligned, point_of(judges.first), "_by_first_judge")
        report.add("above_guidance_curve_points_by_first_judge", Figure(height[0], "points", *height[1:]))


def _heights(
    report: Report, base: Drawings, aligned: Drawings, point: See, suffix: str = ""
) -> tuple[float, float, float]:
    """Tells every point, and answers the height above the curve with its interval, in percentage points."""
    sides = []
    for drawings in (base, aligned):
        points = {name: point(drawn.images, drawn.prompts) for name, drawn in drawings.items()}
        for name, one in points.items():
            plausible, coverage = one.at(np.ones(len(one.plausible)))
            report.add(f"{name}_plausible{suffix}", Figure(plausible, "share"))
            report.add(f"{name}_coverage{suffix}", Figure(coverage, "share"))
        sides.append(list(points.values()))
    value, low, high = above(*sides)
    return 100 * value, 100 * low, 100 * high


def drawings(
    scales: Sequence[float] = SCALES, intervals: Sequence[tuple[float, float]] = INTERVALS
) -> list[DrawingOptions]:
    """Every scale on every interval; without guidance the interval says nothing."""
    guided = [
        DrawingOptions(guidance=scale, start=start, stop=stop)
        for start, stop in intervals
        for scale in scales
        if scale > 1
    ]
    return [DrawingOptions(guidance=1.0), *guided]


def main() -> int:
    parser = arguments("benchmarks.alignment.curve", str(__doc__).splitlines()[0])
    parser.add_argument("--work", type=Path, help="keep what is drawn and trained here, and go on from it")
    parser.add_argument("--data", type=Path, default=PBC64, help="folder of pbc64")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if not given.data.is_dir():
        screen().print(f"skipped: {given.data} is not there; give the folder of pbc64 with --data.")
        return 0
    report = Report("curve")
    with tempfile.TemporaryDirectory() as scratch:
        world = World(given.work or Path(scratch), QUICK if given.quick else AlignmentPlan(), given.data)
        chosen = drawings(QUICK_SCALES, QUICK_INTERVALS) if given.quick else drawings()
        measure(report, world, Judges(given.data, world.folder / "features", sealed=True), chosen)
    report.finish(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
