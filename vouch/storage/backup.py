"""A backup: a folder with everything that a system knows, whole or not there, verified when it is made and when it is
restored.

    backup.json       what it holds, with the SHA-256 of every file below but the images; written last
    catalog.jsonl     every record, one consistent picture, the same form for SQLite and PostgreSQL
    blobs/            the images that the catalog names, each under its own SHA-256
    models/           the versions that the catalog names, each under the digest of its manifest
    access.json       the default tokens; other tokens are in the catalog, as hashes
    mlflow.db         the curves of training

Checkpoints of runs are no part of it: a run that had not ended begins anew from what it had frozen.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vouch.errors import AlreadyExists, DataLoss, FailedPrecondition, InvalidInput, NotFound
from vouch.settings import Settings
from vouch.storage.archive import VersionArchive
from vouch.storage.atomic import storage_errors, sync, write_whole
from vouch.storage.audit_head import note_head
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.catalog.rows import CatalogRows
from vouch.storage.catalog.tokens import ADMINISTRATOR
from vouch.storage.outbox import file_all
from vouch.storage.registry import Registry, read_manifest
from vouch.storage.state import OWN
from vouch.types.clock import now
from vouch.types.version import FileEntry

FORMAT = 1
MANIFEST_NAME, CATALOG_NAME, MLFLOW_NAME, ACCESS_NAME = (
    "backup.json",
    "catalog.jsonl",
    "mlflow.db",
    "access.json",
)
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Backup:
    """What a backup says of itself. Its digest is the SHA-256 of `backup.json`."""

    digest: str
    created_at: str
    form: str  # of the catalog's tables
    records: int
    images: tuple[str, ...]  # digests
    versions: tuple[str, ...]  # digests
    files: dict[str, FileEntry]
    left_out: tuple[str, ...] = ()  # what was damaged when the backup was made, in words


def make_backup(settings: Settings, target: Path, *, leave_out_damaged: bool = False) -> Backup:
    """Copy a system's state into the new folder `target`. The system may run: records are those of one moment.

    Raises:
        AlreadyExists: `target` holds something.
        DataLoss: an image or a version is damaged or missing, and `leave_out_damaged` is not set.
        StorageFull, FailedPrecondition: `target` cannot be written. A backup that was cut off has no backup.json.
    """
    _begin(target)
    with Catalog(settings.resolved_catalog_url) as catalog:
        file_all(settings, catalog)
        catalog.audit.append(ADMINISTRATOR, "backup", str(target), {})
        note_head(settings.folder, catalog.audit)
    with storage_errors(str(target)):
        form, records, images, versions = _copy_catalog(settings, target / CATALOG_NAME)
        with Catalog(settings.resolved_catalog_url) as catalog:
            copier = _Copier(settings, catalog, target, leave_out_damaged)
            kept_images = tuple(digest for digest in images if copier.image(digest))
            kept_versions = tuple(digest for digest in versions if copier.version(digest))
        _copy_access(settings, target)
        _copy_mlflow(settings, target)
        return _finish(
            target,
            created_at=now().isoformat(),
            form=form,
            records=records,
            images=kept_images,
            versions=kept_versions,
            left_out=tuple(copier.left_out),
        )


def read_backup(folder: Path) -> Backup:
    """What a backup says of itself, with every file, image and version in it verified.

    Raises:
        NotFound: no backup, or one that was cut off.
        DataLoss: names the file, image or version that changed or is missing.
        FailedPrecondition: a newer vouch made it.
    """
    try:
        text = (folder / MANIFEST_NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"{folder} is no whole backup: it has no {MANIFEST_NAME}, which is written last. Make it again.",
            "NO_BACKUP",
        ) from error
    backup = _parsed(folder, text)
    for name, entry in backup.files.items():
        if _entry(folder / name) != entry:
            raise DataLoss(f"The backup {folder} is damaged: {name} is not what was written.")
    _verify_images(folder, backup)
    _verify_versions(folder, backup)
    return backup


def restore(settings: Settings, source: Path) -> Backup:
    """Bring a backup into an empty system: images and versions first, then the records, in one transaction.

    Raises:
        NotFound, DataLoss: as `read_backup`, before anything is written.
        FailedPrecondition: the system holds something (NOT_EMPTY), or runs (STATE_IN_USE).
    """
    backup = read_backup(source)
    check_empty(settings)
    with settings.folder.lock():
        _restore_images(settings, source, backup)
        _restore_versions(settings, source, backup)
        with open(source / CATALOG_NAME, encoding="utf-8") as lines:
            CatalogRows(settings.resolved_catalog_url).load(backup.form, lines)
        with Catalog(settings.resolved_catalog_url) as catalog:
            summary = {"created_at": backup.created_at, "records": backup.records}
            catalog.audit.append(ADMINISTRATOR, "restore", backup.digest, summary)
        for name in (MLFLOW_NAME, ACCESS_NAME):  # tokens last: who finds them finds everything
            if name in backup.files:
                write_whole(settings.folder.root / name, (source / name).read_bytes(), mode=0o600)
    return backup


def check_empty(settings: Settings) -> None:
    """Raises FailedPrecondition (NOT_EMPTY) where a system has kept something already."""
    folder = settings.folder
    if settings.catalog_url and CatalogRows(settings.resolved_catalog_url).count():
        raise FailedPrecondition(
            "The catalog holds records already, and nothing is restored over them: name an empty database.",
            "NOT_EMPTY",
        )
    present = (path for pattern in OWN for path in folder.root.glob(pattern) if path.name != "lock")
    held = next((path for path in present if not path.is_dir() or any(path.iterdir())), None)
    if held is not None:
        raise FailedPrecondition(
            f"{held} is there already, and nothing is restored over it: name a state folder that does not exist yet "
            "with --state.",
            "NOT_EMPTY",
        )


def _begin(target: Path) -> None:
    with storage_errors(str(target)):
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise AlreadyExists(f"{target} holds something already: name a new folder for the backup.")
        target.chmod(0o700)  # images and tokens of patients lie in it


def _copy_catalog(settings: Settings, path: Path) -> tuple[str, int, list[str], list[str]]:
    """(form, number of records, digests of images, digests of versions)."""
    rows = CatalogRows(settings.resolved_catalog_url)
    named: dict[str, list[str]] = {"images": [], "versions": []}
    records = 0
    with rows.snapshot() as lines, open(path, "x", encoding="utf-8") as file:
        for line in lines:
            file.write(line)
            records += 1
            name, values = json.loads(line)
            if name in named:
                named[name].append(values["digest"])
    return rows.form, records, named["images"], named["versions"]


class _Copier:
    """Copies what the catalog names, each thing verified on its way."""

    def __init__(self, settings: Settings, catalog: Catalog, target: Path, leave_out_damaged: bool) -> None:
        self._blobs, self._copies = BlobStore(settings.resolved_blobs_url), BlobStore(target / "blobs")
        self._registry = Registry(catalog, settings.folder.models, settings.models_url)
        self._target, self._leave_out = target, leave_out_damaged
        self.left_out: list[str] = []

    def image(self, digest: str) -> bool:
        with self._noted(f"image {digest}"):
            self._copies.put(self._blobs.get(digest))
            return True
        return False  # noted

    def version(self, digest: str) -> bool:
        """The version's folder, and what its evaluation found."""
        with self._noted(f"version {digest}"):
            copy = self._target / "models" / digest
            _copy_synced(self._registry.open(digest), copy)
            evidence = self._registry.evidence(digest)
            if evidence:
                text = json.dumps(evidence, sort_keys=True, ensure_ascii=False, indent=1)
                write_whole(copy.with_name(f"{digest}.evidence.json"), text.encode())
            return True
        return False  # noted

    @contextlib.contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        try:
            yield
        except (DataLoss, NotFound) as error:
            if not self._leave_out:
                raise DataLoss(
                    f"{error.message} The backup was stopped: --leave-out-damaged makes one without what is damaged."
                ) from error
            self.left_out.append(f"{what}: {error.message}")


