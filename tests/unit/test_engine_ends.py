"""How requests end when several things go wrong at once: still each of them once, and nobody else with them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from services.generation.engine import Engine
from services.generation.slots import Event, Failed, StepProgress, Ticket
from tests.fakes import FakeGenerator, FakeStepper
from tests.inbox import Inbox
from tests.requests import image_request
from tests.stage import PATIENCE_S, Stage, TracedModel, TracedWhole
from vouch.errors import Internal, Unavailable
from vouch.types.generation import GenerationRequest


@pytest.fixture
def engine():
    engine = Engine(max_batch=4, max_waiting=8)
    yield engine
    engine.stop()


def request(model: FakeGenerator | TracedModel, *seeds: int, **changes) -> tuple[Any, GenerationRequest]:
    values = {"model": model, "prompt": "neutrophil", "seeds": seeds, "steps": 3, "guidance": 1.0, **changes}
    return image_request(**values)


class SlowPixels(FakeStepper):
    """Its pixels wait for the test."""

    def __init__(self) -> None:
        super().__init__()
        self.developing, self.light = threading.Event(), threading.Event()

    def decode(self, x: torch.Tensor) -> np.ndarray:
        self.developing.set()
        assert self.light.wait(PATIENCE_S)
        return super().decode(x)


def test_steps_go_on_while_pixels_are_made(engine):
    slow, first, second = SlowPixels(), Inbox(), Inbox()
    engine.submit(*request(slow, 1), first)
    assert slow.developing.wait(PATIENCE_S)
    engine.submit(*request(slow, 2, progress=True), second)
    with second.arrived:
        assert second.arrived.wait_for(lambda: StepProgress(0, 3, 3) in second.events, PATIENCE_S)
    assert first.events == []
    slow.light.set()
    first.finished(1), second.finished(1)


def test_an_image_whose_caller_leaves_while_its_pixels_are_made_is_not_told(engine):
    model, left, stayed = SlowPixels(), Inbox(), Inbox()
    ticket = engine.submit(*request(model, 1), left)
    assert model.developing.wait(PATIENCE_S)
    engine.submit(*request(model, 2), stayed)
    ticket.cancel()
    model.light.set()
    stayed.finished(1)
    assert left.events == []


class LostPixels(FakeStepper):
    """It decodes one image less than it is given."""

    def decode(self, x: torch.Tensor) -> np.ndarray:
        return super().decode(x)[1:]


def test_an_image_whose_pixels_are_lost_fails_rather_than_waits_for_ever(engine):
    inbox = Inbox()
    engine.submit(*request(LostPixels(), 1), inbox)
    assert isinstance(inbox.failed().error, Internal)


def test_a_request_after_the_end_is_told_so(engine):
    engine.stop()
    inbox = Inbox()
    try:
        engine.submit(*request(FakeStepper(), 1), inbox)
    except Unavailable:
        return
    assert [type(event) for event in inbox.events] == [Failed]


def test_a_step_that_outlasts_stop_leaves_nobody_untold(engine):
    stage, running, waiting = Stage(), Inbox(), Inbox()
    model = TracedModel(stage, mark=1)
    engine.submit(*request(model, 1, steps=1), running)
    stage.rest(engine)
    engine.submit(*request(model, 2, 3, 4, 5, steps=1), waiting)
    engine.stop(timeout_s=0.0)
    stage.open()
    engine.stop()
    assert running.events, "the image that was being computed"
    assert isinstance(waiting.events[-1], Failed)


def test_a_listener_that_raises_harms_nobody_else(engine):
    def failing_listener(event: Event) -> None:
        raise RuntimeError("Event loop is closed")

    stage, inbox = Stage(), Inbox()
    model = TracedModel(stage, mark=1)
    engine.submit(*request(model, 1), inbox)
    stage.rest(engine)
    engine.submit(*request(model, 2, progress=True), failing_listener)
    stage.open()
    stage.rest(engine)
    assert len(inbox.finished(1)) == 1


def test_a_listener_that_raises_makes_nobody_hear_twice(engine):
    def failing_listener(event: Event) -> None:
        raise RuntimeError("Event loop is closed")

    stage, inbox, after = Stage(), Inbox(), Inbox()
    model = TracedModel(stage, mark=1)
    engine.submit(*request(model, 100), Inbox())
    stage.rest(engine)
    engine.submit(*request(model, 1), inbox)
    engine.submit(*request(model, 2), failing_listener)
    stage.open()
    inbox.finished(1)
    engine.submit(*request(model, 3), after)
    after.finished(1)  # one thread makes all pixels, in their order
    assert len(inbox.finished(1)) == 1


def test_a_request_that_fails_on_two_threads_at_once_is_told_once():
    """The engine's thread refuses an image while the thread of the pixels finds another to be none."""
    told: list[Event] = []
    stage = Stage()

    def listen(event: Event) -> None:
        told.append(event)
        if len(told) == 1:
            other = threading.Thread(target=ticket.fail, args=(Internal("no image at all"),), daemon=True)
            other.start()
            other.join(0.5)

    ticket = Ticket(*request(TracedModel(stage, mark=1), 1, 2), listen)
    ticket.fail(Unavailable("shutting down"))
    assert [type(event) for event in told] == [Failed]


def test_an_image_drawn_whole_again_does_not_count_its_mates_twice(engine):
    stage, first, good = Stage(), Inbox(), Inbox()
    model = TracedWhole(stage, mark=1)
    engine.submit(*request(model, 100), first)
    stage.rest(engine)
    engine.submit(*request(model, 1), good)
    engine.submit(*request(model, 2, prompt="no pixels"), Inbox())
    stage.open()
    assert good.finished(1)[0].batch <= 2
