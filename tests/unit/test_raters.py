"""Several raters together: the careful count more than the careless."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest
from crowdkit.aggregation import DawidSkene

from training.inputs.consensus import BinaryAnswer, Prior, Votes, consensus, dawid_skene


def asked(
    wrong: dict[str, float], images: int = 200, seed: int = 0
) -> tuple[dict[str, bool], list[BinaryAnswer]]:
    """The truth about so many images, and answers of raters who are wrong so often."""
    chance = random.Random(seed)
    truth = {f"image-{number}": chance.random() < 0.5 for number in range(images)}
    answers = [
        BinaryAnswer(image, rater, right != (chance.random() < often))
        for image, right in truth.items()
        for rater, often in wrong.items()
    ]
    return truth, answers


def disputed(answers: list[BinaryAnswer]) -> BinaryAnswer:
    """The yes of an image about which two raters differ."""
    by_image: dict[str, list[BinaryAnswer]] = {}
    for answer in answers:
        by_image.setdefault(answer.image, []).append(answer)
    return next(a for both in by_image.values() if len({b.yes for b in both}) == 2 for a in both if a.yes)


def test_a_rater_who_repeats_an_answer_still_has_one_vote():
    """As a second vote it turns an even case into a certain one."""
    _, answers = asked({"one": 0.12, "two": 0.12})
    yes = disputed(answers)
    once, twice = consensus(answers)[yes.image], consensus([*answers, yes])[yes.image]
    assert 0.3 < once < 0.7
    assert twice == once


def test_a_rater_who_takes_an_answer_back_says_nothing_of_that_image():
    _, answers = asked({"one": 0.12, "two": 0.12, "three": 0.12})
    image = answers[0].image
    changed = [*answers, BinaryAnswer(image, "one", not answers[0].yes)]
    without = [answer for answer in answers if (answer.image, answer.rater) != (image, "one")]
    assert consensus(changed)[image] == pytest.approx(consensus(without)[image], abs=0.1)


def test_one_refusal_of_a_rater_who_shares_no_image_is_a_refusal():
    """Fitted without a prior, its rate of errors explains the only answer away, and the prevalence is left."""
    _, answers = asked({"one": 0.12, "two": 0.12})
    alone = [*answers, BinaryAnswer("alone", "three", False)]
    flat = Votes.of(alone)
    found = dawid_skene(flat, np.full(len(flat.images), np.nan), Prior(0, 0, 0))
    assert 0.4 < found[flat.images.index("alone")] < 0.6
    assert consensus(alone)["alone"] < 0.2


@pytest.mark.parametrize("seed", range(3))
def test_without_priors_it_is_the_em_of_crowd_kit(seed: int):
    _, answers = asked({"careful": 0.05, "fair": 0.1, "able": 0.1, "slow": 0.15, "hasty": 0.3}, seed=seed)
    rows = [(a.image, a.rater, a.yes) for a in answers]
    table = pd.DataFrame(rows, columns=["task", "worker", "label"])
    theirs = DawidSkene(n_iter=100, tol=1e-9).fit_predict_proba(table)[True]
    votes = Votes.of(answers)
    ours = dawid_skene(votes, np.full(len(votes.images), np.nan), Prior(0, 0, 0))
    # crowd-kit ends a little earlier: where the likelihood, not the probabilities, has stopped to move.
    assert ours == pytest.approx(theirs[list(votes.images)].to_numpy(), abs=0.02)
    with_prior = np.array(list(consensus(answers).values()))
    assert np.abs(with_prior - ours).max() > 0.03


def test_the_priors_are_outweighed_by_what_raters_do():
    truth, answers = asked({"careful": 0.05, "fair": 0.15, "contrary": 0.8}, images=400)
    assert share_right(consensus(answers), truth) > 0.93


def share_right(found: dict[str, float], truth: dict[str, bool]) -> float:
    return sum((found[image] > 0.5) == right for image, right in truth.items()) / len(truth)


def test_one_careful_rater_outweighs_two_careless_ones():
    truth, answers = asked({"careful": 0.03, "careless": 0.4, "hasty": 0.4, "fair": 0.15})
    majority = {image: sum(a.yes for a in answers if a.image == image) / 4 + 1e-9 for image in truth}
    assert share_right(consensus(answers), truth) > share_right(majority, truth) + 0.02


def test_one_rater_alone_is_taken_at_its_word():
    assert consensus([BinaryAnswer("a", "one", True), BinaryAnswer("b", "one", False)]) == {
        "a": 1.0,
        "b": 0.0,
    }


def test_raters_who_share_too_few_images_are_averaged():
    answers = [
        BinaryAnswer("a", "one", True),
        BinaryAnswer("a", "two", False),
        BinaryAnswer("b", "two", True),
    ]
    assert consensus(answers) == {"a": 0.5, "b": 1.0}


def test_images_of_known_truth_show_who_is_careless():
    """Two raters who contradict each other: which of them is right is known from elsewhere."""
    truth, answers = asked({"careful": 0.05, "contrary": 0.95}, images=120)
    known = dict(list(truth.items())[:40])
    assert share_right(consensus(answers, known), truth) > 0.9


def test_truth_about_images_that_nobody_answered_changes_nothing():
    answers = [BinaryAnswer("a", "one", True)]
    assert consensus(answers, {"elsewhere": False}) == {"a": 1.0}


def test_no_answers_say_nothing():
    assert consensus([]) == {}


def rated(
    errors: dict[str, tuple[float, float]], shared: bool = True
) -> tuple[dict[str, bool], list[BinaryAnswer]]:
    """As `asked`, of raters who are wrong so often about (plausible, implausible) images; 20 real ones are first."""
    chance = random.Random(1)
    truth: dict[str, bool] = {}
    answers = []
    for rater, wrong in errors.items():
        for number in range(300):
            image = f"{'' if shared else rater}{'real' if number < 20 else 'image'}-{number}"
            right = truth.setdefault(image, number < 20 or chance.random() < 0.6)
            answers.append(BinaryAnswer(image, rater, right != (chance.random() < wrong[not right])))
    return truth, answers


def error(found: dict[str, float], truth: dict[str, bool]) -> float:
    """Brier's score, real images left out: 0 is right, 0.25 is saying nothing."""
    rest = [image for image in truth if "real" not in image]
    return sum((found[image] - truth[image]) ** 2 for image in rest) / len(rest)


