"""Power cuts at random moments, while one process rates, one publishes and swaps, and one migrates old catalogs.

The processes are stopped before the cut, each between two system calls. An fsync that is under way while Linux shuts
the file system down can answer that all is well (it looks for the shutdown before it waits for the journal, and a
journal that was aborted meanwhile has nothing left to wait for); a disk without power answers nothing. In the search
the process itself cuts the power, between two calls too.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults.acknowledged import Acknowledged
from benchmarks.faults.disk import LoopDisk, mounted, why_not
from benchmarks.faults.drill import Plant, Request
from benchmarks.faults.parts import CHAMPION, Answer, Parts, prepare
from benchmarks.faults.planted import catalog_unsynced, no_fsync
from benchmarks.faults.process import Forked
from benchmarks.report import Figure, Report
from vouch.errors import VouchError
from vouch.settings import Settings
from vouch.storage.atomic import sync
from vouch.storage.catalog import Catalog
from vouch.storage.catalog.database import Database
from vouch.storage.catalog.migrate import migrate

SHORTEST_S, LONGEST_S = 0.03, 1.0
"""From the start of a round to its power cut."""
EACH = 10
"""Cuts that one state lives through."""
ROLES = ("rate", "move", "migrate")
OLD_ROWS = 40
Tell = Callable[[Answer], None]


@dataclass
class Roaming:
    """What came of so many cuts. lost: in words."""

    cuts: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    moves: int = 0  # of rollouts

    def plus(self, other: Roaming) -> Roaming:
        return Roaming(
            self.cuts + other.cuts,
            self.acknowledged + other.acknowledged,
            self.lost + other.lost,
            self.moves + other.moves,
        )


def roam(parts: Parts, tell: Tell, role: str, first: int, seed: int, known: dict[str, Any]) -> None:
    """In the child: ask oneself again and again. Each request is announced before and answered after."""
    chance, number = random.Random(seed), first
    roles = {"rate": _rating, "move": _moving, "migrate": _migrating}
    while True:
        for request in roles[role](chance, number, known):
            name, arguments = request
            tell({"asked": request})
            try:
                answer = migrated(**arguments) if name == "migrate" else parts.perform(name, arguments)
            except (VouchError, OSError) as error:
                answer = {"refused": type(error).__name__}
            if name == "start":
                known["rollout"] = answer.get("rollout")
            tell({"answered": request, "answer": answer})
        number += 1


def _rating(chance: random.Random, number: int, known: dict[str, Any]) -> list[Request]:
    verdict = chance.choice(("plausible", "implausible"))
    rate: Request = ("rate", {"request": f"rate-{number}", "number": number, "verdict": verdict})
    return [("image", {"number": number}), rate, rate]  # and once more: it must be the same


def _moving(chance: random.Random, number: int, known: dict[str, Any]) -> Any:
    """Publish, roll out, and go on or back. A rollout that a power cut left under way goes back first."""
    if known.get("rollout"):
        yield ("roll_back", {"rollout": known.pop("rollout"), "request": f"back-{number}"})
    yield ("publish", {"number": number})
    yield ("evidence", {"number": number, "value": number})
    yield ("start", {"number": number, "request": f"start-{number}"})
    rollout, moves = known.pop("rollout", None), ["promote"] * chance.randint(1, 2) + ["roll_back"]
    for turn, name in enumerate(moves if rollout else ()):
        yield (name, {"rollout": rollout, "request": f"{name}-{number}-{turn}"})


def _migrating(chance: random.Random, number: int, known: dict[str, Any]) -> list[Request]:
    return [("migrate", {"old": known["old"], "new": f"{known['old']}.{number}"})]


def migrated(old: str, new: str) -> Answer:
    """A copy of a catalog of the first form, brought to the newest."""
    if not Path(new).exists():
        shutil.copyfile(old, f"{new}.tmp")
        sync(Path(f"{new}.tmp"))
        Path(f"{new}.tmp").rename(new)
        sync(Path(new).parent)
    Catalog(f"sqlite:///{new}").close()
    return {"new": new}


class CutRounds:
    """One state folder that lives through one power cut after the other."""

    def __init__(self, disk: LoopDisk, seed: int, plant: Plant | None = None) -> None:
        self._disk, self._plant, self._chance = disk, plant, random.Random(seed)
        self._settings = Settings(state=disk.root / "state")
        prepare(self._settings)
        self._old = disk.root / "old.db"
        old_catalog(self._old)
        with Catalog(self._settings.resolved_catalog_url) as catalog:
            self._known = Acknowledged(catalog.versions.get(CHAMPION).digest)
        self._disk.sync()
        self._migrated: set[str] = set()
        self._number = 1
        self.came_to = Roaming()

    def cut(self) -> list[str]:
        """One round. What was lost in it."""
        children = [self._child(role) for role in ROLES]
        time.sleep(self._chance.uniform(SHORTEST_S, LONGEST_S))
        for child in children:
            child.freeze()
        self._disk.cut()
        for child in children:
            child.kill()
        told = [child.told() for child in children]
        for child in children:
            child.close()
        self._disk.remount()
        found = [one for lines in told for one in self._read(lines)] + self._again(told) + self._look()
        self.came_to.cuts += 1
        self.came_to.moves = self._known.moves
        self.came_to.lost += found
        self._number += 1_000  # fresh numbers for the next round
        return found

    def _child(self, role: str) -> Forked:
        child = Forked(self._settings, self._disk, self._plant)
        child.answer()
        active = self._known.active
        known = {"old": str(self._old), "rollout": active.rollout if active else ""}
        arguments = {
            "role": role,
            "first": self._number,
            "seed": self._chance.randrange(10**6),
            "known": known,
        }
        child.tell("free", arguments)
        return child

    def _read(self, lines: Sequence[Answer]) -> list[str]:
        found: list[str] = []
        for line in lines:
            if "broke" in line:
                found.append(str(line["broke"]))
            if "asked" in line and line["asked"][0] == "evidence":
                self._known.may_be(line["asked"][1]["number"], line["asked"][1]["value"])
            if "answered" in line:
                found += self._note(line["answered"], line["answer"])
        return found

    def _note(self, request: Any, answer: Answer) -> list[str]:
        name, arguments = request
        if "refused" not in answer:
            self.came_to.acknowledged += 1
        if name == "migrate" and "refused" not in answer:
            self._migrated.add(answer["new"])
        return self._known.note(name, arguments, answer)

    def _again(self, told: Sequence[Sequence[Answer]]) -> list[str]:
        """What was under way, or refused because the disk was gone, is asked once more: then its outcome is known."""
        found: list[str] = []
        child = Forked(self._settings, self._disk, self._plant)
        try:
            if "ready" not in (ready := child.answer()):
                return [f"a process cannot start: {ready}"]
            for lines in told:
                for request in _open(lines):
                    name, arguments = request
                    answer = migrated(**arguments) if name == "migrate" else child.ask(name, arguments)
                    found += self._note(request, answer)
        except (VouchError, OSError) as error:
            found.append(f"what was under way cannot be repeated: {error}")
        finally:
            child.close()
        return found

    def _look(self) -> list[str]:
        found = self._known.violations(self._settings)
        for new in sorted(self._migrated):
            found += _of_migrated(Path(new))
        self._migrated.clear()
        for path in self._old.parent.glob("old.db.*"):
            path.unlink()
        return found


def _open(lines: Sequence[Answer]) -> list[Any]:
    """The requests that were asked and not answered, or refused; a retry of a refused one must not harm."""
    asked = [line["asked"] for line in lines if "asked" in line]
    good = [line["answered"] for line in lines if "answered" in line and "refused" not in line["answer"]]
    first = next((position for position, one in enumerate(asked) if one not in good), len(asked))
    return asked[first : first + 1]


def old_catalog(path: Path) -> None:
    """A catalog of the first form with some rows."""
    database = Database(f"sqlite:///{path}")
    migrate(database, "0001")
    with database.write() as connection:
        for number in range(OLD_ROWS):
            connection.exec_driver_sql(
                "INSERT INTO serving (slot, champion, candidate, percent, previous, revision, updated_at) "
                "VALUES (?, 'a', '', 0, '', ?, 0)",
                (f"slot-{number}", number),
            )
    database.close()
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA journal_mode=DELETE")  # one file, to be copied


def _of_migrated(path: Path) -> list[str]:
    try:
        with Catalog(f"sqlite:///{path}") as catalog:
            rows = {one.slot: one.revision for one in catalog.serving.list()}
    except VouchError as error:
        return [f"a migrated catalog cannot be opened: {error.message}"]
    if rows != {f"slot-{number}": number for number in range(OLD_ROWS)}:
        return [f"a migrated catalog has {len(rows)} of {OLD_ROWS} rows"]
    return []


def cuts(number: int, seed: int = 0, plant: Plant | None = None, until_lost: bool = False) -> Roaming:
    """So many power cuts; `until_lost` ends with the first that lost something. A state lives through `EACH` of them,
    then another begins: what is compared after each cut would grow without end."""
    came_to = Roaming()
    while came_to.cuts < number and not (until_lost and came_to.lost):
        with mounted() as disk:
            rounds = CutRounds(disk, seed + came_to.cuts, plant)
            for _ in range(min(EACH, number - came_to.cuts)):
                if rounds.cut() and until_lost:
                    break
        came_to = came_to.plus(rounds.came_to)
        print(
            f"{came_to.cuts} cuts, {came_to.acknowledged} acknowledged, {len(came_to.lost)} lost", flush=True
        )
    return came_to


def everything_unsynced() -> None:
    """The planted fault of this part: nothing is flushed."""
    no_fsync()
    catalog_unsynced()


def measure(report: Report, number: int, seed: int = 0) -> None:
    """`power_cut_losses` over so many cuts, and how many cuts a system without fsync survives."""
    reason = why_not()
    if reason:
        print(f"power cuts are left out: {reason}")
        report.add("power_cut_losses", Figure(None, unit=f"not measured: {reason}", must="<= 0", aim="<= 0"))
        return
    came_to = cuts(number, seed)
    mutant = cuts(number, seed, plant=everything_unsynced, until_lost=True)
    for one in came_to.lost[:20]:
        print(one)
    unit = f"of {came_to.acknowledged} acknowledged, {came_to.cuts} cuts, {came_to.moves} moves"
    report.add("power_cut_losses", Figure(len(came_to.lost), unit=unit, must="<= 0", aim="<= 0"))
    found = f"cuts until a system without fsync loses data ({(mutant.lost or ['never'])[0][:60]})"
    report.add("cuts_until_mutant_loses", Figure(mutant.cuts if mutant.lost else None, unit=found))
    if not mutant.lost:
        raise RuntimeError("a system without fsync lost nothing: these power cuts prove nothing")
