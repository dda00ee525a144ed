"""Runs a schedule on real parts: two processes, one state folder, faults, and the checker after each."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults.acknowledged import Acknowledged
from benchmarks.faults.disk import LoopDisk
from benchmarks.faults.parts import CHAMPION, Answer, prepare
from benchmarks.faults.process import Ended, Forked, Stopped, Strike
from benchmarks.faults.schedule import WORKERS, Turn
from vouch.settings import Settings
from vouch.storage.catalog import Catalog

Request = tuple[str, dict[str, Any]]
Plant = Callable[[], None]


class Violation(Exception):
    """What was acknowledged is not so."""


@dataclass
class Waiting:
    """A request inside which a process was stopped, and how many moves there were by then."""

    request: Request
    moves: int


@dataclass
class Drill:
    """One schedule under way. template: a prepared state folder, of which each drill gets a copy."""

    template: Path
    place: Path
    disk: LoopDisk | None
    plant: Plant | None = None
    master: str = ""
    stopped: dict[str, Waiting] = field(default_factory=dict)
    workers: dict[str, Forked] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.disk is not None:
            self.disk.remount()  # an earlier drill may have ended with its power cut
        if self.place.exists():
            shutil.rmtree(self.place)
        shutil.copytree(self.template, self.place)
        if self.disk is not None:
            self.disk.sync()
        self.settings = Settings(state=self.place)
        with Catalog(self.settings.resolved_catalog_url) as catalog:
            champion = catalog.versions.get(CHAMPION).digest
        self.known = Acknowledged(champion)
        self._number = 0

    def run(self, turns: Sequence[Turn]) -> str:
        """The first violation in words; "" when there is none."""
        try:
            for worker in WORKERS:
                self._start(worker)
            for turn in turns:
                self._take(turn)
            for worker in list(self.stopped):
                self._resume(worker)
            self._verify()
        except Violation as violation:
            return str(violation)
        except TimeoutError as error:
            return f"a request hangs: {error}"
        finally:
            for one in self.workers.values():
                one.close()
        return ""

    # ---- turns

    def _take(self, turn: Turn) -> None:
        if turn.worker in self.stopped:
            self._resume(turn.worker)
        if turn.what == "cut":
            self._lose_power()
        elif turn.what in ("kill", "restart"):
            self._start(turn.worker)
            self._verify()
        else:
            for request in self._requests(turn):
                self._ask(turn, request)

    def _requests(self, turn: Turn) -> list[Request]:
        """What the turn asks, of what is there; an image where there is nothing yet."""
        known, pick, self._number = self.known, turn.pick, self._number + 1
        fresh = f"request-{self._number}"
        image: Request = ("image", {"number": self._number})
        if turn.what == "rate" and known.images:
            return [("rate", _rating(fresh, known.images[pick % len(known.images)], pick))]
        if turn.what in ("repeat", "conflict") and known.ratings:
            request, (_, number, verdict) = list(known.ratings.items())[pick % len(known.ratings)]
            if turn.what == "conflict":
                verdict = "unsure" if verdict != "unsure" else "plausible"
            return [("rate", {"request": request, "number": number, "verdict": verdict})]
        if turn.what == "publish":
            return [("publish", {"number": self._number})]
        if known.models and turn.what in ("evidence", "start"):
            number = list(known.models)[pick % len(known.models)]
            last = {"value": self._number} if turn.what == "evidence" else {"request": fresh}
            return [(turn.what, {"number": number, **last})]
        if turn.what in ("start", "evidence"):
            return [("publish", {"number": self._number})]
        if turn.what in ("promote", "roll_back"):
            return self._move(turn.what, fresh) or [image]
        if turn.what in ("judge", "step"):
            return [("refuse", {}), ("step", {})] if turn.what == "judge" else [("step", {})]
        return [image]

    def _move(self, what: str, request: str) -> list[Request]:
        """Of the last rollout: none to roll back where it is rolled back, and only one under way is promoted."""
        course = self.known.courses[-1] if self.known.courses else None
        if (
            course is None
            or course.state == "ROLLED_BACK"
            or (what, course.state) == ("promote", "COMPLETED")
        ):
            return []
        return [(what, {"rollout": course.rollout, "request": request})]

    def _ask(self, turn: Turn, request: Request) -> None:
        name, arguments = request
        strike = Strike(turn.strike, turn.point) if turn.strike in ("kill", "cut", "stop") else None
        if name == "refuse":
            strike = None
        if name == "evidence":
            self.known.may_be(arguments["number"], arguments["value"])
        try:
            with self._disk_full(turn.strike == "full" and name != "refuse"):
                answer = self.workers[turn.worker].ask(name, arguments, strike)
        except Stopped:
            self.stopped[turn.worker] = Waiting(request, self.known.moves)
        except Ended:
            self._recover(turn, request)
        else:
            self._note(turn.worker, request, answer)

    @contextlib.contextmanager
    def _disk_full(self, wanted: bool) -> Iterator[None]:
        with self.disk.full() if wanted and self.disk is not None else contextlib.nullcontext():
            yield

    def _note(self, worker: str, request: Request, answer: Answer) -> None:
        if request[0] == "step" and answer.get("moved") and worker != self.master:
            raise Violation(f"two masters: {worker} moved a rollout, and {self.master} has taken over")
        self._raise(self.known.note(*request, answer))

    # ---- faults

    def _recover(self, turn: Turn, request: Request) -> None:
        """Who asked asks again, with the same request id."""
        if request[0] == "step":
            self.known.perhaps = ("roll_back", 0)
        if turn.strike == "cut":
            self._lose_power(request)
        else:
            self._start(turn.worker)
            self._again(request)
            self._verify()

    def _again(self, request: Request) -> None:
        if request[0] == "step":
            self.known.settle(self.settings)
        else:
            self._note(self.master, request, self.workers[self.master].ask(*request))

    def _lose_power(self, *under_way: Request) -> None:
        requests = [*under_way, *(waiting.request for waiting in self.stopped.values())]
        self.stopped.clear()
        if self.disk is not None:
            self.disk.cut()
        for one in self.workers.values():
            one.close()
        self.workers.clear()
        if self.disk is not None:
            self.disk.remount()
        for worker in WORKERS:
            self._start(worker)
        for request in requests:
            self._again(request)
        self._verify()

    def _start(self, worker: str) -> None:
        """A new process in the place of the old one; it takes over."""
        if worker in self.workers:
            self.workers[worker].close()
        self.workers[worker] = Forked(self.settings, self.disk, self.plant)
        try:
            answer = self.workers[worker].answer()
        except Ended:
            raise Violation("a process dies while it starts") from None
        if "ready" not in answer:
            raise Violation(f"a process cannot start: {answer.get('broke')}")
        self.master = worker

    def _resume(self, worker: str) -> None:
        waiting = self.stopped.pop(worker)
        self.workers[worker].resume()
        try:
            answer = self.workers[worker].answer()
        except Ended:
            raise Violation("a process that was stopped and woken died") from None
        if waiting.request[0] == "step" and answer.get("moved") and self.known.moves != waiting.moves:
            raise Violation(
                "a controller that was stopped carried out what it had decided before others moved"
            )
        self._note(worker, waiting.request, answer)

    def _verify(self) -> None:
        if not self.stopped:  # what a stopped request has done is not known
            self._raise(self.known.violations(self.settings))

    def _raise(self, violations: list[str]) -> None:
        if violations:
            raise Violation("; ".join(violations[:3]))


def _rating(request: str, number: int, pick: int) -> dict[str, Any]:
    return {"request": request, "number": number, "verdict": ("plausible", "implausible")[pick % 2]}


def make_template(folder: Path) -> Path:
    """A state folder to copy: made once, for migrations take their time."""
    prepare(Settings(state=folder))
    return folder
