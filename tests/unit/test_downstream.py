"""Classifiers that learn from real and generated images, where it is known which of them teach anything."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.alignment.downstream import add_gain, asked
from benchmarks.alignment.rare import add_rare_gain, few_of_each, with_rare
from benchmarks.report import Report
from training.data.examples import Examples
from training.evaluation.downstream import (
    Labelled,
    Learning,
    _batch,
    accuracy,
    correct,
    downstream,
    figures,
    share_of,
    train,
)
from training.evaluation.intervals import Estimate

LABELS = ("dark", "bright")
SHORT = Learning(steps=30, batch=16, widths=(8, 8))


def shades(count: int, seed: int, *, swapped: bool = False) -> Labelled:
    """Dark and bright noise in turn; `swapped`: with the name of the other."""
    random = np.random.default_rng(seed)
    shade = np.array([60 if row % 2 == 0 else 190 for row in range(count)])[:, None, None, None]
    images = (shade + random.normal(0, 25, (count, 3, 16, 16))).clip(0, 255).astype(np.uint8)
    names = LABELS[::-1] if swapped else LABELS
    return Labelled(torch.from_numpy(images), tuple(names[row % 2] for row in range(count)))


def test_images_with_right_names_teach_and_with_wrong_ones_mislead(tmp_path: Path) -> None:
    test = shades(60, 9)
    good = figures(downstream(shades(8, 0), shades(40, 1), test, SHORT, (0,), tmp_path))
    assert good["downstream accuracy, synthetic"].value > 0.9
    bad = figures(downstream(shades(8, 0), shades(40, 1, swapped=True), test, SHORT, (0,), tmp_path))
    assert bad["downstream accuracy, synthetic"].value < 0.1
    assert bad["downstream accuracy, real"] == good["downstream accuracy, real"]
    assert len(list(tmp_path.iterdir())) == 5  # the one of real images alone serves both


def test_a_share_holds_every_class_in_proportion_and_is_the_same_again() -> None:
    labels = ["a"] * 100 + ["b"] * 40 + ["c"] * 3
    rows = share_of(labels, 0.1, seed=1)
    assert Counter(labels[row] for row in rows) == {"a": 10, "b": 4, "c": 1}
    assert rows == share_of(labels, 0.1, seed=1) != share_of(labels, 0.1, seed=2)


@pytest.mark.parametrize("symmetric", [True, False])
def test_sides_can_be_learned_where_a_mirrored_image_shows_something_else(symmetric: bool) -> None:
    """The class is the side that is bright: a classifier that reads turned images cannot learn it."""
    images = np.random.default_rng(0).integers(0, 60, (60, 3, 16, 16), dtype=np.uint8)
    images[::2, ..., :8] += 150
    images[1::2, ..., 8:] += 150
    sides = Labelled(torch.from_numpy(images), ("left", "right") * 30)
    learning = Learning(steps=60, batch=16, widths=(8, 8), symmetric=symmetric)
    share = correct(train(sides, None, learning, 0), sides).mean()
    assert (share > 0.9) != symmetric


@pytest.mark.parametrize(("step", "generated"), [(1, 12), (5, 12), (6, 0), (10, 0)])
def test_batches_are_mixed_until_only_real_images_are_left(step: int, generated: int) -> None:
    learning = Learning(steps=10, batch=16, synthetic_share=0.75, real_only_after=0.5)
    real, made = (
        Labelled(torch.zeros(4, 3, 2, 2), ("real",) * 4),
        Labelled(torch.ones(4, 3, 2, 2), ("made",) * 4),
    )
    found = {part.labels[0]: part for part in _batch(real, made, learning, step, torch.Generator())}
    assert {name: len(part) for name, part in found.items() if name == "made"} == (
        {"made": generated} if generated else {}
    )
    assert sum(map(len, found.values())) == 16
    assert all(bool((part.images == (name == "made")).all()) for name, part in found.items())


def test_the_gain_is_paired_and_its_interval_covers_seeds_and_images() -> None:
    random = np.random.default_rng(0)
    alone = random.random((3, 400)) < 0.8
    better = alone | (random.random((3, 400)) < 0.3)
    gain = accuracy(better.astype(float) - alone)
    assert 0 < gain.low < gain.value < gain.high
    apart = accuracy(np.repeat([[0.0], [1.0]], 50, axis=1))
    assert (apart.low, apart.high) == (0.0, 1.0)


def test_prompts_lend_labels_and_attributes_from_the_few_real_images_and_from_nothing_else() -> None:
    labels = ("neutrophil", "neutrophil", "platelet")
    attributes: tuple[dict[str, str], ...] = ({"cell_size": "big"}, {"cell_size": "small"}, {})
    few = Examples(torch.zeros(3, 3, 2, 2), labels, attributes, ({}, {}, {}), "digest")
    rows, prompts = asked(few, 30)
    assert Counter(labels[row] for row in rows) == {"neutrophil": 20, "platelet": 10}
    known = {"neutrophil", "neutrophil, cell size big", "neutrophil, cell size small", "platelet"}
    assert set(prompts) == known
    assert prompts[:6] == asked(few, 6)[1]  # more images are the same ones and others


@pytest.mark.parametrize(("low", "met"), [(0.001, True), (0.0, False), (-0.001, False)])
def test_a_gain_is_asked_for_with_its_whole_interval(low: float, met: bool) -> None:
    report = Report("downstream")
    add_gain(report, Estimate(0.02, low, 0.04))
    figure = report.figures["downstream_gain_low_points"]
    assert figure.meets(figure.must) is met
    assert report.figures["downstream_gain_points"].value == pytest.approx(2.0)


def test_a_rare_type_has_few_images_of_its_own_and_as_many_rows_as_the_others() -> None:
    labels = ("a", "b", "c") * 10
    images = torch.arange(30, dtype=torch.uint8)[:, None, None, None].expand(30, 3, 2, 2).contiguous()
    train_set = Examples(images, labels, ({},) * 30, ({},) * 30, "digest")
    few = train_set.subset(few_of_each(labels, 2))
    assert few.labels == ("a", "b", "c") * 2
    real = with_rare(train_set, few, "b")
    assert Counter(real.labels) == {"a": 10, "b": 10, "c": 10}
    rare_images = {
        int(image[0, 0, 0]) for image, label in zip(real.images, real.labels, strict=True) if label == "b"
    }
    assert len(rare_images) == 2


def test_the_gain_of_a_rare_type_is_its_recall_and_the_others_stand_beside() -> None:
    labels = ("a", "a", "b", "b")
    test_set = Examples(torch.zeros(4, 3, 2, 2), labels, ({},) * 4, ({},) * 4, "digest")
    plain, helped = np.array([[0, 0, 1, 1]], bool), np.array([[1, 1, 1, 0]], bool)
    report = Report("rare")
    add_rare_gain(report, {"a": {"real": plain, "real and synthetic": helped}}, test_set)
    assert report.figures["rare_type_gain_points"].value == 100
    assert report.figures["other_types_change_points"].value == -50


def test_an_image_that_counts_for_two_rare_types_is_one_image_of_the_interval() -> None:
    labels = ("a", "b", *("c",) * 30)
    test_set = Examples(torch.zeros(32, 3, 2, 2), labels, ({},) * 32, ({},) * 32, "digest")
    plain = np.zeros((1, 32), bool)
    helped = plain.copy()
    helped[:, 2::2] = True
    reports = [Report("one"), Report("two")]
    readings = {"real": plain, "real and synthetic": helped}
    for report, types in zip(reports, ("a", "ab"), strict=True):
        add_rare_gain(report, dict.fromkeys(types, readings), test_set)
    one, two = (report.figures["other_types_change_points"] for report in reports)
    assert one.low is not None and two.low is not None and one.high is not None and two.high is not None
    assert two.high - two.low == pytest.approx(one.high - one.low, rel=0.1)