def _copy_access(settings: Settings, target: Path) -> None:
    if settings.folder.access.is_file():
        write_whole(target / ACCESS_NAME, settings.folder.access.read_bytes(), mode=0o600)


def _copy_mlflow(settings: Settings, target: Path) -> None:
    """By SQLite's own online backup: a training may be writing."""
    source = settings.folder.root / MLFLOW_NAME
    if not source.is_file():
        return
    with (
        contextlib.closing(sqlite3.connect(source)) as reader,
        contextlib.closing(sqlite3.connect(target / MLFLOW_NAME)) as writer,
    ):
        reader.backup(writer)


def _finish(target: Path, **values: Any) -> Backup:
    """Make everything durable, then the manifest: whoever finds it finds the rest."""
    files = {}
    for path in sorted(target.rglob("*")):
        if path.is_file() and path.relative_to(target).parts[0] not in ("blobs", "models"):
            path.chmod(0o600)
            sync(path)
        if path.is_file() and path.relative_to(target).parts[0] != "blobs":
            files[path.relative_to(target).as_posix()] = _required(path)
        if path.is_dir():
            sync(path)
    manifest = {"format": FORMAT, **values, "files": {name: asdict(entry) for name, entry in files.items()}}
    text = json.dumps(manifest, indent=1, sort_keys=True).encode()
    write_whole(target / MANIFEST_NAME, text, mode=0o600)
    return _parsed(target, text)


