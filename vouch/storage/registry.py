"""Model versions: immutable folders that appear whole, are verified before use, and know where they come from."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from vouch.errors import AlreadyExists, CorruptVersion, InvalidInput, NotFound, Unavailable
from vouch.storage.archive import MANIFEST, VersionArchive
from vouch.storage.atomic import storage_errors, sync, write_whole
from vouch.storage.catalog import Catalog
from vouch.storage.catalog.tokens import ADMINISTRATOR
from vouch.types.clock import now
from vouch.types.json_values import json_ready
from vouch.types.page import every
from vouch.types.version import VERSION_KINDS, FileEntry, Version, VersionKind

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LOOKS_LIKE_DIGEST = re.compile(r"[0-9a-f]{8,}")
_PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"})
_CHUNK = 1 << 20
_TRIES = 100  # to find a free number while others publish

VersionList = list[Version]


class Registry:
    """Publishes and opens versions under `models_dir`; the catalog is their index.

    With `models_url` versions lie in an object store, and `models_dir` holds this machine's copies of those it opened.

    Example:
        version = registry.publish(folder, kind="generator", format="lora", parent=parent.digest, lineage={...})
        weights = registry.open(version.digest) / "pytorch_lora_weights.safetensors"
    """

    def __init__(self, catalog: Catalog, models_dir: str | Path, models_url: str = "") -> None:
        """models_url: fsspec URL of the object store; "" keeps versions in `models_dir` alone."""
        self._catalog = catalog
        self._models = Path(models_dir).absolute()
        self._archive = VersionArchive(models_url) if models_url else None

    def publish(
        self,
        folder: str | Path,
        *,
        kind: VersionKind,
        format: str,
        name: str | None = None,
        label: str = "",
        parent: str = "",
        lineage: Mapping[str, Any] | None = None,
    ) -> Version:
        """Copy a folder into the registry as a new version. `folder` itself is left as it is.

        Without `name` the version is called `<kind>[-<label>]-<n>`. Publishing the same files again under the same
        name, or by the same run (`lineage["run_id"]`), gives the version that is already there.

        Raises:
            InvalidInput: no folder, an empty one, weights that are pickles, a link that leaves the folder, a name that
                is not one.
            NotFound: an unknown parent.
            AlreadyExists: another version has this name.
            StorageFull: no room; nothing was published.
        """
        _check_kind(kind)
        parent = self.get(parent).digest if parent else ""
        prefix = f"{kind}-{label}" if label else kind
        _check_name(name if name is not None else f"{prefix}-1")
        with self._staged(Path(folder)) as (staged, files):
            fixed = {
                "kind": kind,
                "format": format,
                "parent": parent,
                "lineage": json_ready(lineage or {}),
                "files": files,
            }
            known = self._known(name, fixed)
            return known or self._install(staged, fixed, name, prefix)

    def get(self, ref: str) -> Version:
        """By name, digest, or unique beginning of a digest (8 characters or more). "generator@5" is "generator-5".

        Raises NotFound, InvalidInput.
        """
        kind, pinned, number = ref.partition("@")
        return self._catalog.versions.get(f"{kind}-{number}" if pinned and number.isdecimal() else ref)

    def list(self, kind: VersionKind | None = None) -> VersionList:
        """Every version, newest first."""
        return list(every(lambda token: self._catalog.versions.list(kind, page_size=1000, page_token=token)))

    def digest(self, ref: str, kind: VersionKind | None = None) -> str:
        """The digest of a version that a caller names; "" where they name none.

        Raises NotFound, and InvalidInput where the version is not of this kind or the reference is ambiguous.
        """
        if not ref:
            return ""
        version = self.get(ref)
        if kind is not None and version.kind != kind:
            noun = "reward model" if kind == "reward" else kind
            raise InvalidInput(f"{version.name} is a {version.kind}, not a {noun}: name one of that kind.")
        return version.digest

    def folder(self, ref: str) -> Path:
        """Where a version's files are, unverified. Raises NotFound."""
        version = self.get(ref)
        self._copied(version)
        return self._models / version.digest

    def open(self, ref: str) -> Path:
        """The folder of a version, after every file's size and digest proved true.

        Raises:
            NotFound: no such version, or its folder is gone.
            CorruptVersion: names the first file that is missing, changed, or does not belong there.
        """
        version = self.get(ref)
        folder = self._models / version.digest
        if not self._copied(version):
            raise NotFound(
                f"The files of version {version.name} are gone ({folder}). Restore the folder from a backup.",
                "VERSION_FILES_MISSING",
            )
        _verify(folder, version)
        return folder

    def _copied(self, version: Version) -> bool:
        """Whether a version's folder is on this machine, copied from the archive where it has to be."""
        folder = self._models / version.digest
        if folder.is_dir() or self._archive is None:
            return folder.is_dir()
        copy = self._models / f".new-{uuid.uuid4().hex}"
        try:
            with storage_errors(f"version {version.name}"):
                copy.mkdir(parents=True)
                fetched = self._archive.fetch(version.digest, version.files, copy)
            if fetched:
                _verify(copy, version)  # what is damaged in the archive never becomes this machine's copy
                _renamed(copy, folder)
            return fetched
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def attach_evidence(self, ref: str, evidence: Mapping[str, Any], *, by: str = ADMINISTRATOR) -> None:
        """Keep what an evaluation found of a version beside its files, which stay as they are. The last one counts.

        An entry of the audit log, made before, names the evidence by its SHA-256.

        Raises:
            NotFound: no such version.
            StorageFull: no room; what was there stays.
        """
        text = json.dumps(json_ready(evidence), sort_keys=True, ensure_ascii=False, indent=1)
        version = self.get(ref)
        digest = hashlib.sha256(text.encode()).hexdigest()
        self._catalog.audit.append(by, "evidence attach", version.name, {"sha256": digest})
        path = self._evidence(version)
        if self._archive is not None:
            self._archive.write(path.name, text.encode())
        else:
            write_whole(path, text.encode())

    def evidence(self, ref: str) -> dict[str, Any]:
        """What the last evaluation of a version found; empty before the first.

        Raises:
            NotFound: no such version.
            CorruptVersion: it cannot be read.
        """
        path = self._evidence(self.get(ref))
        try:
            return dict(json.loads(self._read(path) or "{}"))
        except (OSError, ValueError, TypeError) as error:
            raise CorruptVersion(f"{path} is damaged: run `vouch evaluate` again.") from error

    def _read(self, path: Path) -> str:
        if self._archive is not None:
            return (self._archive.read(path.name) or b"").decode()
        return path.read_text("utf-8") if path.is_file() else ""

    def _evidence(self, version: Version) -> Path:
        return self._models / f"{version.digest}.evidence.json"

    def lineage(self, ref: str) -> VersionList:
        """The version, its parent, and so on to the root."""
        chain = [self.get(ref)]
        while chain[-1].parent:
            chain.append(self.get(chain[-1].parent))
        return chain

    def base_of(self, ref: str) -> Version:
        """The whole model that a generator version is or adapts. Between the two there may be other adapters, which it
        replaces.

        Raises:
            NotFound: no such version, or none of its lineage is a whole model.
            InvalidInput: it is no generator.
        """
        lineage = self.lineage(self.digest(ref, "generator"))
        for version in lineage:
            if version.format != "lora":
                return version
        raise NotFound(f"The model that {lineage[0].name} adapts is not in the registry.", "UNKNOWN_VERSION")

    @contextmanager
    def _staged(self, source: Path) -> Iterator[tuple[Path, dict[str, FileEntry]]]:
        """A private copy of `source` beside the other versions, removed unless it was renamed away."""
        if not source.is_dir():
            raise InvalidInput(f"{source} is not a folder: a version is published from a folder of files.")
        staged = self._models / f".new-{uuid.uuid4().hex}"
        try:
            with storage_errors(f"version from {source}"):
                staged.mkdir(parents=True)
                yield staged, _copy(source, staged)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _known(self, name: str | None, fixed: Mapping[str, Any]) -> Version | None:
        run_id = str(fixed["lineage"].get("run_id") or "")
        named = self._catalog.versions.find(name) if name else None
        if named is not None and named.name == name:
            if _same(named, fixed):
                return named
            raise AlreadyExists(f"There is already another version called {name}: choose another name.")
        if name is None and run_id:
            return next(
                (version for version in self._catalog.versions.of_run(run_id) if _same(version, fixed)), None
            )
        return None

    def _install(self, staged: Path, fixed: Mapping[str, Any], name: str | None, prefix: str) -> Version:
        for _ in range(_TRIES):
            version = _version({**fixed, "name": name or self._free_name(prefix), "created_at": now()})
            target = self._models / version.digest
            write_whole(staged / MANIFEST, canonical(version))
            for path in (staged, *staged.rglob("*")):
                if path.is_dir():
                    sync(path)
            owned = self._archive is not None and self._archive.put(staged, version.digest)
            if self._indexed(version, target, staged):
                return version
            if self._archive is not None and owned:
                self._archive.remove(version.digest)
            if name is not None:  # another process took it in between
                raise AlreadyExists(f"There is already another version called {name}: choose another name.")
        raise Unavailable(f"Many processes publish {prefix} versions at this moment. Repeat in a moment.")

    def _indexed(self, version: Version, target: Path, staged: Path) -> bool:
        """Rename a folder into place and enter it into the catalog; where that fails, take the folder back.

        Two processes can publish the very same version, byte for byte. Then the catalog keeps the entry of the first,
        and both have published. What an error leaves in an archive stays there: a folder that no entry names does no
        harm, and the other process may have entered it.
        """
        entered, moved = False, _renamed(staged, target)
        try:
            sync(self._models)
            entered = self._catalog.versions.add(version)
            entered = entered or self._catalog.versions.find(version.digest) is not None
        finally:
            if not entered and moved:
                os.rename(target, staged)
        return entered

    def _free_name(self, prefix: str) -> str:
        names = self._catalog.versions.names(f"{prefix}-")
        numbers = [int(name[len(prefix) + 1 :]) for name in names if name[len(prefix) + 1 :].isdecimal()]
        return f"{prefix}-{max(numbers, default=0) + 1}"


