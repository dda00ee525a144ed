"""Several raters together: the careful count more than the careless."""

from __future__ import annotations

import random

from training.raters import Answer, consensus


def asked(wrong: dict[str, float], images: int = 200, seed: int = 0) -> tuple[dict[str, bool], list[Answer]]:
    """The truth about so many images, and answers of raters who are wrong so often."""
    chance = random.Random(seed)
    truth = {f"image-{number}": chance.random() < 0.5 for number in range(images)}
    answers = [
        Answer(image, rater, right != (chance.random() < often))
        for image, right in truth.items()
        for rater, often in wrong.items()
    ]
    return truth, answers


def share_right(found: dict[str, float], truth: dict[str, bool]) -> float:
    return sum((found[image] > 0.5) == right for image, right in truth.items()) / len(truth)


def test_one_careful_rater_outweighs_two_careless_ones():
    truth, answers = asked({"careful": 0.03, "careless": 0.4, "hasty": 0.4, "fair": 0.15})
    majority = {image: sum(a.yes for a in answers if a.image == image) / 4 + 1e-9 for image in truth}
    assert share_right(consensus(answers), truth) > share_right(majority, truth) + 0.02


def test_one_rater_alone_is_taken_at_its_word():
    assert consensus([Answer("a", "one", True), Answer("b", "one", False)]) == {"a": 1.0, "b": 0.0}


def test_raters_who_share_too_few_images_are_averaged():
    answers = [Answer("a", "one", True), Answer("a", "two", False), Answer("b", "two", True)]
    assert consensus(answers) == {"a": 0.5, "b": 1.0}


def test_images_of_known_truth_show_who_is_careless():
    """Two raters who contradict each other: which of them is right is known from elsewhere."""
    truth, answers = asked({"careful": 0.05, "contrary": 0.95}, images=120)
    known = dict(list(truth.items())[:40])
    assert share_right(consensus(answers, known), truth) > 0.9


def test_truth_about_images_that_nobody_answered_changes_nothing():
    answers = [Answer("a", "one", True)]
    assert consensus(answers, {"elsewhere": False}) == {"a": 1.0}


def test_no_answers_say_nothing():
    assert consensus([]) == {}
