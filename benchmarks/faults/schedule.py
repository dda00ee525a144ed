"""Random schedules: what two processes are asked, and which faults strike in between. A seed is a schedule."""

from __future__ import annotations

import random
from dataclasses import dataclass

LENGTH = 14
WORKERS = ("a", "b")
ASKS = {
    "image": 3, "rate": 5, "repeat": 2, "conflict": 1, "publish": 2, "evidence": 2,
    "start": 3, "promote": 2, "roll_back": 2, "judge": 3, "step": 1,
}  # fmt: skip
FAULTS = {"kill": 2, "cut": 2, "restart": 1}
STRIKES = {"": 10, "kill": 3, "cut": 3, "stop": 3, "full": 2}
STRIKES_OF_JUDGE = {"": 5, "kill": 1, "cut": 1, "stop": 5, "full": 1}
MOVES = {"promote": 4, "roll_back": 2, "start": 1}
"""What the other process does while one is stopped: what that one had in mind is outdated when it wakes."""
DEEPEST = {"publish": 45, "image": 14}
"""Points of a request, about; a strike behind the last one does not hit."""


@dataclass(frozen=True)
class Turn:
    """One step of a schedule. pick: chooses among what is there when its turn comes."""

    worker: str
    what: str
    pick: int = 0
    strike: str = ""
    point: int = 0

    def __str__(self) -> str:
        struck = f" ({self.strike} at point {self.point})" if self.strike else ""
        return f"{self.worker}: {self.what} {self.pick}{struck}"


def draw(seed: int, powered: bool = True) -> list[Turn]:
    """The schedule of a seed. powered: whether there is a disk whose power can be cut, and that can be full."""
    chance = random.Random(f"schedule {seed}")
    turns: list[Turn] = []
    while len(turns) < LENGTH:
        turns.append(_turn(chance, turns[-1] if turns else None, powered))
    return turns


def _turn(chance: random.Random, last: Turn | None, powered: bool) -> Turn:
    if last is not None and last.strike == "stop":
        other = WORKERS[1 - WORKERS.index(last.worker)]
        if chance.random() < 0.7:
            return Turn(other, _chosen(chance, MOVES), chance.randrange(1000))
    worker = chance.choice(WORKERS)
    if chance.random() < 0.12:
        what = _chosen(chance, FAULTS)
        return Turn(worker, what if powered or what != "cut" else "kill", chance.randrange(1000))
    what = _chosen(chance, ASKS)
    strike = _chosen(chance, STRIKES_OF_JUDGE if what == "judge" else STRIKES)
    if not powered and strike in ("cut", "full"):
        strike = "kill"
    point = 0 if strike in ("", "stop", "full") else chance.randrange(DEEPEST.get(what, 10))
    return Turn(worker, what, chance.randrange(1000), strike, point)


def _chosen(chance: random.Random, weights: dict[str, int]) -> str:
    return chance.choices([*weights], [*weights.values()])[0]
