"""The search: schedules of seeds one after the other, until one shows a violation, which is then made as short as it
can be."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.disk import LoopDisk, mounted, why_not
from benchmarks.faults.drill import Drill, Plant, make_template
from benchmarks.faults.planted import PLANTED
from benchmarks.faults.schedule import Turn, draw
from benchmarks.report import Figure, Report

MOST_RUNS = 30
"""Runs of a schedule while it is made shorter."""


@dataclass(frozen=True)
class Failure:
    """seed: whose schedule failed. turns: the shortest part of it that still fails."""

    seed: int
    what: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Place:
    """Where schedules run. disk: None where no power can be cut."""

    template: Path
    state: Path
    disk: LoopDisk | None

    def run(self, turns: Sequence[Turn], plant: Plant | None = None) -> str:
        return Drill(self.template, self.state, self.disk, plant).run(turns)

    def search(
        self, seeds: Sequence[int], plant: Plant | None = None, shorten: bool = True
    ) -> Failure | None:
        """The first failing seed of these; None when none fails."""
        for seed in seeds:
            turns = draw(seed, powered=self.disk is not None)
            what = self.run(turns, plant)
            if what:
                short = self._shortened(turns, plant) if shorten else turns
                return Failure(seed, what, tuple(short))
        return None

    def _shortened(self, turns: list[Turn], plant: Plant | None) -> list[Turn]:
        """Leave out halves, quarters and at last single turns, as long as it still fails."""
        size, left = max(1, len(turns) // 2), MOST_RUNS
        while size:
            start = 0
            while start < len(turns) and left:
                fewer = turns[:start] + turns[start + size :]
                left -= 1
                if self.run(fewer, plant):
                    turns = fewer
                else:
                    start += size
            size //= 2
        return turns


@contextmanager
def place() -> Iterator[Place]:
    """On a disk whose power can be cut where there can be one."""
    with tempfile.TemporaryDirectory(prefix="vouch-drill-") as folder:
        template = make_template(Path(folder) / "template")
        if why_not():
            yield Place(template, Path(folder) / "state", None)
            return
        with mounted() as disk:
            yield Place(template, disk.root / "state", disk)


def measure_alarms(report: Report, schedules: int) -> None:
    """Alarms without a planted fault: each would be a fault of the product."""
    alarms = 0
    with place() as here:
        powered = _powered(here)
        for seed in range(schedules):
            failure = here.search([seed])
            if failure is not None:
                alarms += 1
                _show("nothing planted", failure)
            if seed % 20 == 19:
                print(f"{seed + 1} schedules, {alarms} alarms", flush=True)
    unit = f"of {schedules} schedules{powered}"
    report.add("false_alarms", Figure(alarms, unit=unit, must="<= 0", aim="<= 0"))


def measure_mutants(report: Report, schedules: int) -> None:
    """`mutants_found` within so many schedules each."""
    found, latest = 0, 0
    with place() as here:
        powered = _powered(here)
        for name, plant in PLANTED.items():
            failure = here.search(range(schedules), plant)
            found += failure is not None
            latest = max(latest, failure.seed + 1 if failure else schedules)
            _show(name, failure)
    unit = f"of {len(PLANTED)} planted, within {schedules} schedules{powered}"
    report.add("mutants_found", Figure(found, unit=unit, must=">= 10", aim=">= 10"))
    report.add("schedules_until_found_max", Figure(latest, unit="schedules"))


def _powered(here: Place) -> str:
    return "" if here.disk else f" (no power cuts here: {why_not()})"


def _show(name: str, failure: Failure | None) -> None:
    if failure is None:
        print(f"{name}: not found", flush=True)
        return
    turns = "; ".join(map(str, failure.turns))
    print(f"{name}: seed {failure.seed}: {failure.what}\n    {turns}", flush=True)
