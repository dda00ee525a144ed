"""What an expert is asked next: where their verdict teaches the most, never nothing, and never always the same."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from services.feedback.selection import choose, is_reserved
from vouch.types.image import ImageRecord
from vouch.types.score import Score


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
        assert len({choice.image.digest for choice in chosen}) == count
        found.update(place[choice.image.digest] for choice in chosen)
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
    mixed = sum(len(rare & {choice.image.digest for choice in pair}) == 1 for pair in together)
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
        choose(left, scores, 1, threshold=0.5, chance=random.Random(seed), beside=images[:1])[0].image
        for seed in range(100)
    ]
    like = {image.digest for image in images[1:20]}
    assert sum(image.digest in like for image in chosen) < 30  # by chance alone about 49


def test_a_fifth_is_drawn_uniformly_from_images_that_no_score_decides_about(images):
    scores = scored(images, std=lambda place: 0.3 if place < 20 else 0.01)
    found = Counter[str]()
    drawn = Counter[int]()
    place = {image.digest: number for number, image in enumerate(images)}
    for seed in range(600):
        (choice,) = choose(images, scores, 1, threshold=0.5, chance=random.Random(seed), uniform_share=0.2)
        assert (choice.stratum == "uniform") == is_reserved(choice.image.digest, 0.2)
        found[choice.stratum] += 1
        if choice.stratum == "uniform":
            drawn[place[choice.image.digest]] += 1
    assert found["uniform"] / 600 == pytest.approx(0.2, abs=0.05)
    reserved = [number for number, image in enumerate(images) if is_reserved(image.digest, 0.2)]
    assert set(drawn) == set(reserved)
    assert max(drawn.values()) < 3 * drawn.total() / len(reserved)


def test_the_propensity_is_the_chance_of_being_drawn(images):
    """Of one draw the propensities of all images add up to one, and each is how often that image comes."""
    scores = scored(images, std=lambda place: 0.3 if place < 10 else 0.05)
    told, often_drawn = dict[str, float](), Counter[str]()
    for seed in range(3000):
        (choice,) = choose(images, scores, 1, threshold=0.5, chance=random.Random(seed), uniform_share=0.2)
        told[choice.image.digest] = choice.propensity
        often_drawn[choice.image.digest] += 1
    assert sum(told.values()) == pytest.approx(1)
    assert [often_drawn[digest] / 3000 for digest in told] == pytest.approx(list(told.values()), abs=0.02)


def test_hard_images_that_the_queue_took_are_not_missing_from_the_uniform_stratum(images):
    """The mean disagreement of what is drawn uniformly stays that of all images, however much the queue has taken."""
    scores = scored(images, std=lambda place: 0.3 if place % 2 else 0.01)
    chance = random.Random(0)
    uniform: list[float] = []
    for _ in range(200):
        chosen = choose(images, scores, 36, threshold=0.5, chance=chance, uniform_share=0.2)
        uniform += [scores[c.image.digest].std for c in chosen if c.stratum == "uniform"]
    reserved = [scores[image.digest].std for image in images if is_reserved(image.digest, 0.2)]
    assert sum(uniform) / len(uniform) == pytest.approx(sum(reserved) / len(reserved), abs=0.02)


def test_while_one_stratum_is_empty_all_come_from_the_other(images):
    reserved = [image for image in images if is_reserved(image.digest, 0.2)]
    others = [image for image in images if not is_reserved(image.digest, 0.2)]
    for part, stratum in ((reserved, "uniform"), (others, "queue")):
        chosen = choose(part, {}, 40, threshold=0.5, chance=random.Random(0), uniform_share=0.2)
        assert [choice.stratum for choice in chosen] == [stratum] * len(part)
