"""What several raters say together: each counts by how reliable the others, and known images, show it to be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WORDS = {True: "yes", False: "no"}
MIN_SHARED = 10
"""Images that two raters must both have answered before anything can be said of how reliable they are."""


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
    images there is nothing to learn that from, and the mean of the answers is all that can be said.
    """
    known = {image: yes for image, yes in (truth or {}).items() if any(a.image == image for a in answers)}
    if not _comparable(answers, known):
        return _means(answers)
    import pandas as pd
    from crowdkit.aggregation import DawidSkene

    votes = pd.DataFrame(
        [(answer.image, answer.rater, WORDS[answer.yes]) for answer in answers],
        columns=["task", "worker", "label"],
    )
    said = set(votes["label"])  # crowd-kit knows only words that somebody said
    right = {image: WORDS[yes] for image, yes in known.items() if WORDS[yes] in said}
    found = DawidSkene(n_iter=100).fit_predict_proba(votes, true_labels=pd.Series(right) if right else None)
    return {str(image): float(row.get(WORDS[True], 0.0)) for image, row in found.iterrows()}


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
    golden = (len(images & set(known)) for images in seen.values()) if len(raters) > 1 else ()
    return max((*shared, *golden), default=0) >= MIN_SHARED
