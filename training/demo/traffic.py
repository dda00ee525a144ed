"""Requests that go on while versions change."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import vouch
from training.demo.screen import console
from vouch.errors import VouchError


@dataclass
class Traffic:
    """How many requests ended, and how."""

    requests: int = 0
    failed: int = 0
    reasons: list[str] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)
    ended: threading.Condition = field(default_factory=threading.Condition)

    def note(self, version: str = "", failure: str = "") -> None:
        with self.ended:
            self.requests += 1
            self.failed += bool(failure)
            if failure:
                self.reasons.append(failure)
            else:
                self.versions.add(version)
            self.ended.notify_all()

    def wait_for(self, more: int, timeout_s: float = 60.0) -> None:
        """Until so many more requests have ended."""
        with self.ended:
            enough = self.requests + more
            self.ended.wait_for(lambda: self.requests >= enough, timeout_s)


@contextmanager
def background_traffic(state: Path, labels: tuple[str, ...], traffic: Traffic) -> Iterator[None]:
    """One client that asks for an image, and when it has it for the next."""
    stop = threading.Event()

    def ask() -> None:
        with vouch.connect(state=state, role="client") as client:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    reply = client.generate_images(labels[number % len(labels)], seed=number, steps=8)
                    traffic.note(version=reply.generator_version)
                except VouchError as error:
                    traffic.note(failure=error.message)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
    for reason in sorted(set(traffic.reasons)):
        console.print(f"   [red]failed:[/red] {reason}")
