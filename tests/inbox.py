"""Where a test collects what the engine delivers."""

from __future__ import annotations

import threading

from services.generation.slots import Event, Failed, Finished


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

    def failed(self) -> Failed:
        with self.arrived:
            assert self.arrived.wait_for(lambda: any(isinstance(e, Failed) for e in self.events), timeout=20)
        return next(event for event in self.events if isinstance(event, Failed))

    def _finished(self) -> list[Finished]:
        return [event for event in self.events if isinstance(event, Finished)]