def _parsed(folder: Path, text: bytes) -> Backup:
    try:
        values = json.loads(text)
        made_by = values.pop("format")
        if made_by > FORMAT:
            raise FailedPrecondition(
                f"The backup {folder} was made by a newer vouch (format {made_by}). Update vouch.",
                "BACKUP_TOO_NEW",
            )
        values["files"] = {str(name): FileEntry(**entry) for name, entry in values["files"].items()}
        for name in ("images", "versions", "left_out"):
            values[name] = tuple(values[name])
        _check_names(folder, values["files"])
        return Backup(digest=hashlib.sha256(text).hexdigest(), **values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataLoss(f"The backup {folder} is damaged: {MANIFEST_NAME} cannot be read.") from error


def _check_names(folder: Path, files: dict[str, FileEntry]) -> None:
    for name in files:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise InvalidInput(f"The backup {folder} names {name[:80]!r}, which is not inside it.")


def _entry(path: Path) -> FileEntry | None:
    """None where there is no such file."""
    hashed, size = hashlib.sha256(), 0
    try:
        with open(path, "rb", opener=_unfollowed) as file:
            while chunk := file.read(_CHUNK):
                hashed.update(chunk)
                size += len(chunk)
    except OSError:
        return None
    return FileEntry(sha256=hashed.hexdigest(), bytes=size)


def _required(path: Path) -> FileEntry:
    entry = _entry(path)
    if entry is None:
        raise DataLoss(f"{path} was written and cannot be read again: is the disk sound?")
    return entry


def _unfollowed(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def _verify_images(folder: Path, backup: Backup) -> None:
    copies = BlobStore(folder / "blobs")
    for digest in backup.images:
        try:
            copies.get(digest)
        except NotFound as error:
            raise DataLoss(f"The backup {folder} is damaged: image {digest} is missing.") from error


def _verify_versions(folder: Path, backup: Backup) -> None:
    """Their files are verified already; each folder is the version that its name says."""
    for digest in backup.versions:
        if read_manifest(folder / "models" / digest).digest != digest:
            raise DataLoss(f"The backup {folder} is damaged: version {digest} is another one.")


def _restore_images(settings: Settings, source: Path, backup: Backup) -> None:
    copies, blobs = BlobStore(source / "blobs"), BlobStore(settings.resolved_blobs_url)
    for digest in backup.images:
        blobs.put(copies.get(digest))


def _restore_versions(settings: Settings, source: Path, backup: Backup) -> None:
    archive = VersionArchive(settings.models_url) if settings.models_url else None
    for digest in backup.versions:
        folder, evidence = source / "models" / digest, source / "models" / f"{digest}.evidence.json"
        if archive is not None:
            archive.put(folder, digest)
        else:
            _install(folder, settings.folder.models / digest)
        if evidence.is_file() and archive is not None:
            archive.write(evidence.name, evidence.read_bytes())
        elif evidence.is_file():
            write_whole(settings.folder.models / evidence.name, evidence.read_bytes())


def _install(folder: Path, target: Path) -> None:
    """A copy that appears whole under its name."""
    staged = target.with_name(f".new-{uuid.uuid4().hex}")
    try:
        _copy_synced(folder, staged)
        os.rename(staged, target)
        sync(target.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _copy_synced(folder: Path, target: Path) -> None:
    shutil.copytree(folder, target)
    for path in (target, *target.rglob("*")):
        sync(path)
