"""Object stores by URL (S3, GCS, Azure, memory), and what their complaints mean to a user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from upath import UPath

from vouch.errors import FailedPrecondition, Unavailable, VouchError
from vouch.storage.atomic import storage_errors

LOCAL = frozenset({"", "file", "local"})
_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "azure")  # whose errors are no OSError


def object_path(url: str | Path | UPath, **options: Any) -> Any:
    """The path of a folder or an fsspec URL; `options` are what its file system takes (keys, endpoint).

    S3 takes keys and endpoint from `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_ENDPOINT_URL`, so that no
    secret stands in a URL.

    Raises:
        FailedPrecondition: the package that knows this protocol is not installed.
    """
    try:
        path: Any = UPath(url, **options)
        if str(path.protocol) in LOCAL:
            return path
        # Other processes write too: a listing kept in memory would hide what they wrote.
        path = UPath(url, use_listings_cache=False, **options)
        _ = path.fs
    except ImportError as error:
        raise FailedPrecondition(
            f"The store {str(url).split('://')[0]}:// needs a package that is not installed ({error}). For S3: "
            "pip install 'vouch[s3]'.",
            "NO_STORE_CLIENT",
        ) from error
    return path


@contextmanager
def object_errors(what: str) -> Iterator[None]:
    """Translate what an object store says while `what` is read or written.

    Raises:
        Unavailable: it does not answer, or answers with an error of its own.
        StorageFull, FailedPrecondition: as `storage_errors`.
    """
    try:
        with storage_errors(what):
            yield
    except (VouchError, FileNotFoundError):
        raise
    except Exception as error:
        if isinstance(error, OSError) or type(error).__module__.split(".")[0] in _CLIENTS:
            raise Unavailable(
                f"The object store did not take or give {what} ({type(error).__name__}). Check its address and keys "
                "(AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID), and repeat."
            ) from error
        raise
