"""The copy alarm: planted copies of real cells are found, unseen cells are not taken for copies."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

import vouch
from tests.real import PBC64, needs_pbc64
from training.data.examples import load_examples
from training.evaluation.codec import load_autoencoder, through
from training.evaluation.copies import FALSE_ALARMS, KINDS, CopyAlarm, planted

STARTER = Path(vouch.__file__).parent / "starter" / "generator"


def textures(count: int, seed: int, size: int = 32) -> np.ndarray:
    """Coarse random patterns, each its own, uint8 [N, size, size, 3]."""
    coarse = np.random.default_rng(seed).integers(60, 200, (count, size // 4, size // 4, 3))
    return coarse.repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)


def test_unseen_images_set_it_off_as_often_as_is_allowed() -> None:
    alarm = CopyAlarm.calibrated(textures(300, 0), textures(600, 1), symmetric=True)
    assert alarm.false_alarms().value == pytest.approx(FALSE_ALARMS, abs=0.01)
    assert alarm.alarmed(textures(400, 2)).mean() == pytest.approx(FALSE_ALARMS, abs=0.02)


def test_a_copy_is_found_in_any_orientation_and_named() -> None:
    train = textures(300, 0)
    alarm = CopyAlarm.calibrated(train, textures(200, 1), symmetric=True)
    turned = planted(train[:7], True, None)["turned"]
    assert not any(np.array_equal(one, other) for one, other in zip(turned, train[:7], strict=True))
    assert alarm.alarmed(turned).all()
    assert alarm.nearest(turned).index.tolist() == list(range(7))


def test_where_up_and_left_mean_something_a_turned_image_is_another_one() -> None:
    train = textures(300, 0)
    alarm = CopyAlarm.calibrated(train, textures(200, 1), symmetric=False)
    assert alarm.alarmed(train[:20]).all()
    assert alarm.alarmed(planted(train[:100], True, None)["turned"]).mean() < 0.1
    assert set(alarm.power(train, None, count=20)) == {"exact"}


def test_another_stain_is_no_disguise() -> None:
    train = textures(300, 0)
    alarm = CopyAlarm.calibrated(train, textures(200, 1), symmetric=True)
    assert alarm.alarmed((train[:20] + np.array([20, 0, 10])).clip(0, 255).astype(np.uint8)).all()


def test_a_thumbnail_is_the_same_at_any_size() -> None:
    train = textures(100, 0)
    alarm = CopyAlarm.calibrated(train, textures(100, 1), symmetric=True)
    twice = train[:10].repeat(2, axis=1).repeat(2, axis=2)
    assert alarm.alarmed(twice).all()


@needs_pbc64
def test_copies_of_real_cells_are_found_though_turned_and_through_the_autoencoder() -> None:
    """Networks' features find 0.05 of the last kind."""
    cells = load_examples(PBC64 / "val.parquet").images.permute(0, 2, 3, 1).numpy()
    train, unseen = cells[::2], cells[1::2]
    alarm = CopyAlarm.calibrated(train, unseen, symmetric=True)
    power = alarm.power(train, partial(through, load_autoencoder(STARTER)), count=24)
    assert set(power) == set(KINDS)
    assert min(estimate.value for estimate in power.values()) >= 0.95
    assert alarm.false_alarms().high < 0.04
