"""Nobody ends later than if all clients had shared the slots, however much others have asked for. Counted in steps."""

from __future__ import annotations

import random

import pytest

from services.generation.engine import Engine
from services.generation.slots import Ticket
from tests.inbox import Inbox
from tests.requests import image_request
from tests.sharing import Job, ends_side_by_side
from tests.stage import Stage, TracedModel


class Queue:
    """An engine on a stage. Whose an image is can be told from its seed: clients have a thousand each."""

    def __init__(self, max_batch: int) -> None:
        self.max_batch = max_batch
        self.engine, self.stage = Engine(max_batch=max_batch, max_waiting=2000), Stage()
        self.model = TracedModel(self.stage, mark=1)
        self.clients: list[str] = []
        self.asked: list[int] = []

    def ask(self, client: str, images: int, steps: int = 1) -> Ticket:
        if client not in self.clients:
            self.clients.append(client)
            self.asked.append(0)
        number = self.clients.index(client)
        first = 1 + 1000 * number + self.asked[number]
        self.asked[number] += images
        request = image_request(
            model=self.model,
            prompt="neutrophil",
            seeds=tuple(range(first, first + images)),
            steps=steps,
            guidance=1.0,
            client=client,
        )
        ticket = self.engine.submit(*request, Inbox())
        self.stage.rest(self.engine)
        return ticket

    def step(self, count: int = 1) -> None:
        self.stage.step(self.engine, count)

    @property
    def admitted(self) -> list[str]:
        """Whose images have begun, in their order."""
        seeds = dict.fromkeys(seed for call in self.stage.calls for seed in call.seeds)
        return [self.clients[(seed - 1) // 1000] for seed in seeds]

    def ended(self, client: str) -> int:
        """The steps until all that the client has asked for so far was done, with one step for each image."""
        number = self.clients.index(client)
        calls = self.stage.calls
        return 1 + max(
            at for at, call in enumerate(calls) if any((s - 1) // 1000 == number for s in call.seeds)
        )

    @property
    def running(self) -> list[str]:
        """Whose images are in the step that is about to happen."""
        return [self.clients[(seed - 1) // 1000] for seed in self.stage.calls[-1].seeds]


@pytest.fixture
def queue(request: pytest.FixtureRequest):
    queue = Queue(max_batch=request.param)
    yield queue
    queue.stage.open()
    queue.engine.stop()


def slots(*sizes: int):
    return pytest.mark.parametrize("queue", sizes, indirect=True, ids=lambda size: f"{size} slots")


@slots(1, 2, 4, 8)
def test_a_single_image_takes_the_next_step_though_500_are_before_it(queue):
    queue.ask("busy", 500, steps=3)
    queue.step(2)
    queue.ask("patient", 1, steps=2)
    for _ in range(2):
        queue.step()
        assert queue.running.count("patient") == 1
    queue.step()
    assert "patient" not in queue.running


@slots(1, 2, 4)
def test_where_slots_come_free_one_by_one_a_latecomer_lets_one_image_go_before(queue):
    for length in range(2, 6):  # no two slots come free at once
        queue.ask("busy", 1, steps=length)
    queue.ask("busy", 500, steps=7)
    queue.step(2)
    before = len(queue.admitted)
    queue.ask("patient", 1)
    queue.step(20)
    assert "patient" in queue.admitted[before : before + 2]


@slots(1, 4)
def test_500_requests_are_one_client_as_500_images_are(queue):
    for _ in range(500):
        queue.ask("busy", 1)
    queue.ask("patient", 1)
    queue.step(2)
    assert "patient" in queue.admitted


@slots(1, 3, 4)
@pytest.mark.parametrize("clients", [2, 3, 5])
def test_each_of_k_clients_is_done_no_later_than_with_every_kth_slot(queue, clients):
    names = [f"client-{number}" for number in range(clients)]
    for number, name in enumerate(names):
        queue.ask(name, 20 * (number + 1), steps=2)
    slots = queue.max_batch
    together = ends_side_by_side([Job(name, 0, 40 * (n + 1)) for n, name in enumerate(names)], slots)
    queue.step(int(max(together)) + 2)
    assert all(queue.ended(name) <= end + 1 for name, end in zip(names, together, strict=True))


@slots(1, 3)
def test_a_latecomer_waits_for_one_image_of_each_other_client_at_most(queue):
    for name in ("a", "b", "c"):
        queue.ask(name, 50)
    queue.step(5)
    before = len(queue.admitted)
    queue.ask("late", 1)
    queue.step(4)
    assert "late" in queue.admitted[before : before + 4]


@slots(1, 2)
def test_whoever_comes_back_again_and_again_holds_nobody_up_for_longer_than_sharing_would(queue):
    queue.ask("steady", 40)
    for _ in range(90):
        for _ in range(queue.max_batch):
            queue.ask("eager", 1)
        queue.step()
    together = 80 / queue.max_batch
    assert queue.ended("steady") <= together + 2


@slots(1, 4)
def test_a_crowd_that_leaves_is_not_waited_for(queue):
    queue.ask("busy", 4, steps=1)
    crowd = [queue.ask(f"crowd-{number}", 20) for number in range(10)]
    queue.ask("patient", 1)
    for ticket in crowd:
        ticket.cancel()
    queue.step(4)
    assert set(queue.admitted) == {"busy", "patient"}


@slots(1, 3)
def test_turns_hold_while_clients_come_and_leave(queue):
    """Between two images of a client that goes on waiting, no other client gets two."""
    chance = random.Random(5)
    queue.ask("steady", 400)
    tickets = []
    for _ in range(60):
        tickets.append(queue.ask(chance.choice("abc"), chance.randint(1, 30)))
        queue.step(chance.randint(1, 3))
        if chance.random() < 0.3:
            chance.choice(tickets).cancel()
    between: list[str] = []
    for name in queue.admitted:
        if name == "steady":
            assert len(between) == len(set(between))
            between = []
        else:
            between.append(name)
