"""The engine with models that need no weights: who joins when, who leaves when, and who is told what."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from services.generation.engine import Engine
from services.generation.observer import Observer
from services.generation.slots import Failed, Finished, StepProgress
from tests.fakes import FakeGenerator, FakeStepper
from tests.inbox import Inbox
from tests.requests import image_request
from vouch.errors import DeadlineExceeded, Exhausted, Internal, Unavailable
from vouch.types.generation import GenerationRequest


@pytest.fixture(params=[True, False], ids=["background", "inline"])
def engine(request):
    """Pixels are made on a thread of their own, and between two steps."""
    engine = Engine(max_batch=4, max_waiting=8, background=request.param)
    yield engine
    engine.stop()


def request(model: FakeGenerator, *seeds: int, **changes) -> tuple[Any, GenerationRequest]:
    values = {"model": model, "prompt": "neutrophil", "seeds": seeds, "steps": 3, "guidance": 1.0, **changes}
    return image_request(**values)


def until(what: Callable[[], bool]) -> None:
    """Look again and again: the threads let go a moment after they have told."""
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.01)


class Listening(Observer):
    def __init__(self) -> None:
        self.admissions: list[int | None] = []
        self.steps: list[tuple[int, int]] = []
        self.stages: set[str] = set()
        self.evictions: list[str] = []

    def admitted(self, waited_s: float, steps: int | None) -> None:
        self.admissions.append(steps)

    def stepped(self, images: int, rows: int) -> None:
        self.steps.append((images, rows))

    def staged(self, stage: str, seconds: float) -> None:
        self.stages.add(stage)

    def evicted(self, reason: str) -> None:
        self.evictions.append(reason)


both = pytest.mark.parametrize("kind", [FakeStepper, FakeGenerator], ids=["stepwise", "whole"])


@both
def test_every_image_of_a_request_is_its_own_seeds_image(engine, kind):
    inbox, model = Inbox(), kind()
    engine.submit(*request(model, 5, 6, 7), inbox)
    for done in inbox.finished(3):
        assert (done.image == model.paint([5, 6, 7][done.index])).all()


def test_a_request_joins_those_that_run_at_their_next_step(engine):
    gate = threading.Semaphore(0)
    model, first, second = FakeStepper(gate=gate), Inbox(), Inbox()
    engine.submit(*request(model, 1, steps=4), first)
    assert model.began.wait(20)
    engine.submit(*request(model, 2, steps=2), second)
    gate.release(100)
    first.finished(1), second.finished(1)
    assert [set(batch) for batch in model.batches] == [{1}, {1, 2}, {1, 2}, {1}]


def test_guidance_doubles_only_the_slots_that_use_it(engine):
    gate = threading.Semaphore(0)
    model, inboxes = FakeStepper(gate=gate), [Inbox(), Inbox()]
    engine.submit(*request(model, 1, steps=2), inboxes[0])
    assert model.began.wait(20)
    engine.submit(*request(model, 2, steps=1, guidance=3.0), inboxes[1])
    gate.release(100)
    inboxes[0].finished(1), inboxes[1].finished(1)
    assert [sorted(batch) for batch in model.batches] == [[1], [1, 2, 2]]


def test_the_images_of_a_request_take_slots_as_they_come_free(engine):
    model, inbox = FakeStepper(), Inbox()
    engine.submit(*request(model, *range(6), steps=2), inbox)
    assert {done.index for done in inbox.finished(6)} == set(range(6))
    assert model.batches == [[0, 1, 2, 3]] * 2 + [[4, 5]] * 2


def test_images_drawn_whole_share_a_call_only_when_steps_and_guidance_are_equal(engine):
    model, inboxes = FakeGenerator(gate=(gate := threading.Semaphore(0))), [Inbox() for _ in range(4)]
    engine.submit(*request(model, 1), inboxes[0])
    assert model.began.wait(20)
    engine.submit(*request(model, 2), inboxes[1])
    engine.submit(*request(model, 3, steps=5), inboxes[2])
    engine.submit(*request(model, 4), inboxes[3])
    gate.release(100)
    for inbox in inboxes:
        inbox.finished(1)
    assert model.batches == [[1], [2, 4], [3]]


@both
def test_a_request_keeps_the_model_that_it_named(engine, kind):
    gate = threading.Semaphore(0)
    old, new = kind(gate=gate), kind()
    first, second = Inbox(), Inbox()
    engine.submit(*request(old, 1, 2), first)
    assert old.began.wait(20)
    engine.submit(*request(new, 3), second)
    gate.release(100)
    first.finished(2), second.finished(1)
    assert {seed for batch in old.batches for seed in batch} == {1, 2}
    assert {seed for batch in new.batches for seed in batch} == {3}


@both
def test_a_request_beyond_the_queue_is_refused_whole(engine, kind):
    gate = threading.Semaphore(0)
    model, inbox = kind(gate=gate), Inbox()
    engine.submit(*request(model, 1, 2, 3, 4), inbox)
    assert model.began.wait(20)
    engine.submit(*request(model, *range(8)), inbox)
    with pytest.raises(Exhausted, match="12 images are under way or wait and there is room for 12"):
        engine.submit(*request(model, 99), inbox)
    gate.release(100)
    assert len(inbox.finished(12)) == 12


@both
def test_who_is_refused_is_told_when_there_may_be_room(engine, kind):
    gate = threading.Semaphore(0)
    model, inbox = kind(gate=gate), Inbox()
    engine.submit(*request(model, 1, 2, 3, 4), inbox)
    assert model.began.wait(20)
    engine.submit(*request(model, *range(8)), inbox)
    waits = []
    for images in (1, 8):
        with pytest.raises(Exhausted) as caught:
            engine.submit(*request(model, *range(images)), inbox)
        waits.append(caught.value.retry_after_s)
    assert 0 < waits[0] < waits[1]
    gate.release(1000)
    inbox.finished(12)


@pytest.fixture
def slow(engine):
    """An engine that has learned that a row takes a second, at work on 40 rows of the client "long"."""
    gate = threading.Semaphore(0)
    model = FakeStepper(gate=gate)
    engine._throughput.add_rows(rows=1, seconds=1.0)
    engine.submit(*request(model, 1, 2, 3, 4, steps=10, client="long"), Inbox())
    assert model.began.wait(20)
    yield engine, model
    gate.release(1000)


def test_a_request_that_others_would_make_late_is_refused_and_told_when_to_come_again(slow):
    engine, model = slow
    before = engine.load()
    with pytest.raises(Exhausted, match=r"take about 10 s and its deadline is in 1[45]") as caught:
        engine.submit(*request(model, 9, steps=10, timeout_s=15.0, client="long"), Inbox())
    assert caught.value.retry_after_s == pytest.approx(10.0, abs=1.0)
    assert engine.load() == before


def test_a_request_that_will_be_in_time_joins_a_long_queue(slow):
    engine, model = slow
    engine.submit(*request(model, 9, steps=10, timeout_s=35.0, client="long"), Inbox())
    engine.submit(*request(model, 9, steps=1, timeout_s=5.0, client="short"), Inbox())
    assert sum(engine.load()) == 6


def test_a_request_that_would_be_late_on_an_idle_engine_is_not_told_to_come_again(slow):
    engine, model = slow
    engine.submit(*request(model, 9, steps=10, timeout_s=5.0, client="long"), Inbox())
    assert sum(engine.load()) == 5


@both
def test_a_request_whose_time_is_up_ends_at_the_next_step(engine, kind):
    gate = threading.Semaphore(0)
    model, late, patient = kind(gate=gate), Inbox(), Inbox()
    engine.submit(*request(model, 1, 2, steps=1000, timeout_s=0.0), late)
    engine.submit(*request(model, 3, steps=2), patient)
    gate.release(10)
    assert isinstance(late.failed().error, DeadlineExceeded)
    patient.finished(1)
    assert model.steps_done <= 3


@both
def test_an_observer_learns_of_every_admission_step_and_eviction(kind):
    gate, seen = threading.Semaphore(0), Listening()
    engine, model, kept, left = Engine(max_batch=2, observer=seen), kind(gate=gate), Inbox(), Inbox()
    engine.submit(*request(model, 1, 2, steps=3), kept)
    assert model.began.wait(20)
    engine.submit(*request(model, 3), left).cancel()
    gate.release(100)
    kept.finished(2)
    until(lambda: seen.evictions == ["cancelled"])
    engine.stop()
    assert seen.admissions == [0, 0]
    assert {images for images, _ in seen.steps} == {2}
    assert {"begin", "denoise"} <= seen.stages


@both
def test_a_picture_is_what_the_encoder_makes_of_it(kind):
    engine, inbox = Engine(encode=lambda image: bytes(image[0, 0])), Inbox()
    engine.submit(*request(kind(), 7), inbox)
    assert inbox.finished(1)[0].image == bytes([7, 7, 7])
    engine.stop()


@both
def test_a_caller_who_leaves_the_queue_makes_room_at_once(engine, kind):
    gate = threading.Semaphore(0)
    model, inbox = kind(gate=gate), Inbox()
    engine.submit(*request(model, 1, 2, 3, 4), inbox)
    assert model.began.wait(20)
    engine.submit(*request(model, *range(10, 18)), inbox).cancel()
    engine.submit(*request(model, *range(20, 28)), inbox)
    gate.release(100)
    assert len(inbox.finished(12)) == 12


@both
def test_a_cancelled_request_frees_the_engine_at_the_next_step(engine, kind):
    gate = threading.Semaphore(0)
    model, left, next_one = kind(gate=gate), Inbox(), Inbox()
    ticket = engine.submit(*request(model, 1, 2, 3, 4, steps=1000), left)
    assert model.began.wait(20)
    ticket.cancel()
    engine.submit(*request(model, 5, steps=2), next_one)
    gate.release(3)
    next_one.finished(1)
    assert model.steps_done == 3
    assert left.events == []


@both
def test_a_request_cancelled_in_the_queue_is_never_computed(engine, kind):
    gate = threading.Semaphore(0)
    model, inbox = kind(gate=gate), Inbox()
    engine.submit(*request(model, 1), inbox)
    assert model.began.wait(20)
    engine.submit(*request(model, 2, 3), inbox).cancel()
    engine.submit(*request(model, 4), inbox)
    gate.release(100)
    inbox.finished(2)
    assert {seed for batch in model.batches for seed in batch} == {1, 4}


@both
def test_one_image_goes_before_those_of_who_asked_for_many(engine, kind):
    gate = threading.Semaphore(0)
    model, many, one = kind(gate=gate), Inbox(), Inbox()
    engine.submit(*request(model, 90, 91, 92, 93, client="busy"), many)
    assert model.began.wait(20)
    engine.submit(*request(model, 1, 2, 3, 4, 5, 6, client="busy"), many)
    engine.submit(*request(model, 50, client="patient"), one)
    gate.release(100)
    one.finished(1), many.finished(10)
    joined = [50 in batch for batch in model.batches].index(True)
    assert joined == 1  # the step after the one that ran
    assert len(model.batches[joined]) == 4


@both
def test_a_request_that_breaks_its_batch_fails_alone(engine, kind):
    gate = threading.Semaphore(0)
    model, blocker = kind(gate=gate, broken_prompt="poison"), Inbox()
    good, bad = Inbox(), Inbox()
    engine.submit(*request(model, 0), blocker)
    assert model.began.wait(20)
    engine.submit(*request(model, 1), good)
    engine.submit(*request(model, 2, prompt="poison"), bad)
    gate.release(100)
    good.finished(1), blocker.finished(1)
    error = bad.failed().error
    assert isinstance(error, Internal)
    assert "RuntimeError" in error.message


def test_latents_that_are_no_numbers_fail_their_own_request_only(engine):
    gate = threading.Semaphore(0)
    model, good, bad = FakeStepper(gate=gate), Inbox(), Inbox()
    engine.submit(*request(model, 1), good)
    assert model.began.wait(20)
    engine.submit(*request(model, 2, 3, prompt="nan"), bad)
    gate.release(100)
    assert (good.finished(1)[0].image == model.paint(1)).all()
    assert "not finite" in bad.failed().error.message
    assert sum(isinstance(event, Failed) for event in bad.events) == 1


@both
def test_progress_is_told_only_to_those_who_asked(engine, kind):
    model, loud, quiet = kind(), Inbox(), Inbox()
    engine.submit(*request(model, 1, progress=True), loud)
    engine.submit(*request(model, 2), quiet)
    loud.finished(1), quiet.finished(1)
    assert [e.step for e in loud.events if isinstance(e, StepProgress)][:2] == [1, 2]
    assert not any(isinstance(e, StepProgress) for e in quiet.events)


@both
def test_leaving_a_stream_cancels_the_rest(engine, kind):
    gate = threading.Semaphore(1)
    model = kind(gate=gate)

    async def look_once() -> None:
        stream = engine.stream(*request(model, 1, steps=1000, progress=True))
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(look_once())
    gate.release(1)
    inbox = Inbox()
    engine.submit(*request(FakeStepper(), 2), inbox)
    inbox.finished(1)
    assert model.steps_done <= 2


@both
def test_a_stopping_engine_tells_everyone_who_waits(kind):
    gate = threading.Semaphore(0)
    engine, model = Engine(max_batch=1), kind(gate=gate)
    running, waiting = Inbox(), Inbox()
    engine.submit(*request(model, 1), running)
    assert model.began.wait(20)
    engine.submit(*request(model, 2), waiting)
    stopper = threading.Thread(target=engine.stop)
    stopper.start()
    gate.release(100)
    stopper.join(20)
    assert isinstance(waiting.failed().error, Unavailable)
    assert isinstance(running.events[-1], (Failed, Finished))


def test_every_finished_image_says_how_full_its_batches_were(engine):
    model, inbox = FakeStepper(), Inbox()
    engine.submit(*request(model, 1, 2), inbox)
    assert [done.batch for done in inbox.finished(2)] == [2.0, 2.0]
    assert all(np.isfinite([done.queued_s, done.compute_s]).all() for done in inbox.finished(2))


@both
def test_a_model_that_nobody_draws_with_any_more_is_let_go(engine, kind):
    inbox, model = Inbox(), kind()
    gone = weakref.ref(model)
    engine.submit(*request(model, 1), inbox)
    inbox.finished(1)
    del model
    until(lambda: gone() is None)
