"""What several raters say together: each counts by how reliable the others, and known images, show it to be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WORDS = {True: "yes", False: "no"}
MIN_SHARED = 10
"""Images that two raters, or one and the truth, must share before anything can be said of how reliable they are."""


@dataclass(frozen=True)
class Answer:
    """One rater's yes or no to one question about one image."""

    image: str
    rater: str
    yes: bool


def consensus(answers: Sequence[Answer], truth: Mapping[str, bool] | None = None) -> dict[str, float]:
    """The probability of yes for every image that was answered.

    By the EM of Dawid and Skene (1979) as crowd-kit has it: it learns how often each rater is wrong, in each direction,
    from the images that several answered and from those in `truth`, whose answer is known. Where no two raters share
    images and nobody has answered known ones there is nothing to learn that from, and the mean of the answers is all
    that can be said.
    """
    asked = {answer.image for answer in answers}
    known = {image: yes for image, yes in (truth or {}).items() if image in asked}
    if not _comparable(answers, known):
        return _means(answers)
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    votes, right = _with_mirrored(answers, known)
    told = pd.DataFrame(
        [(v.image, v.rater, WORDS[v.yes]) for v in votes], columns=["task", "worker", "label"]
    )
    said = {vote.yes for vote in votes}  # crowd-kit knows only words that somebody said
    gold = {image: WORDS[yes] for image, yes in right.items() if yes in said}
    found = DawidSkene(n_iter=100).fit_predict_proba(told, true_labels=pd.Series(gold) if gold else None)
    return {image: float(found.loc[image].get(WORDS[True], 0.0)) for image in asked}


def _with_mirrored(
    answers: Sequence[Answer], known: Mapping[str, bool]
) -> tuple[list[Answer], dict[str, bool]]:
    """The answers and what is known, on both sides: where all known images have one answer, as real ones have, each
    stands for one more of which everything is the opposite.

    Known images of one side alone say how often raters miss that side. EM then explains what they say of the rest by
    that side too: whoever fails one real image in two is believed to see none but plausible ones. So a rater is taken
    to err in the other direction as often, until what others say of the same images tells more.
    """
    if len(set(known.values())) != 1:
        return list(answers), dict(known)
    opposite = [Answer(_mirror(a.image), a.rater, not a.yes) for a in answers if a.image in known]
    return [*answers, *opposite], {**known, **{_mirror(image): not yes for image, yes in known.items()}}


def _mirror(image: str) -> str:
    return f"the opposite of {image}"


def _means(answers: Sequence[Answer]) -> dict[str, float]:
    by_image: dict[str, list[bool]] = defaultdict(list)
    for answer in answers:
        by_image[answer.image].append(answer.yes)
    return {image: sum(given) / len(given) for image, given in by_image.items()}


def _comparable(answers: Sequence[Answer], known: Mapping[str, bool]) -> bool:
    """Whether somebody shares enough images with somebody else, or with the truth."""
    seen: dict[str, set[str]] = defaultdict(set)
    for answer in answers:
        seen[answer.rater].add(answer.image)
    raters = list(seen)
    shared = (len(seen[a] & seen[b]) for n, a in enumerate(raters) for b in raters[:n])
    golden = (len(images & set(known)) for images in seen.values())
    return max((*shared, *golden), default=0) >= MIN_SHARED
