"""Model versions in an object store, from which every machine of a cluster copies what it opens."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vouch.storage.objects import object_errors, object_path

MANIFEST = "manifest.json"


class VersionArchive:
    """Folders named by digest under one URL.

    Example:
        archive = VersionArchive("s3://bucket/models")
        owned = archive.put(folder, digest)     # s3://bucket/models/<digest>/…

    An object store has no rename, so the manifest makes a folder appear: it is written last, on the condition that
    there is none (S3: `If-None-Match: *`). Of several writers of one digest exactly one is told that it is the owner.
    """

    def __init__(self, url: str) -> None:
        """url: any fsspec URL. Raises FailedPrecondition where its protocol is not installed."""
        self._root = object_path(url)

    def put(self, folder: Path, digest: str) -> bool:
        """Upload a folder that holds a manifest. False when another writer has completed this digest before.

        Raises:
            Unavailable: the store does not answer; repeat.
        """
        target = self._root / digest
        with object_errors(f"version {digest[:12]}"):
            for path in sorted(folder.rglob("*")):
                name = path.relative_to(folder).as_posix()
                if path.is_file() and name != MANIFEST:
                    (target / name).fs.put_file(str(path), (target / name).path)
            return self._create(target / MANIFEST, (folder / MANIFEST).read_bytes())

    def fetch(self, digest: str, names: Iterable[str], target: Path) -> bool:
        """Copy the files `names` and the manifest into `target`, unverified. False where the store has no such folder.

        A file that is missing is left out: the verification of the copy names it.
        """
        source = self._root / digest
        with object_errors(f"version {digest[:12]}"):
            if not source.joinpath(MANIFEST).exists():
                return False
            for name in (*names, MANIFEST):
                copy = target / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                try:
                    source.fs.get_file((source / name).path, str(copy))
                except FileNotFoundError:
                    continue
        return True

    def remove(self, digest: str) -> None:
        """Take a folder back: its manifest first, so that nobody sees a part of it."""
        folder = self._root / digest
        with object_errors(f"version {digest[:12]}"):
            folder.joinpath(MANIFEST).unlink(missing_ok=True)
            if folder.exists():
                folder.fs.rm(folder.path, recursive=True)

    def write(self, name: str, data: bytes) -> None:
        """Replace a file beside the folders."""
        with object_errors(name):
            (self._root / name).write_bytes(data)

    def read(self, name: str) -> bytes | None:
        """A file beside the folders; None where there is none."""
        with object_errors(name):
            try:
                return bytes((self._root / name).read_bytes())
            except FileNotFoundError:
                return None

    def _create(self, path: object, data: bytes) -> bool:
        try:
            path.fs.pipe_file(path.path, data, mode="create")  # type: ignore[attr-defined]
        except FileExistsError:
            return False
        return True