def real_among(truth: dict[str, bool]) -> dict[str, bool]:
    return {image: True for image in truth if "real" in image}


def test_one_rater_who_fails_half_the_real_images_is_hardly_believed():
    truth, answers = rated({"careless": (0.5, 0.5)})
    found = consensus(answers, real_among(truth))
    assert error(consensus(answers), truth) > 0.45
    assert error(found, truth) < 0.3
    rest = [found[image] for image in truth if "real" not in image]
    assert 0.2 < min(rest) <= max(rest) < 0.8


def test_one_rater_who_knows_real_images_is_still_believed_when_it_refuses_one():
    """Not every image is taken for plausible because all whose truth is known are."""
    truth, answers = rated({"careful": (0.05, 0.08)})
    found = consensus(answers, real_among(truth))
    refused = {answer.image for answer in answers if not answer.yes and "real" not in answer.image}
    assert max(found[image] for image in refused) < 0.2
    assert error(found, truth) <= error(consensus(answers), truth) + 0.01


def test_real_images_tell_whom_of_two_to_believe_whether_or_not_they_share_images():
    for shared in (True, False):
        truth, answers = rated({"careful": (0.05, 0.08), "careless": (0.5, 0.5)}, shared)
        assert error(consensus(answers, real_among(truth)), truth) < 0.7 * error(consensus(answers), truth)


def test_what_is_known_is_not_asked_of_the_raters():
    truth, answers = rated({"careless": (0.5, 0.5)})
    found = consensus(answers, real_among(truth))
    assert set(found) == set(truth)
    assert {found[image] for image in real_among(truth)} == {1.0}
