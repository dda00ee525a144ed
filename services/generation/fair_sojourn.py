"""Fair scheduling (FSP): short requests finish before long ones, and none finishes later than under equal sharing.

The fair sojourn protocol (Friedman and Henderson, "Fairness and efficiency in web server protocols", SIGMETRICS 2003)
simulates processor sharing: every client has an equal share of a virtual processor, and each request an equal share of
its client's. The real engine serves requests in the order in which they finish in the simulation. No request starves,
nothing is tuned, and a client that sends more requests delays only its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

NEGLIGIBLE_ROWS = 1e-6


@dataclass(eq=False)
class VirtualJob:
    """A request under processor sharing: its remaining rows, and its rank among the jobs that have finished there."""

    client: str
    remaining_rows: float
    finish_rank: float = math.inf


class FairSojournScheduler:
    """The virtual processor. A row is one evaluation of the network for one image. Not thread-safe."""

    def __init__(self) -> None:
        self._jobs: dict[str, list[VirtualJob]] = {}  # by client
        self._finished = 0

    @property
    def remaining_rows(self) -> float:
        """Rows that the virtual processor still has to compute."""
        return sum(job.remaining_rows for job in self._all())

    def add(self, client: str, rows: float) -> VirtualJob:
        """Start a virtual job of so many rows."""
        job = VirtualJob(client, rows)
        self._jobs.setdefault(client, []).append(job)
        return job

    def add_finished(self, client: str) -> VirtualJob:
        """A job that has finished on the virtual processor already: it ranks before all that have not."""
        job = VirtualJob(client, 0.0)
        self._rank(job)
        return job

    def remove(self, job: VirtualJob) -> None:
        """Drop a cancelled job; its remaining rows are never computed. A second call does nothing."""
        if job in (jobs := self._jobs.get(job.client, [])):
            jobs.remove(job)
            self._drop_idle_clients()

    def advance(self, rows: float) -> None:
        """Share out the rows that the real engine has computed."""
        while rows > NEGLIGIBLE_ROWS and self._jobs:
            spent = min(rows, min(map(self._rows_until_finish, self._all())))
            for job in self._all():
                job.remaining_rows -= spent * self._share(job)
            rows -= spent
            self._finish_jobs()

    def finish_times(self) -> dict[VirtualJob, float]:
        """When each unfinished job will finish, in rows of its own client's share of the processor."""
        times: dict[VirtualJob, float] = {}
        for jobs in self._jobs.values():
            shorter_rows = 0.0
            for number, job in enumerate(sorted(jobs, key=lambda job: job.remaining_rows)):
                times[job] = shorter_rows + job.remaining_rows * (len(jobs) - number)
                shorter_rows += job.remaining_rows
        return times

    @property
    def clients(self) -> int:
        """Clients that share the processor now."""
        return len(self._jobs)

    def _all(self) -> Iterator[VirtualJob]:
        return (job for jobs in self._jobs.values() for job in jobs)

    def _share(self, job: VirtualJob) -> float:
        return 1 / len(self._jobs) / len(self._jobs[job.client])

    def _rows_until_finish(self, job: VirtualJob) -> float:
        return job.remaining_rows / self._share(job)

    def _finish_jobs(self) -> None:
        for client, jobs in self._jobs.items():
            for job in jobs:
                if job.remaining_rows <= NEGLIGIBLE_ROWS:
                    self._rank(job)
            self._jobs[client] = [job for job in jobs if job.remaining_rows]
        self._drop_idle_clients()

    def _rank(self, finished: VirtualJob) -> None:
        finished.remaining_rows, finished.finish_rank = 0.0, self._finished
        self._finished += 1

    def _drop_idle_clients(self) -> None:
        self._jobs = {client: jobs for client, jobs in self._jobs.items() if jobs}
