"""The power is cut while a system rates, publishes, swaps and migrates."""

from __future__ import annotations

import errno
import os

import pytest

from benchmarks.faults import power as cut_power
from benchmarks.faults.disk import LoopDisk
from vouch.errors import FailedPrecondition, StorageFull
from vouch.storage.atomic import write_whole

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_cut_keeps_what_was_synced_and_loses_the_rest(disk: LoopDisk) -> None:
    write_whole(disk.root / "synced", b"a" * 5_000)
    (disk.root / "unsynced").write_bytes(b"b" * 5_000)
    disk.cut()
    with pytest.raises(OSError) as refused:
        (disk.root / "late").write_bytes(b"c")
    assert refused.value.errno == errno.EIO
    disk.remount()
    assert (disk.root / "synced").read_bytes() == b"a" * 5_000
    assert not (disk.root / "unsynced").exists()
    assert not (disk.root / "late").exists()


def test_a_full_disk_refuses_a_file_and_takes_it_when_there_is_room(disk: LoopDisk) -> None:
    with disk.full(), pytest.raises(StorageFull, match="disk is full"):
        write_whole(disk.root / "file", b"a" * 50_000)
    assert os.listdir(disk.root) == ["lost+found"]
    write_whole(disk.root / "file", b"a" * 50_000)


def test_a_read_only_disk_refuses_a_file_and_takes_it_when_it_can_be_written(disk: LoopDisk) -> None:
    with (
        disk.read_only(),
        pytest.raises(FailedPrecondition, match="cannot be written: Read-only file system"),
    ):
        write_whole(disk.root / "file", b"a")
    write_whole(disk.root / "file", b"a")
    assert (disk.root / "file").read_bytes() == b"a"


def test_nothing_that_was_acknowledged_is_missing_half_or_double_after_power_cuts(power: None) -> None:
    came_to = cut_power.cuts(4, seed=1)
    assert came_to.lost == []
    assert came_to.acknowledged > 10


def test_a_system_without_fsync_loses_what_it_acknowledged(power: None) -> None:
    assert cut_power.cuts(10, seed=1, plant=cut_power.everything_unsynced, until_lost=True).lost
