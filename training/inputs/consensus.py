"""Several raters' answers together: each rater counts by how reliable other raters and known images show it to be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MIN_SHARED = 10
"""Images that two raters, or one and the truth, must share before anything can be said of how reliable they are."""
MAX_ROUNDS = 500
CONVERGED = 1e-6
"""Largest change of a probability in a round that ends EM."""
NEVER_ZERO = 1e-10


@dataclass(frozen=True)
class BinaryAnswer:
    """One rater's yes or no to one question about one image."""

    image: str
    rater: str
    yes: bool


@dataclass(frozen=True)
class Prior:
    """Answers that count as given before the first one is seen.

    `right` and `wrong`: of every rater to images whose truth is yes, and as many to those whose truth is no. The
    default is a rater who answers nine of ten correctly, with the weight of ten answers in each direction.
    `images`: of each truth, for the prevalence. All zero: plain maximum likelihood.
    """

    right: float = 9.0
    wrong: float = 1.0
    images: float = 1.0


def consensus(
    answers: Sequence[BinaryAnswer], truth: Mapping[str, bool] | None = None, prior: Prior | None = None
) -> dict[str, float]:
    """The probability of yes for every image that was answered.

    The model of Dawid and Skene (1979), fitted by EM to the maximum of the posterior under Dirichlet priors (`Prior`):
    every rater has one rate of errors on images whose truth is yes and another on the rest. Both are learned from
    images that several raters answered and from those in `truth`, whose answer is known. A rater has one vote for an
    image: who answers an image several times votes with the mean of these answers.

    Where no two raters share `MIN_SHARED` images and none has answered as many known ones there is nothing to learn
    reliability from; the answer is then the mean over the raters.
    """
    votes = Votes.of(answers)
    known = {image: yes for image, yes in (truth or {}).items() if image in set(votes.images)}
    if not _comparable(answers, known):
        return votes.means()
    gold = np.array([float(known[image]) if image in known else np.nan for image in votes.images])
    return dict(zip(votes.images, map(float, dawid_skene(votes, gold, prior or Prior())), strict=True))


@dataclass(frozen=True)
class Votes:
    """One vote [V] for each rater and image: which image, which rater, and the share of yes among its answers."""

    images: tuple[str, ...]
    image: np.ndarray
    rater: np.ndarray
    yes: np.ndarray

    @classmethod
    def of(cls, answers: Sequence[BinaryAnswer]) -> Votes:
        given: dict[tuple[str, str], list[bool]] = defaultdict(list)
        for answer in answers:
            given[answer.image, answer.rater].append(answer.yes)
        images = {image: row for row, image in enumerate(dict.fromkeys(image for image, _ in given))}
        raters = {rater: row for row, rater in enumerate(dict.fromkeys(rater for _, rater in given))}
        return cls(
            tuple(images),
            np.array([images[image] for image, _ in given], int),
            np.array([raters[rater] for _, rater in given], int),
            np.array([np.mean(yes) for yes in given.values()], float),
        )

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Values [V] summed over each image's votes: [N]."""
        return np.bincount(self.image, values, minlength=len(self.images))

    def by_rater(self, values: np.ndarray) -> np.ndarray:
        """Values [V] summed over each rater's votes: [R]."""
        return np.bincount(self.rater, values)

    def shares(self) -> np.ndarray:
        """Share of yes of each image [N], every rater counting the same."""
        return self.sums(self.yes) / self.sums(np.ones(len(self.yes)))

    def means(self) -> dict[str, float]:
        return dict(zip(self.images, map(float, self.shares()), strict=True))


def dawid_skene(votes: Votes, gold: np.ndarray, prior: Prior) -> np.ndarray:
    """EM for the maximum of the posterior: the probability of yes [N]. gold: 1 or 0 where the truth is known, else nan.

    The prevalence is that of images whose truth is not known: known ones were chosen and not drawn.
    """
    open_ = np.isnan(gold)
    probability = np.where(open_, votes.shares(), gold)
    for _ in range(MAX_ROUNDS):
        of_yes, of_no = _error_rates(votes, probability, gold, prior)
        prevalence = (prior.images + probability[open_].sum()) / max(
            2 * prior.images + open_.sum(), NEVER_ZERO
        )
        evidence = votes.yes * _log_ratio(of_yes, of_no)[votes.rater]
        evidence += (1 - votes.yes) * _log_ratio(1 - of_yes, 1 - of_no)[votes.rater]
        logit = votes.sums(evidence) + _log_ratio(prevalence, 1 - prevalence)
        before, probability = probability, np.where(open_, 1 / (1 + np.exp(-np.clip(logit, -500, 500))), gold)
        if np.abs(probability - before).max() < CONVERGED:
            break
    return probability


def _error_rates(
    votes: Votes, probability: np.ndarray, gold: np.ndarray, prior: Prior
) -> tuple[np.ndarray, np.ndarray]:
    """How often each rater [R] says yes to images whose truth is yes, and to those whose truth is no."""
    plausible = probability[votes.image]
    agreed = [votes.by_rater(plausible * votes.yes), votes.by_rater((1 - plausible) * (1 - votes.yes))]
    opposed = [votes.by_rater(plausible * (1 - votes.yes)), votes.by_rater((1 - plausible) * votes.yes)]
    known = set(gold[~np.isnan(gold)].tolist())
    if len(known) == 1:
        # Known images of one side (real ones are all plausible) tell nothing of the other side, and EM would explain
        # every answer to the rest by the side that it knows. So a rater is taken to err as often on the other side.
        side = votes.yes if known == {1.0} else 1 - votes.yes
        counted = ~np.isnan(gold)[votes.image]
        other = 1 if known == {1.0} else 0
        agreed[other] = agreed[other] + votes.by_rater(counted * side)
        opposed[other] = opposed[other] + votes.by_rater(counted * (1 - side))
    right = [
        (prior.right + a) / np.maximum(prior.right + prior.wrong + a + o, NEVER_ZERO)
        for a, o in zip(agreed, opposed, strict=True)
    ]
    return right[0], 1 - right[1]


def _log_ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(above, NEVER_ZERO)) - np.log(np.maximum(below, NEVER_ZERO)))


def _comparable(answers: Sequence[BinaryAnswer], known: Mapping[str, bool]) -> bool:
    """Whether somebody shares enough images with somebody else, or with the truth."""
    seen: dict[str, set[str]] = defaultdict(set)
    for answer in answers:
        seen[answer.rater].add(answer.image)
    raters = list(seen)
    shared = (len(seen[a] & seen[b]) for n, a in enumerate(raters) for b in raters[:n])
    golden = (len(images & set(known)) for images in seen.values())
    return max((*shared, *golden), default=0) >= MIN_SHARED
