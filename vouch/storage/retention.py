"""What a state folder holds that nobody needs any more: found first, removed only when asked.

Ratings, rated images, images that a lineage names, and model versions are never among it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

from vouch.settings import RetentionSettings, Settings
from vouch.storage.catalog import Catalog
from vouch.storage.catalog.tokens import ADMINISTRATOR
from vouch.storage.objects import LOCAL, object_path
from vouch.storage.outbox import file_all
from vouch.storage.unfinished import find_unfinished
from vouch.types.clock import now
from vouch.types.page import every
from vouch.types.run import Run

GarbageKind = Literal[
    "blob", "image", "version folder", "checkpoint", "run folder", "log", "metrics file", "unfinished"
]
_REST, _FOLDER = re.compile(r"[0-9a-f]{62}"), re.compile(r"[0-9a-f]{64}")
_OPEN_LOG = re.compile(r"calls-(\d+)\.jsonl")  # of the process with this number, until it begins another
_ASIDE = ".gc-"
_HOUR_S, _DAY_S = 3600.0, 86400.0


@dataclass(frozen=True)
class Garbage:
    """One thing that may go. before: it was not touched since this time (of time.time())."""

    kind: GarbageKind
    path: Path
    bytes: int
    before: float
    digest: str = ""  # of an image


def find_garbage(settings: Settings, catalog: Catalog) -> list[Garbage]:
    """Everything that the policy `settings.retention` lets go. Removes nothing.

    Object stores are left alone: `vouch gc` looks at folders of this machine.
    """
    keep, moment = settings.retention, time.time()
    return [
        *_images(settings, catalog, keep),
        *_blobs(settings, catalog, moment - keep.unnamed_hours * _HOUR_S),
        *_version_folders(settings, catalog, moment - keep.unnamed_hours * _HOUR_S),
        *_of_runs(settings, catalog, keep, moment),
        *_logs(settings, moment - keep.logs_days * _DAY_S),
        *_metrics(settings, moment - keep.unnamed_hours * _HOUR_S),
        *_half_written(settings, moment - keep.unnamed_hours * _HOUR_S),
    ]


def remove_garbage(settings: Settings, catalog: Catalog, garbage: Iterable[Garbage]) -> list[Garbage]:
    """Remove what is garbage still; answers what went. An entry of the audit log, made before, says how much may go.

    Raises:
        FailedPrecondition: images are among it and the system runs (STATE_IN_USE): it could hand one out just now.
    """
    file_all(settings, catalog)  # so that their images are named before any goes
    garbage = list(garbage)
    images = [one for one in garbage if one.kind == "image"]
    others = [one for one in garbage if one.kind != "image"]
    with settings.folder.lock() if images else contextlib.nullcontext():
        if garbage:
            catalog.audit.append(ADMINISTRATOR, "gc", "", dict(totals(garbage)))
        gone = _forget(catalog, images)
    for one in others:
        if _remove_blob(one, catalog) if one.kind == "blob" else _remove(one):
            gone.append(one)
    return gone


def totals(garbage: Iterable[Garbage]) -> dict[str, dict[str, int]]:
    """{kind: {"count", "bytes"}}."""
    sums: dict[str, dict[str, int]] = {}
    for one in garbage:
        of_kind = sums.setdefault(one.kind, {"count": 0, "bytes": 0})
        of_kind["count"] += 1
        of_kind["bytes"] += one.bytes
    return sums


def _images(settings: Settings, catalog: Catalog, keep: RetentionSettings) -> Iterator[Garbage]:
    root = _local_blobs(settings)
    if keep.images_days is None or root is None:
        return
    before = now() - timedelta(days=keep.images_days)
    for digest, size in catalog.unused.find(before).items():
        yield Garbage("image", root / digest[:2] / digest[2:], size, before.timestamp(), digest)


def _blobs(settings: Settings, catalog: Catalog, before: float) -> Iterator[Garbage]:
    root = _local_blobs(settings)
    if root is None:
        return
    _put_back(root)
    present = {
        f"{path.parent.name}{path.name}": path
        for path in root.glob("[0-9a-f][0-9a-f]/*")
        if _REST.fullmatch(path.name) and _old(path, before)
    }
    for digest in present.keys() - catalog.unused.named(present):
        yield Garbage("blob", present[digest], _size(present[digest]), before, digest)


def _local_blobs(settings: Settings) -> Path | None:
    """None where blobs lie in an object store."""
    path = object_path(settings.resolved_blobs_url)
    return Path(path.path) if str(path.protocol) in LOCAL else None


def _version_folders(settings: Settings, catalog: Catalog, before: float) -> Iterator[Garbage]:
    """Folders that a publish left when it was killed before its entry; with an object store, copies that no version
    names."""
    folders = {path.name: path for path in settings.folder.models.glob("*") if _FOLDER.fullmatch(path.name)}
    known = catalog.versions.names_of(folders)
    for digest, path in folders.items():
        if digest not in known and path.is_dir() and _old(path, before):
            yield Garbage("version folder", path, _size(path), before)


def _of_runs(
    settings: Settings, catalog: Catalog, keep: RetentionSettings, moment: float
) -> Iterator[Garbage]:
    """Of runs that have ended. Their records stay, and so do the versions that they published."""
    runs = every(lambda token: catalog.runs.list(page_size=1000, page_token=token))
    for run in runs:
        folder = settings.folder.run(run.run_id)
        if _ended_before(run, moment - keep.runs_days * _DAY_S) and folder.is_dir():
            yield Garbage("run folder", folder, _size(folder), moment - keep.runs_days * _DAY_S)
        elif _ended_before(run, moment - keep.checkpoints_days * _DAY_S):
            for path in _checkpoints(folder):
                yield Garbage("checkpoint", path, _size(path), moment - keep.checkpoints_days * _DAY_S)


def _ended_before(run: Run, before: float) -> bool:
    ended = run.ended_at if run.ended else None
    return ended is not None and ended < datetime.fromtimestamp(before, timezone.utc)


def _checkpoints(folder: Path) -> list[Path]:
    paths = [path for pattern in ("**/step-[0-9]*", "**/.writing-*", "ray") for path in folder.glob(pattern)]
    return sorted(path for path in paths if path.is_dir() and not path.is_symlink())


def _logs(settings: Settings, before: float) -> Iterator[Garbage]:
    folder = settings.folder
    for path in (*folder.logs.glob("calls-*.jsonl*"), *(folder.root / "ray-logs").rglob("*")):
        if path.is_file() and _old(path, before) and not _is_open(path):
            yield Garbage("log", path, _size(path), before)


def _is_open(log: Path) -> bool:
    """Whether the log is that of a process that lives: it would write on into a file without a name."""
    name = _OPEN_LOG.fullmatch(log.name)
    if name is None:
        return False
    try:
        os.kill(int(name[1]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _half_written(settings: Settings, before: float) -> Iterator[Garbage]:
    """What killed processes left beside a system that runs for long. Those of runs go with them."""
    for path in find_unfinished(settings.folder, before):
        if not path.is_relative_to(settings.folder.runs):
            yield Garbage("unfinished", path, _size(path), before)


def _metrics(settings: Settings, before: float) -> Iterator[Garbage]:
    """Counters of processes that are gone; while the system runs they still count in its totals."""
    if settings.folder.is_held():
        return
    for path in settings.folder.metrics.glob("*.db"):
        if path.is_file() and _old(path, before):
            yield Garbage("metrics file", path, _size(path), before)


def _old(path: Path, before: float) -> bool:
    """Not touched since `before`, this user's own, and no link."""
    with contextlib.suppress(OSError):
        status = path.lstat()
        return status.st_mtime < before and status.st_uid == os.getuid() and not path.is_symlink()
    return False


