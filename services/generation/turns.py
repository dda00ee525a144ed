"""Whose turn it is: whoever would be done first if all clients shared the machine equally comes first.

Beside the real machine runs an imagined one. There every client has an equal share at every moment, and each request
an equal share of its client's. The real machine serves the requests in the order in which they end there: the fair
sojourn protocol (Friedman and Henderson, "Fairness and efficiency in web server protocols", SIGMETRICS 2003). One
after the other they end no later than side by side, and most of them far sooner. Nobody starves, nothing is tuned, and
a client who asks for more only gets a longer line of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

NOTHING = 1e-6  # rows


@dataclass(eq=False)
class Share:
    """A request in the imagined machine: the rows left to compute, and its place among those that have ended there."""

    client: str
    left: float
    place: float = math.inf


class Turns:
    """The imagined machine. Work is counted in rows: evaluations of the network for one image."""

    def __init__(self) -> None:
        self._lines: dict[str, list[Share]] = {}
        self._ended = 0

    @property
    def left(self) -> float:
        """Rows that the imagined machine still has to compute."""
        return sum(share.left for share in self._all())

    def enter(self, client: str, rows: float) -> Share:
        share = Share(client, rows)
        self._lines.setdefault(client, []).append(share)
        return share

    def leave(self, share: Share) -> None:
        """Its caller is gone. What it has left is computed nowhere."""
        if share in (line := self._lines.get(share.client, [])):
            line.remove(share)
            self._drop_empty()

    def spend(self, rows: float) -> None:
        """The machine has computed so many rows: share them out."""
        while rows > NOTHING and self._lines:
            spent = min(rows, min(map(self._until_its_end, self._all())))
            for share in self._all():
                share.left -= spent * self._part(share)
            rows -= spent
            self._end_those_done()

    def ends(self) -> dict[Share, float]:
        """When the requests that have not ended there will, in rows of each client's own part of the machine."""
        ends: dict[Share, float] = {}
        for line in self._lines.values():
            shorter = 0.0
            for number, share in enumerate(sorted(line, key=lambda share: share.left)):
                ends[share] = shorter + share.left * (len(line) - number)
                shorter += share.left
        return ends

    def _all(self) -> Iterator[Share]:
        return (share for line in self._lines.values() for share in line)

    def _part(self, share: Share) -> float:
        return 1 / len(self._lines) / len(self._lines[share.client])

    def _until_its_end(self, share: Share) -> float:
        return share.left / self._part(share)

    def _end_those_done(self) -> None:
        for client, line in self._lines.items():
            for share in line:
                if share.left <= NOTHING:
                    share.left, share.place = 0.0, self._ended
                    self._ended += 1
            self._lines[client] = [share for share in line if share.left]
        self._drop_empty()

    def _drop_empty(self) -> None:
        self._lines = {client: line for client, line in self._lines.items() if line}
