from __future__ import annotations

import asyncio
import threading

import pytest

from services.generation.engine import Broken, Engine, Event, Finished, ImageRequest, Progress
from tests.fakes import FakeGenerator
from vouch.errors import Exhausted, Internal, Unavailable


class Inbox:
    """Collects what the engine delivers, and waits until a request has ended."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.arrived = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self.arrived:
            self.events.append(event)
            self.arrived.notify_all()

    def finished(self, count: int) -> list[Finished]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self._finished()) >= count, timeout=20)
        return self._finished()

    def broken(self) -> Broken:
        with self.arrived:
            assert self.arrived.wait_for(lambda: any(isinstance(e, Broken) for e in self.events), timeout=20)
        return next(event for event in self.events if isinstance(event, Broken))

    def _finished(self) -> list[Finished]:
        return [event for event in self.events if isinstance(event, Finished)]


@pytest.fixture
def engine():
    engine = Engine(max_batch=4, max_waiting=8)
    yield engine
    engine.stop()


def request(model: FakeGenerator, *seeds: int, **changes) -> ImageRequest:
    values = {"model": model, "prompt": "neutrophil", "seeds": seeds, "steps": 3, "guidance": 2.0, **changes}
    return ImageRequest(**values)


def test_every_image_of_a_request_is_its_own_seeds_image(engine):
    inbox, model = Inbox(), FakeGenerator()
    engine.submit(request(model, 5, 6, 7), inbox)
    for done in inbox.finished(3):
        assert (done.image == model.paint([5, 6, 7][done.index])).all()


def test_waiting_requests_of_equal_settings_share_a_batch_and_others_do_not(engine):
    gate = threading.Semaphore(0)
    model = FakeGenerator(gate=gate)
    inboxes = [Inbox() for _ in range(4)]
    engine.submit(request(model, 1), inboxes[0])
    assert model.began.wait(20)
    engine.submit(request(model, 2), inboxes[1])
    engine.submit(request(model, 3, steps=5), inboxes[2])
    engine.submit(request(model, 4), inboxes[3])
    gate.release(100)
    for inbox in inboxes:
        inbox.finished(1)
    assert model.batches == [[1], [2, 4], [3]]


def test_a_request_keeps_the_model_that_it_named(engine):
    gate = threading.Semaphore(0)
    old, new = FakeGenerator(gate=gate), FakeGenerator()
    first, second = Inbox(), Inbox()
    engine.submit(request(old, 1, 2), first)
    assert old.began.wait(20)
    engine.submit(request(new, 3), second)
    gate.release(100)
    first.finished(2), second.finished(1)
    assert (old.batches, new.batches) == ([[1, 2]], [[3]])


def test_a_request_beyond_the_queue_is_refused_whole(engine):
    gate = threading.Semaphore(0)
    model, inbox = FakeGenerator(gate=gate), Inbox()
    engine.submit(request(model, 1), inbox)
    assert model.began.wait(20)
    engine.submit(request(model, *range(8)), inbox)
    with pytest.raises(Exhausted, match="8 images wait already and the queue holds 8"):
        engine.submit(request(model, 99), inbox)
    gate.release(100)
    assert len(inbox.finished(9)) == 9


def test_a_cancelled_request_frees_the_engine_at_the_next_step(engine):
    gate = threading.Semaphore(0)
    model, left, next_one = FakeGenerator(gate=gate), Inbox(), Inbox()
    ticket = engine.submit(request(model, 1, steps=1000), left)
    assert model.began.wait(20)
    ticket.cancel()
    engine.submit(request(model, 2, steps=2), next_one)
    gate.release(3)
    next_one.finished(1)
    assert model.steps_done == 3
    assert left.events == []


def test_a_request_cancelled_in_the_queue_is_never_computed(engine):
    gate = threading.Semaphore(0)
    model, inbox = FakeGenerator(gate=gate), Inbox()
    engine.submit(request(model, 1), inbox)
    assert model.began.wait(20)
    engine.submit(request(model, 2, 3), inbox).cancel()
    engine.submit(request(model, 4), inbox)
    gate.release(100)
    inbox.finished(2)
    assert model.batches == [[1], [4]]


def test_clients_take_turns(engine):
    gate = threading.Semaphore(0)
    model, many, one = FakeGenerator(gate=gate), Inbox(), Inbox()
    engine.submit(request(model, 0, client="busy"), many)
    assert model.began.wait(20)
    engine.submit(request(model, 1, 2, 3, 4, 5, 6, client="busy"), many)
    engine.submit(request(model, 50, client="patient"), one)
    gate.release(100)
    one.finished(1), many.finished(7)
    assert 50 in model.batches[1]


def test_a_poisoned_request_fails_alone_and_its_mates_finish(engine):
    gate = threading.Semaphore(0)
    model, blocker = FakeGenerator(gate=gate, broken_prompt="poison"), Inbox()
    good, bad = Inbox(), Inbox()
    engine.submit(request(model, 0), blocker)
    assert model.began.wait(20)
    engine.submit(request(model, 1), good)
    engine.submit(request(model, 2, prompt="poison"), bad)
    gate.release(100)
    assert len(good.finished(1)) == 1
    error = bad.broken().error
    assert isinstance(error, Internal)
    assert "nan in the latents" in error.message


def test_progress_is_told_only_to_those_who_asked(engine):
    model, loud, quiet = FakeGenerator(), Inbox(), Inbox()
    engine.submit(request(model, 1, progress=True), loud)
    engine.submit(request(model, 2), quiet)
    loud.finished(1), quiet.finished(1)
    assert [e.step for e in loud.events if isinstance(e, Progress)] == [1, 2, 3]
    assert not any(isinstance(e, Progress) for e in quiet.events)


def test_leaving_a_stream_cancels_the_rest(engine):
    gate = threading.Semaphore(1)
    model = FakeGenerator(gate=gate)

    async def look_once() -> None:
        stream = engine.stream(request(model, 1, steps=1000, progress=True))
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(look_once())
    gate.release(1)
    inbox = Inbox()
    engine.submit(request(FakeGenerator(), 2), inbox)
    inbox.finished(1)
    assert model.steps_done <= 2


def test_a_stopping_engine_tells_everyone_who_waits():
    gate = threading.Semaphore(0)
    engine, model = Engine(max_batch=1), FakeGenerator(gate=gate)
    running, waiting = Inbox(), Inbox()
    engine.submit(request(model, 1), running)
    assert model.began.wait(20)
    engine.submit(request(model, 2), waiting)
    stopper = threading.Thread(target=engine.stop)
    stopper.start()
    gate.release(100)
    stopper.join(20)
    assert isinstance(waiting.broken().error, Unavailable)
    assert isinstance(running.events[-1], (Broken, Finished))