def canonical(version: Version) -> bytes:
    """The manifest as the bytes whose SHA-256 is the version's digest."""
    manifest = {name: value for name, value in asdict(version).items() if name != "digest"}
    manifest["created_at"] = version.created_at.isoformat()
    return json.dumps(manifest, sort_keys=True, ensure_ascii=False, indent=1).encode()


def read_manifest(folder: Path) -> Version:
    """The version that a folder says it is; files are not looked at.

    Raises:
        CorruptVersion: no manifest, or one that cannot be read.
    """
    try:
        data = (folder / MANIFEST).read_bytes()
        manifest = json.loads(data)
        manifest["files"] = {path: FileEntry(**entry) for path, entry in manifest["files"].items()}
        manifest["created_at"] = datetime.fromisoformat(manifest["created_at"])
        return Version(digest=hashlib.sha256(data).hexdigest(), **manifest)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptVersion(
            f"{folder / MANIFEST} is missing or damaged: restore the folder from a backup."
        ) from error


def _renamed(folder: Path, target: Path) -> bool:
    """Give a whole folder its name. False when another process has put the same one there."""
    try:
        os.rename(folder, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and target.is_dir():
            return False
        raise
    return True


def _version(values: Mapping[str, Any]) -> Version:
    unnamed = Version(digest="", **values)
    return Version(digest=hashlib.sha256(canonical(unnamed)).hexdigest(), **values)


def _same(version: Version, fixed: Mapping[str, Any]) -> bool:
    same_origin = (version.kind, version.format, version.parent) == (
        fixed["kind"],
        fixed["format"],
        fixed["parent"],
    )
    return same_origin and version.files == fixed["files"]


def _check_kind(kind: str) -> None:
    if kind not in VERSION_KINDS:
        raise InvalidInput(f"{kind!r} is not a kind of version: choose {', '.join(VERSION_KINDS)}.")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or _LOOKS_LIKE_DIGEST.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot name a version: use a-z, 0-9, '.', '_' and '-', at most 64, not like a digest."
        )


