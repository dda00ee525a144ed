"""What an expert is asked next: where their verdict teaches the most, never nothing, and never always the same."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from services.feedback.selection import choose
from vouch.records import ImageRecord, Score


@pytest.fixture
def images(make_image) -> list[ImageRecord]:
    return [make_image(number, label="monocyte") for number in range(40)]


def scored(images: list[ImageRecord], **values) -> dict[str, Score]:
    """Scores of the images; a value may be a function of the image's place."""

    def at(place: int, name: str, default: float) -> float:
        value = values.get(name, default)
        return value(place) if callable(value) else value

    return {
        image.digest: Score(
            image=image.digest,
            version="r" * 64,
            overall=at(place, "overall", 0.5),
            std=at(place, "std", 0.1),
            criteria={"granules": at(place, "granules", 0.5)},
        )
        for place, image in enumerate(images)
    }


def often(
    images: list[ImageRecord], scores: dict[str, Score], count: int = 8, rounds: int = 60
) -> Counter[int]:
    """How often each place is chosen."""
    place = {image.digest: number for number, image in enumerate(images)}
    found = Counter[int]()
    for seed in range(rounds):
        chosen = choose(images, scores, count, threshold=0.5, chance=random.Random(seed))
        assert len({image.digest for image in chosen}) == count
        found.update(place[image.digest] for image in chosen)
    return found


def share(found: Counter[int], places: range) -> float:
    return sum(found[place] for place in places) / found.total()


def test_images_that_the_ensemble_disagrees_about_come_first(images):
    found = often(images, scored(images, std=lambda place: 0.3 if place < 10 else 0.01))
    assert share(found, range(10)) > 0.6


def test_images_near_the_threshold_come_first(images):
    found = often(images, scored(images, overall=lambda place: 0.5 if place < 10 else 0.99))
    assert share(found, range(10)) > 0.6


def test_those_chosen_together_differ(images):
    """Two kinds that are worth the same, one of which is ten times as frequent."""
    scores = scored(images, granules=lambda place: 0.1 if place < 36 else 0.9)
    together = [choose(images, scores, 2, threshold=0.5, chance=random.Random(seed)) for seed in range(60)]
    rare = {image.digest for image in images[36:]}
    mixed = sum(len(rare & {image.digest for image in pair}) == 1 for pair in together)
    assert mixed > 30  # by chance alone about 11


def test_without_scores_all_count_the_same(images):
    found = often(images, {}, rounds=200)
    assert len(found) == 40
    assert max(found.values()) < 2.2 * found.total() / 40


def test_an_image_without_a_score_is_not_forgotten(images):
    scores = scored(images)
    del scores[images[0].digest]
    assert often(images, scores)[0] > 0


def test_it_is_never_empty_while_there_is_something(images):
    sure = scored(images, std=0.0, overall=1.0)
    assert len(choose(images, sure, 100, threshold=0.5, chance=random.Random(0))) == 40
    assert choose([], {}, 5, threshold=0.5, chance=random.Random(0)) == []


def test_what_is_like_the_images_rated_last_waits(images):
    """Also who asks for one image at a time is asked about different ones."""
    scores = scored(images, granules=lambda place: 0.1 if place < 20 else 0.9)
    left = images[1:]
    chosen = [
        choose(left, scores, 1, threshold=0.5, chance=random.Random(seed), beside=images[:1])[0]
        for seed in range(100)
    ]
    like = {image.digest for image in images[1:20]}
    assert sum(image.digest in like for image in chosen) < 30  # by chance alone about 49
