"""The gate: tables of changes in, verdicts out; and a generator that was fooled into brightness."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from training.evaluation import pixels
from training.evaluation.gate import RULES, decide
from training.evaluation.intervals import Estimate, bootstrapped
from training.evaluation.sharpness import HIGH_BAND_DISTANCE

GOOD = {
    "plausible": Estimate(0.08, 0.04, 0.12),
    "recognised": Estimate(0.01, -0.01, 0.03),
    "coverage": Estimate(-0.01, -0.03, 0.01),
    "beta recall": Estimate(0.0, -0.02, 0.02),
    "diversity within a class": Estimate(-0.01, -0.03, 0.01),
    "copy alarms": Estimate(0.0, -0.01, 0.01),
    **{f"{name}, distance from real": Estimate(0.05, -0.02, 0.12) for name in pixels.STATISTICS},
    HIGH_BAND_DISTANCE: Estimate(-0.1, -0.2, 0.0),
}


def test_a_version_that_gains_and_loses_nothing_passes() -> None:
    found = decide(GOOD)
    assert found.passed and found.reasons == ()
    assert [check.name for check in found.checks] == [rule.name for rule in RULES]


@pytest.mark.parametrize(
    ("name", "change", "passes"),
    [
        ("plausible", Estimate(0.03, -0.01, 0.07), False),
        ("plausible", Estimate(0.03, 0.0, 0.06), True),
        ("plausible", Estimate(-0.05, -0.09, -0.01), False),
        ("recognised", Estimate(-0.02, -0.04, -0.01), False),
        ("recognised", Estimate(-0.01, -0.029, 0.01), True),
        ("coverage", Estimate(-0.03, -0.04, -0.02), True),
        ("coverage", Estimate(-0.06, -0.07, -0.05), False),
        ("coverage", Estimate(-0.03, -0.07, 0.01), False),
        ("beta recall", Estimate(-0.05, -0.07, -0.03), False),
        ("diversity within a class", Estimate(-0.13, -0.16, -0.10), False),
        ("copy alarms", Estimate(0.03, 0.01, 0.05), False),
        ("copy alarms", Estimate(-0.03, -0.05, -0.01), True),
        ("brightness, distance from real", Estimate(0.9, 0.8, 1.0), False),
        ("brightness, distance from real", Estimate(-0.9, -1.0, -0.8), True),
        ("contrast, distance from real", Estimate(0.24, 0.23, 0.25), True),
        (HIGH_BAND_DISTANCE, Estimate(0.6, 0.4, 0.8), False),
    ],
)
def test_one_change_decides(name: str, change: Estimate, passes: bool) -> None:
    found = decide(GOOD | {name: change})
    assert found.passed is passes
    assert all(reason.startswith(name) for reason in found.reasons)
    assert len(found.reasons) == (0 if passes else 1)


def test_too_few_images_to_rule_a_loss_out_are_refused_and_said_to_be_too_few() -> None:
    (reason,) = decide(GOOD | {"recognised": Estimate(0.0, -0.12, 0.12)}).reasons
    assert reason.endswith("the whole interval has to stay above -3.0; more images may show that it does")


def promoted(times: int, pairs: int = 2000) -> list[np.ndarray]:
    """Whether each image is recognised, of a champion and of versions that each lose two points more: bool [N]."""
    ranks = np.random.default_rng(0).permutation(pairs)
    return [ranks < (0.95 - 0.02 * number) * pairs for number in range(times + 1)]


def recognised(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Estimate]:
    return {"recognised": bootstrapped(ours.astype(float) - theirs, lambda part: float(part.mean()))}


def test_ten_promotions_of_two_points_less_are_not_twenty() -> None:
    versions = promoted(10)
    steps = [decide(GOOD | recognised(ours, theirs)).passed for theirs, ours in pairwise(versions)]
    assert steps == [True] * 10, "each step alone is within the margin, and together they lose twenty points"
    serving, refused = versions[0], 0
    for candidate in versions[1:]:
        changes, since_first = (GOOD | recognised(candidate, other) for other in (serving, versions[0]))
        if decide(changes, None if serving is versions[0] else since_first).passed:
            serving = candidate
        else:
            refused += 1
    assert refused == 9
    assert versions[0].mean() - serving.mean() < 0.03


def test_what_was_lost_since_the_first_champion_is_said() -> None:
    (reason,) = decide(GOOD, GOOD | {"coverage": Estimate(-0.08, -0.1, -0.06)}).reasons
    assert reason == (
        "coverage changed by -8.0 points (-10.0 to -6.0) since the first champion: "
        "the whole interval has to stay above -5.0"
    )


def test_the_first_champion_need_not_be_surpassed_again_by_every_candidate() -> None:
    assert decide(GOOD, GOOD | {"plausible": Estimate(0.0, -0.02, 0.02)}).passed
    assert not decide(GOOD, GOOD | {"plausible": Estimate(-0.04, -0.06, -0.02)}).passed


def test_what_was_not_measured_does_not_decide_and_is_said() -> None:
    found = decide({name: change for name, change in GOOD.items() if name != "coverage"})
    assert found.passed
    assert [check.sentence for check in found.checks if check.passed is None] == ["coverage was not measured"]


def test_a_reason_tells_figure_interval_and_what_was_allowed() -> None:
    (reason,) = decide(GOOD | {"coverage": Estimate(-0.071, -0.09, -0.052)}).reasons
    assert (
        reason == "coverage changed by -7.1 points (-9.0 to -5.2): the whole interval has to stay above -5.0"
    )


def cells(count: int, seed: int) -> np.ndarray:
    """Dark discs of random size and shade on a bright ground, uint8 [N, 16, 16, 3]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16]
    radius = random.uniform(3, 6, (count, 1, 1))
    inside = ((y - 8) ** 2 + (x - 8) ** 2) < radius**2
    shade = random.normal(90, 10, (count, 1, 1))
    images = np.where(inside, shade, random.normal(210, 8, (count, 1, 1)))
    return np.stack([images, images * 0.8, images], -1).clip(0, 255).astype(np.uint8)


def test_a_generator_that_learned_brightness_instead_of_cells_is_refused() -> None:
    """Whatever the judge says of it: the reward liked brightness, so the images became bright."""
    labels = ["cell"] * 300
    real = pixels.Pixels.of(cells(300, 0), labels)
    parent, hacked = cells(300, 1), (cells(300, 1) * 0.7 + 255 * 0.3).astype(np.uint8)
    seen = [real.standard(images, labels) for images in (hacked, parent)]
    moved = {f"{name}, distance from real": one for name, one in pixels.changes(real, *seen).items()}
    found = decide(GOOD | moved)
    assert not found.passed
    assert any(reason.startswith("brightness") for reason in found.reasons)
    same = {
        f"{name}, distance from real": one for name, one in pixels.changes(real, seen[1], seen[1]).items()
    }
    assert decide(GOOD | same).passed


def test_images_like_real_ones_are_near_them_and_brighter_ones_by_how_much_brighter_they_are() -> None:
    labels = ["cell"] * 400
    real = pixels.Pixels.of(cells(400, 0), labels)
    near = pixels.distances(real, real.standard(cells(400, 1), labels))
    assert all(estimate.low <= estimate.value <= estimate.high < 0.3 for estimate in near.values())
    deviation = real.centre["brightness"]["cell"][1]
    brighter = cells(400, 1).astype(float) + 255 * deviation
    far = pixels.distances(real, real.standard(brighter.clip(0, 255), labels))
    assert far["brightness"].value == pytest.approx(1.0, abs=0.15)