def _copy(source: Path, target: Path) -> dict[str, FileEntry]:
    files = {}
    for path in _wanted(source):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        files[path.relative_to(source).as_posix()] = _copy_file(path, copy)
    if not files:
        raise InvalidInput(f"{source} holds no files to publish.")
    return files


def _wanted(source: Path) -> list[Path]:
    """Files of a model folder, sorted. Hidden ones and an old manifest are left out, as are pickled weights
    where safetensors lie beside them."""
    wanted = []
    for path in sorted(source.rglob("*")):
        parts = path.relative_to(source).parts
        if any(part.startswith(".") for part in parts) or parts == (MANIFEST,):
            continue
        if path.is_symlink():
            _check_link(path, source)
        if not path.is_file():
            continue
        if path.suffix.lower() in _PICKLES:
            if any(path.parent.glob("*.safetensors")):
                continue
            raise InvalidInput(
                f"{path} is a pickle, and loading one runs its code: save the weights as safetensors.",
                "PICKLED_WEIGHTS",
            )
        wanted.append(path)
    return wanted


def _check_link(link: Path, folder: Path) -> None:
    """A link may name a file of the model: in its own folder or, in a Hugging Face cache, among the model's blobs.

    Any other would publish a file that its owner never meant to be part of a model.
    """
    target, folder = link.resolve(), folder.resolve()
    homes = [folder]
    if folder.parent.name == "snapshots":
        homes.append(folder.parent.parent / "blobs")
    if target.is_file() and any(target.is_relative_to(home) for home in homes):
        return
    if target.is_dir():
        raise InvalidInput(
            f"{link} is a link to a folder, and links to folders are not followed: put a copy of the folder in its "
            "place.",
            "LINK_TO_FOLDER",
        )
    raise InvalidInput(
        f"{link} is a link to something that is not a file of this folder: put a copy of the file in its place.",
        "LINK_LEAVES_FOLDER",
    )


