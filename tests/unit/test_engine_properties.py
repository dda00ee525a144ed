"""Whatever arrives, leaves, fails or is swapped between the engine's steps: each image is its own, and ends once."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from services.generation.engine import Engine
from services.generation.slots import Event, Failed, Finished, StepProgress, Ticket
from tests.requests import image_request
from tests.stage import BAD_PROMPTS, PATIENCE_S, Stage, TracedModel, TracedWhole, story
from vouch.errors import Exhausted, Internal, Unavailable

KINDS = (TracedModel, TracedModel, TracedWhole)
"""What serves at the same time, as during a rollout."""


# --- what can happen between two steps -----------------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    place: int
    prompt: str
    images: int
    steps: int
    guidance: float
    client: str
    progress: bool


@dataclass(frozen=True)
class Cancel:
    which: int


@dataclass(frozen=True)
class Swap:
    place: int


@dataclass(frozen=True)
class Step:
    count: int


places = st.sampled_from((0, 0, 0, 1, 2, 2))
asks = st.builds(
    Ask,
    place=places,
    prompt=st.sampled_from((*("neutrophil", "monocyte") * 4, *BAD_PROMPTS)),
    images=st.integers(1, 4),
    steps=st.sampled_from((1, 2, 3, 3, 5)),
    guidance=st.sampled_from((1.0, 2.0, 2.0, 3.0)),
    client=st.sampled_from("abc"),
    progress=st.booleans(),
)
steps = st.builds(Step, count=st.integers(1, 2))
cancels = st.builds(Cancel, which=st.integers(0, 15))
swaps = st.builds(Swap, place=places)
actions = st.lists(
    st.sampled_from([asks] * 6 + [steps] * 5 + [cancels] * 2 + [swaps]).flatmap(lambda kind: kind),
    min_size=15,  # or most examples are over before anything meets
    max_size=50,
)


# --- the world in which it happens ---------------------------------------------------------------------------


@dataclass(eq=False)
class Asked:
    """A request as its caller sees it."""

    ask: Ask
    mark: int
    seeds: tuple[int, ...]
    events: list[Event] = field(default_factory=list)
    ticket: Ticket | None = None
    heard: int | None = None
    """How many events there were when it was cancelled; and below, how many calls there had been."""
    calls: int = 0
    late: frozenset[int] = frozenset()
    """Images that were complete by then; the thread of the pixels may be telling them just now."""

    @property
    def fails(self) -> bool:
        return self.ask.prompt in BAD_PROMPTS

    @property
    def finished(self) -> list[Finished]:
        return [told for told in self.events if isinstance(told, Finished)]

    @property
    def failed(self) -> list[Failed]:
        return [told for told in self.events if isinstance(told, Failed)]

    @property
    def ended(self) -> bool:
        return self.heard is not None or bool(self.failed) or len(self.finished) == self.ask.images


class World:
    def __init__(self, max_batch: int, step_rows: int, max_waiting: int) -> None:
        self.max_batch, self.max_waiting = max_batch, max_waiting
        self.engine = Engine(max_batch=max_batch, step_rows=step_rows, max_waiting=max_waiting)
        self.stage = Stage()
        self.asked: list[Asked] = []
        self.gone: list[weakref.ref[TracedModel]] = []
        self.models = [self.new_model(kind) for kind in KINDS]
        self.seeds = 0

    def new_model(self, kind: type[TracedModel]) -> TracedModel:
        model = kind(self.stage, mark=len(self.gone) + 1)
        self.gone.append(weakref.ref(model))
        return model

    def do(self, action: Ask | Cancel | Swap | Step) -> None:
        if isinstance(action, Ask):
            self.ask(action)
        elif isinstance(action, Cancel) and self.asked:
            self.cancel(self.asked[action.which % len(self.asked)])
        elif isinstance(action, Swap):
            self.models[action.place] = self.new_model(KINDS[action.place])
        elif isinstance(action, Step):
            self.stage.step(self.engine, action.count)
        self.stage.rest(self.engine)
        running, waiting = self.engine.load()
        assert running <= self.max_batch
        assert waiting <= self.max_waiting

    def ask(self, ask: Ask) -> None:
        model = self.models[ask.place]
        seeds = tuple(range(self.seeds + 1, self.seeds + 1 + ask.images))
        asked = Asked(ask, model.mark, seeds)
        request = image_request(
            model=model,
            prompt=ask.prompt,
            seeds=seeds,
            steps=ask.steps,
            guidance=ask.guidance,
            client=ask.client,
            progress=ask.progress,
        )
        try:
            asked.ticket = self.engine.submit(*request, asked.events.append)
        except Exhausted:
            event("refused")
            assert self.engine.load()[1] + ask.images > self.max_waiting
            return
        self.seeds += ask.images
        self.asked.append(asked)

    def cancel(self, asked: Asked) -> None:
        event("cancelled after its end" if asked.ended else "cancelled")
        asked.ticket.cancel()
        if asked.heard is None:
            asked.heard, asked.calls = len(asked.events), len(self.stage.calls)
            asked.late = frozenset(
                index for index, seed in enumerate(asked.seeds) if self.steps_of(seed) >= asked.ask.steps
            )

    def steps_of(self, seed: int) -> int:
        return sum(seed in call.seeds for call in self.stage.over)

    def drain(self) -> None:
        """Let everything end by itself: nothing is kept, neither slot nor model."""
        self.stage.open()
        until(lambda: all(asked.ended for asked in self.asked))
        until(lambda: self.engine.load() == (0, 0))
        self.models.clear()
        for asked in self.asked:
            asked.ticket = None
        until(lambda: all(model() is None for model in self.gone))

    def stop(self) -> None:
        """End the engine, wherever it is."""
        stopper = threading.Thread(target=self.engine.stop)
        stopper.start()
        self.stage.open()
        stopper.join(PATIENCE_S)
        assert not stopper.is_alive()
        assert not self.engine.alive
        assert self.engine.load() == (0, 0)


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.001)


# --- what must be true of it ---------------------------------------------------------------------------------


def check_images(asked: Asked, max_batch: int) -> None:
    """Each at most once, and each its own: its seed, its steps, its prompt and guidance, its model."""
    indices = [told.index for told in asked.finished]
    assert len(indices) == len(set(indices)), "delivered twice"
    for told in asked.finished:
        ask = asked.ask
        right = story(asked.mark, ask.prompt, asked.seeds[told.index], ask.steps, ask.guidance)
        assert (told.image == right[0]).all(), f"not the image of seed {asked.seeds[told.index]}"
        assert 1 <= told.batch <= max_batch or not KINDS[ask.place].stepwise
        assert told.queued_s >= 0
        assert told.compute_s >= 0


def check_progress(asked: Asked) -> None:
    """Step by step, to those who asked. Images drawn whole may begin again after another broke their batch."""
    told = [progress for progress in asked.events if isinstance(progress, StepProgress)]
    assert asked.ask.progress or not told
    for index in range(asked.ask.images) if KINDS[asked.ask.place].stepwise else ():
        steps = [progress.step for progress in told if progress.index == index]
        assert steps == list(range(1, len(steps) + 1))
        assert len(steps) <= asked.ask.steps
        if asked.ask.progress and index in {done.index for done in asked.finished}:
            assert len(steps) == asked.ask.steps


def check_end(asked: Asked, stopped: bool) -> None:
    if asked.heard is not None:
        after = asked.events[asked.heard :]
        assert {told.index for told in after if isinstance(told, Finished)} <= asked.late
        assert not any(isinstance(told, StepProgress) for told in after)
        assert len(asked.failed) <= (1 if asked.fails else 0)
        return
    if asked.fails:
        assert not asked.finished
        assert stopped or [type(told.error) for told in asked.failed] == [Internal]
        return
    assert bool(asked.failed) == (len(asked.finished) < asked.ask.images)
    assert len(asked.failed) <= 1
    assert not asked.failed or (stopped and isinstance(asked.failed[0].error, Unavailable))


def check_calls(world: World) -> None:
    """Who was computed with whom: never too many, never for another model, never long after its caller left."""
    owner = {seed: asked for asked in world.asked for seed in asked.seeds}
    seen: dict[int, int] = {}
    for number, call in enumerate(world.stage.calls):
        assert len(set(call.seeds)) <= world.max_batch
        for seed in set(call.seeds):
            asked = owner[seed]
            stepwise = KINDS[asked.ask.place].stepwise
            assert asked.mark == call.mark
            assert call.seeds.count(seed) == (2 if stepwise and asked.ask.guidance > 1 else 1)
            if asked.heard is not None and number >= asked.calls and stepwise:
                seen[seed] = seen.get(seed, 0) + 1
    # One step that its batch has before it, and that one again when a mate broke it.
    assert all(count <= 2 for count in seen.values())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    actions=actions,
    max_batch=st.sampled_from((1, 2, 3, 4, 6)),
    step_rows=st.sampled_from((1, 2, 3, 100)),
    max_waiting=st.sampled_from((4, 8, 100)),
    stopped=st.booleans(),
)
def test_every_image_is_its_own_and_ends_once(actions, max_batch, step_rows, max_waiting, stopped):
    world = World(max_batch, step_rows, max_waiting)
    try:
        for action in actions:
            world.do(action)
        if not stopped:
            world.drain()
    finally:
        world.stop()
    for asked in world.asked:
        check_images(asked, max_batch)
        check_progress(asked)
        check_end(asked, stopped)
    check_calls(world)
