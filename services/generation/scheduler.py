"""The step scheduler: which of the unfinished images take the next denoising step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.generation.fair_sojourn import FairSojournScheduler, VirtualJob
from services.generation.slots import Slot, Ticket


class StepScheduler:
    """Orders the images of all requests and composes the batch of each step. Not thread-safe: the engine locks.

    Args:
        slots: the most images of one step.
        step_rows: the rows of a batch beyond which a row hardly gets cheaper. A larger batch would delay the images
            that are nearly done, so a batch has no more rows, unless more than twice as many are queued. Then it has
            half of the queued rows: throughput shortens a long queue.
    """

    def __init__(self, slots: int, step_rows: int) -> None:
        self._slots, self._step_rows = slots, step_rows
        self._fair = FairSojournScheduler()
        self._jobs: dict[Ticket, VirtualJob] = {}
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
        """Images that have no slot yet."""
        return len(self._images) - self.running

    def add(self, ticket: Ticket, now: float, steps: int) -> None:
        """Queue all images of a request. steps: those that the engine has begun so far.

        One that is resent goes first: else whoever loses one replica after the other is always the last in line.
        """
        slots = [Slot(ticket, index, now) for index in range(len(ticket.request.seeds))]
        images, rows = len(self._images), self._rows
        for number, slot in enumerate(slots, 1):
            if images + number <= self._slots and rows + number * slot.rows <= self._step_rows:
                slot.free_since = steps
        self._images += slots
        client, rows = ticket.request.client, sum(slot.rows_left for slot in slots)
        resent = ticket.request.resent
        self._jobs[ticket] = self._fair.add_finished(client) if resent else self._fair.add(client, rows)

    def rows_until_done(self, ticket: Ticket) -> float:
        """Rows that are computed until the last image of this request is done, if no other request comes."""
        return self._fair.finish_times().get(self._jobs[ticket], 0.0) * self._fair.clients

    def next_batch(self) -> list[Slot]:
        """The images of the next step. The first image is always among them, however many rows it has."""
        batch: list[Slot] = []
        free_rows = max(self._step_rows, self._rows // 2)
        for slot in self._in_order():
            if len(batch) == self._slots or (batch and slot.rows > free_rows):
                break
            batch.append(slot)
            free_rows -= slot.rows
        for slot in set(self._images).difference(batch):
            slot.free_since = None  # other images took the place that was free
        return batch

    def advance(self, rows: int) -> None:
        """Account for a step that computed so many rows."""
        # Rows of a failed or cancelled image are computed nowhere: the virtual processor must not lag behind.
        remaining_rows = sum(slot.rows_left for slot in self._images)
        self._fair.advance(max(rows, self._fair.remaining_rows - remaining_rows))

    def remove_cancelled(self) -> list[Slot]:
        """Remove the images of cancelled requests and return them."""
        cancelled = [slot for slot in self._images if slot.ticket.cancelled]
        for ticket in {slot.ticket for slot in cancelled}:
            self._fair.remove(self._jobs[ticket])
        self._remove(cancelled)
        return cancelled

    def remove_done(self) -> list[Slot]:
        """Remove the images that have taken their last step and return them."""
        done = [slot for slot in self._images if slot.done]
        self._remove(done)
        return done

    def clear(self) -> list[Slot]:
        """Remove every image and return them; the engine stops."""
        images = self._images
        self._remove(images)
        return images

    @property
    def _rows(self) -> int:
        return sum(slot.rows for slot in self._images)

    def _in_order(self) -> list[Slot]:
        """By virtual finish time, then by arrival; within a request, the image with the most steps done first."""
        finish_times = self._fair.finish_times()

        def key(slot: Slot) -> tuple[float, float, float, int, int]:
            job = self._jobs[slot.ticket]
            return job.finish_rank, finish_times.get(job, 0.0), slot.since, -slot.step, slot.index

        return sorted(self._images, key=key)

    def _remove(self, slots: Sequence[Slot]) -> None:
        if not slots:
            return
        removed = set(slots)
        self._images = [slot for slot in self._images if slot not in removed]
        tickets = {slot.ticket for slot in self._images}
        self._jobs = {ticket: job for ticket, job in self._jobs.items() if ticket in tickets}
