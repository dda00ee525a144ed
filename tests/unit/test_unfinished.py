"""A start removes what killed processes left half-written, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vouch.storage.blobs import BlobStore
from vouch.storage.state import StateFolder
from vouch.storage.unfinished import OLD_S, remove_unfinished

LEFT = [
    "blobs-outbox/ab/.cdef.0f.tmp",
    ".access.json.0f.tmp", "models/.new-0f/unet/weights.safetensors", "models/.a.evidence.json.0f.tmp",
    "blobs/ab/.cdef.0f.tmp", "runs/align-1/adapter/.writing-x/tensors.safetensors", "runs/align-1/features.tmp",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state").create()


def leave(folder: StateFolder, name: str, age_s: float) -> Path:
    path = folder.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    moment = time.time() - age_s
    for one in (path, *path.parents):
        if one == folder.root:
            break
        os.utime(one, (moment, moment))
    return path


@pytest.mark.parametrize("name", LEFT)
def test_what_is_old_and_half_written_is_removed(folder: StateFolder, name: str) -> None:
    path = leave(folder, name, 2 * OLD_S)
    assert len(remove_unfinished(folder)) == 1
    assert not path.exists()


@pytest.mark.parametrize("name", LEFT)
def test_what_may_be_written_just_now_stays(folder: StateFolder, name: str) -> None:
    path = leave(folder, name, 10)
    assert remove_unfinished(folder) == []
    assert path.exists()


def test_a_folder_in_which_one_file_is_young_stays(folder: StateFolder) -> None:
    leave(folder, "models/.new-0f/a", 2 * OLD_S)
    leave(folder, "models/.new-0f/b", 10)
    assert remove_unfinished(folder) == []


def test_what_is_finished_or_another_s_stays(folder: StateFolder) -> None:
    digest = BlobStore(folder.blobs).put(b"image")
    others = [leave(folder, name, 2 * OLD_S) for name in ("notes.tmp", ".mine", "runs/align-1/log.txt")]
    elsewhere = leave(folder, "elsewhere/x", 2 * OLD_S)
    (folder.models / ".new-link").symlink_to(elsewhere.parent)
    assert remove_unfinished(folder) == []
    assert BlobStore(folder.blobs).get(digest) == b"image"
    assert all(path.exists() for path in (*others, elsewhere))
