"""The images that are not done yet, in the order of their turns, and those of them that take the next step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.generation.slots import Slot, Ticket
from services.generation.turns import Share, Turns


class Line:
    """Not thread-safe: the engine calls it under its lock.

    slots: images that may take a step together. step_rows: rows at which a step is about as good for each row as it
    gets. A larger step would make those wait who are nearly done, so no more are taken, until so much is asked for
    that every second row would have to wait: then it is the number of rows done that shortens the line.
    """

    def __init__(self, slots: int, step_rows: int) -> None:
        self._slots, self._step_rows = slots, step_rows
        self._turns = Turns()
        self._shares: dict[Ticket, Share] = {}
        self._images: list[Slot] = []

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._images)

    @property
    def running(self) -> int:
        """Images that have a slot."""
        return min(len(self._images), self._slots)

    @property
    def waiting(self) -> int:
        return len(self._images) - self.running

    def join(self, ticket: Ticket, now: float, steps: int) -> None:
        """All images of a request. steps: those that the engine has begun so far."""
        new = [Slot(ticket, index, now) for index in range(len(ticket.request.seeds))]
        images, rows = len(self._images), self._rows
        for number, slot in enumerate(new, 1):
            if images + number <= self._slots and rows + number * slot.rows <= self._step_rows:
                slot.free_since = steps
        self._images += new
        self._shares[ticket] = self._turns.enter(ticket.request.client, sum(slot.rows_left for slot in new))

    def next_step(self) -> list[Slot]:
        """Who takes it. Whoever is first in line does, however many rows that is."""
        taken: list[Slot] = []
        room = max(self._step_rows, self._rows // 2)
        for slot in self._in_order():
            if len(taken) == self._slots or (taken and slot.rows > room):
                break
            taken.append(slot)
            room -= slot.rows
        for slot in set(self._images).difference(taken):
            slot.free_since = None  # others took the place that was free
        return taken

    def worked(self, rows: int) -> None:
        """The step has taken the images so many rows further."""
        left = sum(slot.rows_left for slot in self._images)
        self._turns.spend(
            max(rows, self._turns.left - left)
        )  # nobody computes there what is computed nowhere

    def drop_cancelled(self) -> list[Slot]:
        """Whoever left leaves room. The images that were dropped."""
        dropped = [slot for slot in self._images if slot.ticket.cancelled]
        for ticket in {slot.ticket for slot in dropped}:
            self._turns.leave(self._shares[ticket])
        self._remove(dropped)
        return dropped

    def drop_done(self) -> list[Slot]:
        """What has taken its last step."""
        done = [slot for slot in self._images if slot.done]
        self._remove(done)
        return done

    def clear(self) -> list[Slot]:
        """Everybody, for the engine ends."""
        left = self._images
        self._remove(left)
        return left

    @property
    def _rows(self) -> int:
        return sum(slot.rows for slot in self._images)

    def _in_order(self) -> list[Slot]:
        """Requests by their turns, then as they came; of one request first what is nearest to its end."""
        ends = self._turns.ends()

        def key(slot: Slot) -> tuple[float, float, float, int, int]:
            share = self._shares[slot.ticket]
            return share.place, ends.get(share, 0.0), slot.since, -slot.step, slot.index

        return sorted(self._images, key=key)

    def _remove(self, gone: Sequence[Slot]) -> None:
        if not gone:
            return
        left = set(gone)
        self._images = [slot for slot in self._images if slot not in left]
        still = {slot.ticket for slot in self._images}
        self._shares = {ticket: share for ticket, share in self._shares.items() if ticket in still}
