"""Experts' spot checks of both sides as pairs. People's ratings alone; simulated ones prove nothing about experts."""

from __future__ import annotations

from collections.abc import Iterable

from services.rollout.analysis import PairCounts
from vouch.storage.catalog import Catalog
from vouch.types.rollout import Rollout

MOST = 1_000
"""Verdicts of each side that are paired. The first ones: a window that slides would pair the same verdicts anew."""


def expert_pairs(catalog: Catalog, rollout: Rollout, after: int) -> PairCounts:
    """The verdicts after a sequence number: the first of one side with the first of the other, and so on.

    Raters do not know the side, and the queue chooses by score and chance for both alike, so with equal shares of
    implausible images both kinds of discordant pair are equally likely.
    """
    return in_order(
        _verdicts(catalog, rollout.previous_version, after), _verdicts(catalog, rollout.version, after)
    )


def in_order(champion: Iterable[bool], candidate: Iterable[bool]) -> PairCounts:
    """Verdicts (True: plausible) of both sides, oldest first, paired by their place."""
    total = PairCounts()
    for first, second in zip(champion, candidate, strict=False):
        total += PairCounts(int(first and not second), int(second and not first), int(first == second))
    return total


def _verdicts(catalog: Catalog, version: str, after: int) -> list[bool]:
    ratings = catalog.ratings.first_after(after, generator_version=version, limit=MOST)
    return [rating.verdict == "plausible" for rating in ratings if rating.verdict != "unsure"]
