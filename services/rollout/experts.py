"""Experts' spot checks of both sides as pairs. People's ratings alone; simulated ones prove nothing about experts."""

from __future__ import annotations

from collections.abc import Iterable

from services.rollout.analysis import PairCounts
from vouch.storage.catalog import Catalog
from vouch.types.rating import Rating
from vouch.types.rollout import Rollout

NEWEST = 1_000


def expert_pairs(catalog: Catalog, rollout: Rollout) -> PairCounts:
    """The verdicts since the rollout began: the first of one side with the first of the other, and so on.

    Raters do not know the side, and the queue chooses by score and chance for both alike, so with equal shares of
    implausible images both kinds of discordant pair are equally likely.
    """
    return in_order(
        _verdicts(_newest(catalog, rollout, rollout.previous_version)),
        _verdicts(_newest(catalog, rollout, rollout.version)),
    )


def in_order(champion: Iterable[bool], candidate: Iterable[bool]) -> PairCounts:
    """Verdicts (True: plausible) of both sides, oldest first, paired by their place."""
    total = PairCounts()
    for first, second in zip(champion, candidate, strict=False):
        total += PairCounts(int(first and not second), int(second and not first), int(first == second))
    return total


def _newest(catalog: Catalog, rollout: Rollout, version: str) -> tuple[Rating, ...]:
    page = catalog.ratings.list(
        generator_version=version, kinds=("human",), current_only=True, page_size=NEWEST
    )
    return tuple(rating for rating in page.items if rating.created_at >= rollout.created_at)


def _verdicts(ratings: tuple[Rating, ...]) -> list[bool]:
    sure = [rating for rating in reversed(ratings) if rating.verdict != "unsure"]
    return [rating.verdict == "plausible" for rating in sure]
