"""A disk whose power can be cut: an ext4 of its own, on a loop device over a file in memory.

The cut is the ioctl that xfstests uses: the file system stops at once, and what was not flushed to the journal and the
disk is gone. SIGKILL is no power cut: the page cache survives it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, of XFS_IOC_GOINGDOWN
NO_LOG_FLUSH = 2
SIZE = 96 << 20
ROOM = 48 << 10
TOOLS = ("losetup", "mkfs.ext4", "mount", "umount")
# Nothing reaches the disk by itself: the journal is committed when something asks for it, and a rename flushes nothing.
OPTIONS = "commit=3000,noauto_da_alloc"


def why_not() -> str:
    """Why this machine cannot do it; "" when it can."""
    if os.geteuid() != 0:
        return "mounting a file system of one's own needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} is not installed"
    try:
        with mounted() as disk:
            disk.cut()
            disk.remount()
    except OSError as error:
        return f"a loop device cannot be mounted and cut here: {error}"
    return ""


class LoopDisk:
    """Mounted at `root`. Whoever has files open on it must end before `remount`."""

    def __init__(self, device: str, root: Path) -> None:
        self._device, self.root = device, root

    def cut(self) -> None:
        """Cut the power: every later call on this disk fails, and what was not synced is lost."""
        handle = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(handle)

    def sync(self) -> None:
        """Write everything to the disk."""
        _call("sync", "--file-system", str(self.root))

    def remount(self) -> None:
        """Start the machine again: the journal is replayed, and a full disk has room again."""
        _call("umount", str(self.root))
        _call("mount", "-o", OPTIONS, self._device, str(self.root))
        self._filler.unlink(missing_ok=True)

    @property
    def _filler(self) -> Path:
        return self.root / ".filler"

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Nothing can be written for the length of the block, as after an error of the disk."""
        _call("mount", "-o", "remount,ro", str(self.root))
        try:
            yield
        finally:
            _call("mount", "-o", "remount,rw", str(self.root))

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """For the length of the block, ROOM bytes are free: enough for a record, and for no image. Where nothing is
        free, the record fails too, and whoever forgot to ask whether the image was kept is never found."""
        handle = os.open(self._filler, os.O_WRONLY | os.O_CREAT)
        try:
            os.ftruncate(handle, max(0, _fill(handle) - ROOM))
            yield
        finally:
            os.close(handle)
            with contextlib.suppress(OSError):  # the power was cut meanwhile
                self._filler.unlink(missing_ok=True)


def _fill(handle: int) -> int:
    """Takes all that is free; how many bytes."""
    length, step = 0, SIZE
    while step >= 1024:
        try:
            os.posix_fallocate(handle, length, step)
            length += step
        except OSError:
            step //= 2
    return length


@contextlib.contextmanager
def mounted() -> Iterator[LoopDisk]:
    """A new empty disk. Raises OSError where there can be none."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="vouch-faults-", dir=memory if memory.is_dir() else None
    ) as folder:
        image, root = Path(folder) / "disk", Path(folder) / "root"
        root.mkdir()
        with open(image, "wb") as file:
            file.truncate(SIZE)
        device = _call("losetup", "--find", "--show", str(image)).strip()
        try:
            _call("mkfs.ext4", "-q", "-m", "0", "-b", "1024", device)
            _call("mount", "-o", OPTIONS, device, str(root))
            try:
                yield LoopDisk(device, root)
            finally:
                _call("umount", "--lazy", str(root))
        finally:
            _call("losetup", "--detach", device)


def _call(*command: str) -> str:
    """What it prints. Raises OSError with what it complains about."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
