"""Removes half-written files of killed processes from the state folder, at the next start and by `vouch gc`."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from vouch.storage.state import StateFolder

OLD_S = 3600.0
"""Seconds without a change after which nobody writes any more: a command beside the system may publish just now."""


def find_unfinished(folder: StateFolder, before: float) -> list[Path]:
    """Half-written files and folders in which nothing changed since `before` (of time.time()).

    Only names that vouch gives to what is not finished, only this user's, and no links.
    """
    return [path for path in _unfinished(folder) if _ours_and_old(path, before)]


def remove_unfinished(folder: StateFolder, older_than_s: float = OLD_S) -> list[Path]:
    """Remove what `find_unfinished` finds of that age, and return the paths."""
    return [path for path in find_unfinished(folder, time.time() - older_than_s) if _removed(path)]


def _unfinished(folder: StateFolder) -> Iterator[Path]:
    yield from folder.root.glob(".*.tmp")
    yield from folder.models.glob(".new-*")
    yield from folder.models.glob(".*.tmp")
    for store in (folder.blobs, folder.outbox):
        yield from store.glob("[0-9a-f][0-9a-f]/.*.tmp")
    yield from folder.runs.glob("**/.writing-*")
    yield from folder.runs.glob("**/*.tmp")


def _ours_and_old(path: Path, before: float) -> bool:
    with contextlib.suppress(OSError):
        status = path.lstat()
        return status.st_uid == os.getuid() and not path.is_symlink() and _changed_at(path) < before
    return False


def _changed_at(path: Path) -> float:
    """The latest modification time of its files."""
    inside = path.rglob("*") if path.is_dir() else ()
    return max((one.lstat().st_mtime for one in (path, *inside)), default=0.0)


def _removed(path: Path) -> bool:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
    return not path.exists()
