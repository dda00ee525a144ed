"""A disk whose power can be cut, and a place for schedules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.faults import search
from benchmarks.faults.disk import LoopDisk, mounted, why_not


@pytest.fixture(scope="session")
def power() -> None:
    """Skips, with the reason, where no power can be cut."""
    reason = why_not()
    if reason:
        pytest.skip(f"no power cuts here: {reason}")


@pytest.fixture
def disk(power: None) -> Iterator[LoopDisk]:
    with mounted() as disk:
        yield disk


@pytest.fixture(scope="session")
def here(power: None) -> Iterator[search.Place]:
    with search.place() as place:
        yield place
