"""Parts of a labelled image set that share no image and no patient."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence

from training.data.examples import Examples


def halves(examples: Examples, seed: int = 0) -> tuple[Examples, Examples]:
    """Two disjoint halves: one teaches (rater, reward), the other judges, and neither sees the other's images, nor
    other images of the other's patients."""
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)
    first = {row for rows in whole_groups(order, examples.groups, len(order) // 2) for row in rows}
    rest = [row for row in order if row not in first]
    return examples.subset(sorted(first)), examples.subset(sorted(rest))


def whole_groups(order: Sequence[int], groups: Sequence[Hashable], count: int) -> list[list[int]]:
    """The groups of rows in the order in which they come first, until they hold at least `count` rows."""
    members: dict[Hashable, list[int]] = {}
    for row in order:
        members.setdefault(groups[row], []).append(row)
    groups_taken, held = [], 0
    for rows in members.values():
        if held >= count:
            break
        groups_taken.append(rows)
        held += len(rows)
    return groups_taken


def split_of(examples: Examples, split: str) -> Examples:
    """The half that teaches, the half that judges, or everything."""
    if split == "all":
        return examples
    teach, judge = halves(examples)
    return teach if split == "teach" else judge
