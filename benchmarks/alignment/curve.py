"""What guidance alone gives: the starter at many settings of guidance, as a curve of plausible rate against coverage,
and how far the aligned versions lie above it.

python -m benchmarks.alignment.curve --json FILE [--work FOLDER] [--quick]

Feedback has to give what guidance cannot: more guidance draws more plausible images too, and covers less of the real
ones. All versions draw the same prompts and seeds; aligned ones as they are served.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t as student_t
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

from benchmarks.alignment.plan import DEFAULT, PBC64, QUICK, Drawing, Plan
from benchmarks.alignment.world import STARTER, World
from benchmarks.report import Figure, Report, arguments, screen
from training.evaluation.coverage import NEAREST
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
    neighbours = NearestNeighbors(n_neighbors=NEAREST + 1).fit(judge.reference)
    radius = neighbours.kneighbors(judge.reference)[0][:, -1]

    def point(images: np.ndarray, prompts: Sequence[str]) -> Point:
        apart = pairwise_distances(judge.reference, judge.features(images))
        return Point(judge.assess(images, prompts).plausible, apart < radius[:, None])

    return point


def measure(
    report: Report, world: World, judge: Judge, drawings: Sequence[Drawing], method: str = DEFAULT
) -> None:
    """Adds a point for each setting of the starter, one for each training seed, and the height above the curve."""
    world.rate()
    point = point_of(judge)
    base = [_point(report, f"curve_{one.name}", world.starter_at(one), point) for one in drawings]
    aligned = []
    for seed in world.plan.seeds:
        name, lora, _ = world.align(method, seed)
        aligned.append(_point(report, f"curve_aligned_{seed}", world.judged(name, lora), point))
    value, low, high = (100 * bound for bound in above(base, aligned))
    report.add("above_guidance_curve_points", Figure(value, "points", low, high, ">= 3", ">= 10"))
    report.add("above_guidance_curve_low_points", Figure(low, "points", must="> 0"))


def _point(report: Report, name: str, drawn: GeneratedSet, point: See) -> Point:
    found = point(drawn.images, drawn.prompts)
    rate, covered = found.at(np.ones(len(drawn.prompts)))
    report.add(f"{name}_plausible", Figure(rate, "share"))
    report.add(f"{name}_coverage", Figure(covered, "share"))
    return found


def drawings(
    scales: Sequence[float] = SCALES, intervals: Sequence[tuple[float, float]] = INTERVALS
) -> list[Drawing]:
    """Every scale on every interval; without guidance the interval says nothing."""
    guided = [
        Drawing(guidance=scale, start=start, stop=stop)
        for start, stop in intervals
        for scale in scales
        if scale > 1
    ]
    return [Drawing(guidance=1.0), *guided]


def main() -> int:
    parser = arguments("benchmarks.alignment.curve", str(__doc__).splitlines()[0])
    parser.add_argument("--work", type=Path, help="keep what is drawn and trained here, and go on from it")
    parser.add_argument("--data", type=Path, default=PBC64, help="folder of pbc64")
    parser.add_argument("--judge", type=Path, default=STARTER / "judge", help="folder of the judge")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if not given.data.is_dir():
        screen().print(f"skipped: {given.data} is not there; give the folder of pbc64 with --data.")
        return 0
    report = Report("curve")
    with tempfile.TemporaryDirectory() as scratch:
        world = World(given.work or Path(scratch), QUICK if given.quick else Plan(), given.data)
        chosen = drawings(QUICK_SCALES, QUICK_INTERVALS) if given.quick else drawings()
        measure(report, world, Judge.load(given.judge), chosen)
    report.finish(given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
