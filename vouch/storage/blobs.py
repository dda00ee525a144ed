"""Bytes under the name of their own SHA-256: a folder on one machine, S3 or GCS in a cluster."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from upath import UPath

from vouch.errors import DataLoss, InvalidInput, NotFound
from vouch.storage.atomic import storage_errors, sync, write_whole
from vouch.storage.objects import LOCAL, object_errors, object_path

_DIGEST = re.compile(r"[0-9a-f]{64}")
# A PUT of these appears whole by itself; renaming would only copy and delete.
_ATOMIC_PUT = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"})


class BlobStore:
    """Content-addressed store.

    Example:
        digest = BlobStore("state/blobs").put(png)     # state/blobs/ab/cdef…

    The same bytes are stored once. A blob is written to a temporary name, synced, and renamed, so that a name
    that exists holds the whole content.
    """

    def __init__(self, root: str | Path | UPath, **options: Any) -> None:
        """`root`: a folder or any fsspec URL; `options`: what its file system takes (keys, endpoint)."""
        self._root: Any = object_path(root, **options)
        protocol = str(self._root.protocol)
        self._local = protocol in LOCAL
        self._atomic_put = protocol in _ATOMIC_PUT

    def put(self, data: bytes) -> str:
        """Store `data` and return its digest. Storing the same bytes again costs a look-up.

        Raises:
            StorageFull: there is no room; nothing was kept.
            Unavailable: an object store does not answer; repeat.
        """
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        with self._errors(digest):
            if not self._holds(path, len(data)):
                self._write(path, data)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of `digest`, verified.

        Raises:
            NotFound: no such blob.
            DataLoss: what is stored under this name is not what was put there.
        """
        path = self._path(digest)
        try:
            with self._errors(digest):
                data: bytes = path.read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"There is no blob {digest}.", "BLOB_NOT_FOUND") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise DataLoss(
                f"Blob {digest} is damaged ({len(data)} bytes with another digest). Restore {path} from a backup."
            )
        return data

    def exists(self, digest: str) -> bool:
        path = self._path(digest)
        with self._errors(digest):
            return bool(path.exists())

    def digests(self) -> list[str]:
        """Every blob: a listing of the whole store, for small ones."""
        with self._errors("all"):
            names = [f"{path.parent.name}{path.name}" for path in self._root.glob("*/*")]
        return sorted(filter(_DIGEST.fullmatch, names))

    def remove(self, digest: str) -> None:
        """Forget a blob; none by this name is as good."""
        path = self._path(digest)
        with self._errors(digest):
            path.unlink(missing_ok=True)

    def _errors(self, digest: str) -> AbstractContextManager[None]:
        what = f"blob {digest[:12]}"
        return storage_errors(what) if self._local else object_errors(what)

    def _path(self, digest: str) -> Any:
        if not _DIGEST.fullmatch(digest):
            raise InvalidInput(f"{digest!r} is not a digest: 64 lower-case hexadecimal digits are expected.")
        return self._root / digest[:2] / digest[2:]

    def _holds(self, path: Any, size: int) -> bool:
        # Another size means damage by something that is not vouch: write it again.
        try:
            return bool(path.stat().st_size == size) and self._touched(path)
        except FileNotFoundError:
            return False

    def _touched(self, path: Any) -> bool:
        """A blob that is stored again is young again, so that `vouch gc` leaves it to the record that will name it."""
        if self._local:
            with suppress(PermissionError):  # another user's file, which that user's gc has to spare
                os.utime(path.path)
        return True

    def _write(self, path: Any, data: bytes) -> None:
        if self._local:
            _make_durable(Path(path.path).parent)
            write_whole(Path(path.path), data)
        elif self._atomic_put:
            path.write_bytes(data)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
            temporary.write_bytes(data)
            temporary.fs.mv(temporary.path, path.path)


def _make_durable(folder: Path) -> None:
    """Make a folder whose name is on the disk too: a blob is only as durable as the names above it."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync(folder.parent)
