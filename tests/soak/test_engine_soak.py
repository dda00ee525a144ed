"""Minutes of random load on real, tiny models: everything ends, and the memory stays where it is.

SOAK_SECONDS: how long, 600 unless told.
"""

from __future__ import annotations

import gc
import os
import random
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil
import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler

from services.generation.engine import Engine
from services.generation.slots import Event, Failed, Finished, Ticket
from tests.requests import image_request
from tests.tiny import save_generator
from vouch.errors import Exhausted
from vouch.models.pipelines import Generator, load_generator

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
SWAP_EVERY_S = min(5.0, SECONDS / 30)
PATIENCE_S = 120.0
PROMPTS = ("neutrophil", "monocyte", "basophil", "lymphocyte with a big cell", "")
IMPOSSIBLE_STEPS = 2000
"""More noise levels than the model knows: its request fails."""
Version = weakref.ref[Generator]


@dataclass(eq=False)
class Asked:
    """What is kept of a request: neither its model nor its images."""

    images: int
    fails: bool
    version: Version
    ticket: Ticket | None = None
    finished: int = 0
    broken: int = 0
    cancelled: bool = False

    @property
    def ended(self) -> bool:
        return self.cancelled or self.broken > 0 or self.finished == self.images


@dataclass
class Callers:
    """Asks, leaves and counts, so that about `most` requests are under way."""

    engine: Engine
    chance: random.Random
    most: int = 12
    open: set[Asked] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def ask(self, model: Generator, spoilt: bool) -> None:
        steps = self.chance.choice((1, 2, 4, 8, 15))
        impossible = model.stepwise and self.chance.random() < 0.05
        fails = impossible or (spoilt and model.stepwise)
        asked = Asked(self.chance.randint(1, 4), fails, weakref.ref(model))
        request = image_request(
            model=model,
            prompt=self.chance.choice(PROMPTS),
            seeds=tuple(self.chance.randrange(2**31) for _ in range(asked.images)),
            steps=IMPOSSIBLE_STEPS if impossible else steps,
            guidance=self.chance.choice((1.0, 2.5, 7.5)),
            client=f"client-{self.chance.randrange(40)}",
            progress=self.chance.random() < 0.3,
        )
        with self.changed:
            self.open.add(asked)
        try:
            asked.ticket = self.engine.submit(*request, self.listener(asked))
        except Exhausted:
            self.end(asked, "refused")

    def listener(self, asked: Asked) -> Callable[[Event], None]:
        def deliver(event: Event) -> None:
            if isinstance(event, Finished):
                asked.finished += 1
                self.counts["images"] += 1
                self.counts["misshapen"] += event.image.shape != (32, 32, 3)
            asked.broken += isinstance(event, Failed)
            if asked.ended:
                self.end(asked, "failed" if asked.broken else "finished")

        return deliver

    def end(self, asked: Asked, how: str) -> None:
        with self.changed:
            if asked in self.open:
                self.open.remove(asked)
                self.counts[how] += 1
                if how in ("finished", "failed"):
                    self.counts["wrongly " + how] += asked.fails != (how == "failed")
            self.changed.notify_all()

    def leave(self) -> None:
        """One of those who wait goes."""
        with self.changed:
            under_way = sorted(self.open, key=id)
        asked = self.chance.choice(under_way) if under_way else None
        if asked is not None and asked.ticket is not None:
            asked.cancelled = True
            asked.ticket.cancel()
            self.end(asked, "cancelled")

    def wait_for(self, most: int) -> None:
        with self.changed:
            done = self.changed.wait_for(lambda: len(self.open) <= most, PATIENCE_S)
            assert done, f"{len(self.open)} requests do not end; the engine has {self.engine.load()}"


@dataclass
class Memory:
    """The resident memory, looked at about once a second, and the versions that live though nobody wants them."""

    callers: Callers
    since: float = field(default_factory=time.monotonic)
    samples: list[tuple[float, int]] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)
    most_strays: int = 0

    def look(self, serving: Generator) -> None:
        now = time.monotonic() - self.since
        if self.samples and now - self.samples[-1][0] < min(1.0, SECONDS / 100):
            return
        gc.collect()
        self.samples.append((now, psutil.Process().memory_info().rss))
        with self.callers.changed:
            wanted = [weakref.ref(serving), *(asked.version for asked in self.callers.open)]
        self.most_strays = max(self.most_strays, sum(version not in wanted for version in self.alive()))

    def alive(self) -> list[Version]:
        self.versions = [version for version in self.versions if version() is not None]
        return self.versions

    def level(self, third: int) -> float:
        """The middle value of the first, second or last third, in MB."""
        start, end = (third - 1) * SECONDS / 3, third * SECONDS / 3
        return round(median(size for at, size in self.samples if start <= at <= end) / 1e6, 1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("generators")
    return [save_generator(place / str(seed), seed) for seed in range(2)]


def some_version(chance: random.Random, folders: list[Path]) -> tuple[Generator, bool]:
    """A freshly loaded one, and whether its weights are spoilt. Now and then it can only draw whole."""
    model, kind = load_generator(chance.choice(folders)), chance.random()
    if kind < 0.1:
        model.pipe.scheduler = EulerAncestralDiscreteScheduler()
        return Generator(model.pipe, model.vocabulary, 4, 2.0), False
    if kind < 0.25:
        with torch.no_grad():
            model.pipe.unet.conv_out.bias.fill_(float("nan"))
        return model, True
    return model, False


def load_for(seconds: float, callers: Callers, memory: Memory, folders: list[Path]) -> None:
    chance, swapped = callers.chance, 0.0
    model, spoilt = some_version(chance, folders)
    while (now := time.monotonic() - memory.since) < seconds:
        if now - swapped > SWAP_EVERY_S:
            model, spoilt = some_version(chance, folders)
            memory.versions.append(weakref.ref(model))
            callers.counts["swaps"] += 1
            swapped = now
        for _ in range(chance.choice((1, 1, 2, 10))):
            callers.ask(model, spoilt)
        if chance.random() < 0.3:
            callers.leave()
        callers.wait_for(callers.most)
        memory.look(model)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 600)
def test_under_a_long_random_load_everything_ends_and_memory_stays(folders):
    engine = Engine(max_batch=8, max_waiting=100, threads=1)
    callers = Callers(engine, random.Random(0))
    memory = Memory(callers)
    try:
        load_for(SECONDS, callers, memory, folders)
        callers.wait_for(0)
    finally:
        engine.stop()
    levels = [memory.level(third) for third in (1, 2, 3)]
    print(f"\n{SECONDS:.0f} s: {dict(callers.counts)}")
    print(f"resident MB by thirds, {len(memory.samples)} looks: {levels}")
    print(f"versions in memory that nobody wanted any more: at most {memory.most_strays}")
    assert not engine.alive
    assert engine.load() == (0, 0)
    assert callers.counts["misshapen"] == 0
    assert callers.counts["wrongly finished"] == callers.counts["wrongly failed"] == 0
    assert min(callers.counts[how] for how in ("finished", "failed", "cancelled", "swaps")) > 0
    assert memory.most_strays <= 3  # on their way out
    gc.collect()
    assert not memory.alive()
    assert levels[2] == pytest.approx(levels[1], rel=0.05)