def _size(path: Path) -> int:
    inside = path.rglob("*") if path.is_dir() else ()
    return sum(one.lstat().st_size for one in (path, *inside) if not one.is_dir())


def _remove_blob(one: Garbage, catalog: Catalog) -> bool:
    """A blob is put aside, looked at once more, and only then removed: whoever stores the same bytes meanwhile has
    either touched it before (then it goes back) or finds none and writes it anew."""
    aside = one.path.with_name(f"{_ASIDE}{one.path.name}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(one.path, aside)
        if not _old(aside, one.before) or catalog.unused.named([one.digest]):
            os.rename(aside, one.path)
            return False
        aside.unlink()
        return True
    return False


def _put_back(root: Path) -> None:
    """What a removal that was killed had put aside."""
    for aside in root.glob(f"[0-9a-f][0-9a-f]/{_ASIDE}*"):
        path = aside.with_name(aside.name.removeprefix(_ASIDE))
        if path.exists():
            aside.unlink(missing_ok=True)
        else:
            os.rename(aside, path)


def _forget(catalog: Catalog, images: Collection[Garbage]) -> list[Garbage]:
    """First the records, then the files. A file that stays is a blob that nothing names, found the next time."""
    forgotten = catalog.unused.forget([one.digest for one in images])
    gone = [one for one in images if one.digest in forgotten]
    for one in gone:
        with contextlib.suppress(OSError):
            one.path.unlink(missing_ok=True)
    return gone


def _remove(one: Garbage) -> bool:
    if one.path.is_dir():
        shutil.rmtree(one.path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            one.path.unlink(missing_ok=True)
    return not one.path.exists()
