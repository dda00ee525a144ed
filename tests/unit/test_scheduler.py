"""Which images take the next step, and how many of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from services.generation.scheduler import StepScheduler
from services.generation.slots import Slot, Ticket
from tests.fakes import FakeStepper
from tests.requests import image_request


class Queue:
    """A scheduler, and requests that are named by a letter."""

    def __init__(self, slots: int = 8, step_rows: int = 4) -> None:
        self.scheduler = StepScheduler(slots, step_rows)
        self.now = 0.0

    def add(
        self,
        name: str,
        images: int = 1,
        steps: int = 3,
        guidance: float = 1.0,
        client: str = "",
        resent: bool = False,
    ) -> Ticket:
        self.now += 1
        values: dict[str, Any] = {"model": FakeStepper(), "seeds": tuple(range(images))}
        values |= {"client": client, "resent": resent}
        request = image_request(prompt=name, steps=steps, guidance=guidance, **values)
        ticket = Ticket(*request, lambda event: None)
        self.scheduler.add(ticket, self.now, steps=0)
        return ticket

    def step(self) -> str:
        """The requests whose images take it, a letter for each image."""
        batch = self.scheduler.next_batch()
        for slot in batch:
            slot.step += 1
        self.scheduler.remove_done()
        self.scheduler.advance(sum(slot.rows for slot in batch))
        return _names(batch)


def _names(slots: list[Slot]) -> str:
    return "".join(slot.ticket.request.prompt for slot in slots)


def test_a_step_takes_no_more_rows_than_are_worth_it():
    queue = Queue(step_rows=4)
    queue.add("a", images=6)
    assert [queue.step() for _ in range(4)] == ["aaaa", "aaaa", "aaaa", "aa"]


def test_guided_images_are_two_rows_each():
    queue = Queue(step_rows=4)
    queue.add("a", images=3, guidance=2.0)
    assert queue.step() == "aa"


def test_a_step_grows_when_more_than_twice_as_many_rows_wait():
    queue = Queue(slots=100, step_rows=4)
    queue.add("a", images=40)
    assert len(queue.step()) == 20


def test_a_step_has_no_more_images_than_there_are_slots():
    queue = Queue(slots=3, step_rows=100)
    queue.add("a", images=8)
    assert queue.step() == "aaa"
    assert (queue.scheduler.running, queue.scheduler.waiting) == (3, 5)


def test_one_image_is_taken_even_where_it_alone_is_too_many_rows():
    queue = Queue(step_rows=1)
    queue.add("a", guidance=2.0, steps=1)
    assert queue.step() == "a"


def test_a_short_request_goes_before_the_rest_of_a_long_one_which_then_goes_on():
    queue = Queue(step_rows=1)
    queue.add("l", steps=5)
    assert queue.step() == "l"
    queue.add("s", steps=1)
    assert [queue.step() for _ in range(5)] == ["s", "l", "l", "l", "l"]


def test_what_is_nearest_to_its_end_comes_first_within_a_request():
    queue = Queue(slots=3, step_rows=2)
    queue.add("a", images=3, steps=2)
    places = [[slot.index for slot in queue.scheduler.next_batch()]]
    for _ in range(2):
        queue.step()
        places.append([slot.index for slot in queue.scheduler.next_batch()])
    assert places == [[0, 1], [0, 1], [2]]


def test_a_long_request_is_not_put_off_for_ever():
    queue = Queue(step_rows=1)
    queue.add("l", steps=20, client="long")
    took = Counter[str]()
    for _ in range(45):
        queue.add("s", steps=1, client="short")
        took.update(queue.step())
        if took["l"] == 20:
            break
    assert took["l"] == 20
    assert took["s"] >= 18


def test_what_lost_its_replica_goes_before_all_that_wait():
    queue = Queue(step_rows=1)
    queue.add("a", steps=1)
    queue.add("b", steps=2)
    resent = queue.add("r", steps=2, resent=True)
    assert queue.scheduler.rows_until_done(resent) == 0
    assert [queue.step() for _ in range(5)] == ["r", "r", "a", "b", "b"]


def test_images_that_find_room_in_the_next_batch_are_known():
    queue = Queue(slots=8, step_rows=4)
    queue.add("a", images=3)
    ticket = queue.add("b", images=2)
    assert [slot.free_since for slot in queue.scheduler if slot.ticket is ticket] == [0, None]


@pytest.mark.parametrize(
    ("slots", "step_rows", "guidance", "room"),
    [(3, 100, 1.0, [0, 0, 0, None]), (100, 4, 2.0, [0, 0, None, None])],
)
def test_there_is_room_up_to_the_last_slot_and_the_last_row(slots, step_rows, guidance, room):
    queue = Queue(slots, step_rows)
    queue.add("a", images=4, guidance=guidance)
    assert [slot.free_since for slot in queue.scheduler] == room


def test_an_image_whose_room_was_taken_by_a_shorter_one_was_not_free_to_begin():
    queue = Queue(slots=8, step_rows=1)
    long, _ = queue.add("l", steps=5), queue.add("s", steps=1)
    queue.step()
    assert [slot.free_since for slot in queue.scheduler if slot.ticket is long] == [None]


@pytest.mark.parametrize("cancelled", ["a", "b"])
def test_a_cancelled_request_takes_no_step(cancelled):
    queue = Queue()
    tickets = {name: queue.add(name, images=2) for name in "ab"}
    tickets[cancelled].cancel()
    assert _names(queue.scheduler.remove_cancelled()) == cancelled * 2
    assert set(queue.step()) == set("ab") - {cancelled}


def test_an_idle_scheduler_remembers_no_client():
    queue = Queue(step_rows=100)
    for client in "abc":
        queue.add("x", steps=2, client=client)
    queue.add("y", steps=9).cancel()
    queue.scheduler.remove_cancelled()
    queue.step(), queue.step()
    assert len(queue.scheduler) == 0
    assert queue.scheduler.clear() == []
    queue.add("a", client="a"), queue.add("b", client="b")
    assert queue.step() == "ab"
