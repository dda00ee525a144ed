import stat
import subprocess
import sys

import pytest

from vouch.errors import FailedPrecondition
from vouch.storage.atomic import write_whole

# Files of at most 8 KiB: what a full disk does to a write, without filling one. Python ignores SIGXFSZ.
SMALL_FILES = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, b"old")
    write_whole(path, b"new", mode=0o600)

    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_write_that_does_not_fit_keeps_the_old_file_and_says_that_the_disk_is_full(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    script = f"""{SMALL_FILES}
from pathlib import Path
from vouch.storage.atomic import write_whole
from vouch.errors import StorageFull
try:
    write_whole(Path({str(path)!r}), bytes(100_000))
except StorageFull as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "disk is full" in done.stdout
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_a_folder_in_the_files_place_is_not_lost(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(FailedPrecondition, match="in the way"):
        write_whole(tmp_path / "a", b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
