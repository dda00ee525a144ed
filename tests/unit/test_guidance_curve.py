"""The starter's guidance as a curve, and how far an aligned version lies above it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.alignment.curve import Curve, Point, above, drawings
from benchmarks.alignment.plan import DrawingOptions

POINTS = [(0.5, 0.6), (0.8, 0.5), (0.9, 0.2)]


def test_between_two_settings_a_mixture_of_both_is_what_guidance_gives() -> None:
    curve = Curve(POINTS)
    assert curve.coverage(0.8) == pytest.approx(0.5)
    assert curve.coverage(0.65) == pytest.approx(0.55)
    assert curve.coverage(0.85) == pytest.approx(0.35)


def test_a_setting_that_is_worse_than_a_mixture_of_others_changes_nothing() -> None:
    assert Curve([*POINTS, (0.65, 0.4), (0.7, 0.1), (0.5, 0.3)]).points == Curve(POINTS).points


def test_a_less_plausible_version_is_held_against_the_widest_setting_and_a_more_plausible_against_the_last() -> (
    None
):
    curve = Curve(POINTS)
    assert curve.coverage(0.1) == pytest.approx(0.6)
    assert curve.coverage(0.99) == pytest.approx(0.2)
    assert Curve([(0.7, 0.4)]).coverage(0.9) == pytest.approx(0.4)


def sample(plausible: float, variety: int, seed: int, count: int = 400, real: int = 300) -> Point:
    """Images of which this share is plausible, each near one of the first `variety` of the real ones."""
    random = np.random.default_rng(seed)
    near = random.integers(0, variety, count)
    return Point(random.random(count) < plausible, near[None] == np.arange(real)[:, None])


def starter() -> list[Point]:
    return [sample(0.6, 200, 1), sample(0.8, 150, 2), sample(0.95, 80, 3)]


def test_a_version_that_covers_more_at_the_same_plausible_rate_lies_above() -> None:
    value, low, high = above(starter(), [sample(0.9, 200, seed) for seed in (4, 5, 6)], rounds=200)
    assert low > 0 and value == pytest.approx(0.24, abs=0.05)
    assert low < value < high


def test_more_guidance_in_disguise_lies_on_the_curve() -> None:
    """Versions that cover what guidance covers at their plausible rate: the interval holds 0 nearly always."""
    held = 0
    for repeat in range(20):
        copies = [sample(0.8, 150, 100 + 10 * repeat + seed) for seed in range(3)]
        _, low, high = above(starter(), copies, rounds=100)
        held += low <= 0 <= high
    assert held >= 17


def test_training_seeds_that_differ_make_the_interval_wide() -> None:
    alike = [sample(0.9, 200, 4)] * 3
    apart = [sample(0.9, variety, 4) for variety in (120, 200, 280)]
    widths = [high - low for _, low, high in (above(starter(), one, rounds=100) for one in (alike, apart))]
    assert widths[1] > 3 * widths[0]
    assert above(starter(), alike[:1], rounds=100)[1] < above(starter(), alike[:1], rounds=100)[2]


def test_without_guidance_no_interval_is_swept() -> None:
    swept = drawings()
    assert swept[0] == DrawingOptions(guidance=1.0) and len(swept) == len({one.name for one in swept})
    assert all(one.guidance is not None and one.guidance > 1 for one in swept[1:])
    assert {(one.start, one.stop) for one in swept[1:]} >= {(0.0, 1.0), (0.2, 0.8)}
    assert DrawingOptions().name == "served" and swept[1].name == "guidance-1.1-start-0-stop-1"
