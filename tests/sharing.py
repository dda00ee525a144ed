"""What it would be like if everybody shared the machine equally: the yardstick of fairness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    client: str
    arrives: int
    rows: int


def ends_side_by_side(jobs: Sequence[Job], per_step: int = 1, parts: int = 60) -> list[float]:
    """The step in which each job ends when clients share every step equally, and so the jobs of a client.

    By brute force, in parts of a step. per_step: rows that the machine computes in one.
    """
    left, ends, now = [float(job.rows) for job in jobs], [0.0] * len(jobs), 0
    while any(left):
        here = [number for number, job in enumerate(jobs) if left[number] and job.arrives * parts <= now]
        clients = [jobs[number].client for number in here]
        for number in here:
            share = per_step / len(set(clients)) / clients.count(jobs[number].client)
            left[number] -= share / parts
            if left[number] < 1e-9:
                left[number], ends[number] = 0.0, (now + 1) / parts
        now += 1
    return ends
