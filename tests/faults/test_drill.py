"""A drill begins on a sound disk, and knows a process that dies from one that hangs."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from benchmarks.faults.disk import LoopDisk
from benchmarks.faults.drill import Drill, make_template
from benchmarks.faults.process import Ended, Forked
from benchmarks.faults.schedule import Turn
from vouch.settings import Settings

DYING_S = 0.3
ASKED = [Turn("a", "image"), Turn("b", "rate")]


def dies_slowly() -> None:
    """Closes every file first, as a process that ends does, and is gone a while later."""
    os.closerange(3, 256)
    signal.setitimer(signal.ITIMER_REAL, DYING_S)
    signal.pause()


def test_a_process_that_takes_its_time_to_die_has_ended_and_does_not_hang(tmp_path: Path) -> None:
    child = Forked(Settings(state=tmp_path), None, plant=dies_slowly)
    try:
        with pytest.raises(Ended):
            child.answer()
    finally:
        child.close()


@pytest.mark.slow
def test_a_drill_goes_on_where_another_ended_with_the_power_cut(disk: LoopDisk, tmp_path: Path) -> None:
    template, place = make_template(tmp_path / "template"), disk.root / "state"
    shutil.copytree(template, place)
    disk.cut()
    assert Drill(template, place, disk).run(ASKED) == ""
