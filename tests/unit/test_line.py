"""Which images take the next step, and how many of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from services.generation.line import Line
from services.generation.slots import Slot, Ticket
from tests.fakes import FakeStepper
from tests.requests import image_request


class Asking:
    """A line and who asks."""

    def __init__(self, slots: int = 8, step_rows: int = 4) -> None:
        self.line = Line(slots, step_rows)
        self.now = 0.0

    def ask(
        self, name: str, images: int = 1, steps: int = 3, guidance: float = 1.0, client: str = ""
    ) -> Ticket:
        self.now += 1
        values: dict[str, Any] = {"model": FakeStepper(), "seeds": tuple(range(images))}
        request = image_request(prompt=name, steps=steps, guidance=guidance, client=client, **values)
        ticket = Ticket(*request, lambda event: None)
        self.line.join(ticket, self.now, steps=0)
        return ticket

    def step(self) -> str:
        """Whose images take it, as a letter each."""
        taken = self.line.next_step()
        for slot in taken:
            slot.step += 1
        self.line.drop_done()
        self.line.worked(sum(slot.rows for slot in taken))
        return _names(taken)


def _names(slots: list[Slot]) -> str:
    return "".join(slot.ticket.request.prompt for slot in slots)


def test_a_step_takes_no_more_rows_than_are_worth_it():
    asking = Asking(step_rows=4)
    asking.ask("a", images=6)
    assert [asking.step() for _ in range(4)] == ["aaaa", "aaaa", "aaaa", "aa"]


def test_guided_images_are_two_rows_each():
    asking = Asking(step_rows=4)
    asking.ask("a", images=3, guidance=2.0)
    assert asking.step() == "aa"


def test_a_step_grows_when_more_than_twice_as_many_rows_wait():
    asking = Asking(slots=100, step_rows=4)
    asking.ask("a", images=40)
    assert len(asking.step()) == 20


def test_a_step_has_no_more_images_than_there_are_slots():
    asking = Asking(slots=3, step_rows=100)
    asking.ask("a", images=8)
    assert asking.step() == "aaa"
    assert (asking.line.running, asking.line.waiting) == (3, 5)


def test_one_image_is_taken_even_where_it_alone_is_too_many_rows():
    asking = Asking(step_rows=1)
    asking.ask("a", guidance=2.0, steps=1)
    assert asking.step() == "a"


def test_a_short_request_goes_before_the_rest_of_a_long_one_which_then_goes_on():
    asking = Asking(step_rows=1)
    asking.ask("l", steps=5)
    assert asking.step() == "l"
    asking.ask("s", steps=1)
    assert [asking.step() for _ in range(5)] == ["s", "l", "l", "l", "l"]


def test_what_is_nearest_to_its_end_comes_first_within_a_request():
    asking = Asking(slots=3, step_rows=2)
    asking.ask("a", images=3, steps=2)
    places = [[slot.index for slot in asking.line.next_step()]]
    for _ in range(2):
        asking.step()
        places.append([slot.index for slot in asking.line.next_step()])
    assert places == [[0, 1], [0, 1], [2]]


def test_a_long_request_is_not_put_off_for_ever():
    asking = Asking(step_rows=1)
    asking.ask("l", steps=20, client="long")
    took = Counter[str]()
    for _ in range(45):
        asking.ask("s", steps=1, client="short")
        took.update(asking.step())
        if took["l"] == 20:
            break
    assert took["l"] == 20
    assert took["s"] >= 18


def test_images_that_find_room_in_the_next_step_are_known():
    asking = Asking(slots=8, step_rows=4)
    asking.ask("a", images=3)
    ticket = asking.ask("b", images=2)
    assert [slot.free_since for slot in asking.line if slot.ticket is ticket] == [0, None]


def test_an_image_whose_room_was_taken_by_a_shorter_one_was_not_free_to_begin():
    asking = Asking(slots=8, step_rows=1)
    long, _ = asking.ask("l", steps=5), asking.ask("s", steps=1)
    asking.step()
    assert [slot.free_since for slot in asking.line if slot.ticket is long] == [None]


@pytest.mark.parametrize("leaver", ["a", "b"])
def test_who_leaves_is_out_of_the_line(leaver):
    asking = Asking()
    tickets = {name: asking.ask(name, images=2) for name in "ab"}
    tickets[leaver].cancel()
    assert _names(asking.line.drop_cancelled()) == leaver * 2
    assert set(asking.step()) == set("ab") - {leaver}


def test_an_idle_line_remembers_nobody():
    asking = Asking(step_rows=100)
    for client in "abc":
        asking.ask("x", steps=2, client=client)
    asking.ask("y", steps=9).cancel()
    asking.line.drop_cancelled()
    asking.step(), asking.step()
    assert len(asking.line) == 0
    assert asking.line.clear() == []
    asking.ask("a", client="a"), asking.ask("b", client="b")
    assert asking.step() == "ab"