def _copy_file(source: Path, target: Path) -> FileEntry:
    hashed, size = hashlib.sha256(), 0
    with open(source.resolve(), "rb", opener=_unlinked) as reader, open(target, "xb") as writer:
        while chunk := reader.read(_CHUNK):
            writer.write(chunk)
            hashed.update(chunk)
            size += len(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    target.chmod(0o400)  # a version does not change; an editor that tries shall notice
    return FileEntry(sha256=hashed.hexdigest(), bytes=size)


def _unlinked(path: str, flags: int) -> int:
    """Opens a resolved path; a link that has taken the file's place meanwhile fails."""
    return os.open(path, flags | os.O_NOFOLLOW)


def _verify(folder: Path, version: Version) -> None:
    if read_manifest(folder).digest != version.digest:
        raise _corrupt(version, MANIFEST, "is not the one that was published")
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    for extra in sorted(present - set(version.files) - {MANIFEST}):
        raise _corrupt(version, extra, "does not belong to it")
    for name, entry in sorted(version.files.items()):
        _verify_file(folder, version, name, entry)


def _verify_file(folder: Path, version: Version, name: str, entry: FileEntry) -> None:
    path = folder / name
    if not path.is_file():
        raise _corrupt(version, name, "is missing")
    size = path.stat().st_size
    if size != entry.bytes:
        raise _corrupt(version, name, f"has {size} bytes instead of {entry.bytes}")
    hashed = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            hashed.update(chunk)
    if hashed.hexdigest() != entry.sha256:
        raise _corrupt(version, name, "has changed (another SHA-256)")


def _corrupt(version: Version, name: str, what: str) -> CorruptVersion:
    return CorruptVersion(
        f"Version {version.name} is damaged: {name} {what}. "
        f"Restore {version.digest[:12]} from a backup, or train it again."
    )
