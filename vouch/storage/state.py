"""The state folder: where everything lies, who may use it, and how others find the running system.

Images and ratings of patients lie in it: folders are 0700 and files 0600, whoever makes them and however late.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import quote

from vouch.errors import FailedPrecondition, InvalidInput, NotFound
from vouch.formats.texts import printable_name
from vouch.storage.atomic import storage_errors, write_whole
from vouch.storage.locks import take_lock

OWN = (
    "blobs", "blobs-outbox", "models", "runs", "metrics", "logs", "ray-logs", "lock", "running.json", "ray_token",
    "access.json", "audit-head", "catalog.db*", "mlflow.db*",
)  # fmt: skip
"""What vouch makes in a state folder. Whatever else lies there is none of its business."""
PRIVATE = 0o077
"""The umask of every process that writes into a state folder."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """Where a running system answers, and the token of each role. Kept in `access.json`, for its owner alone."""

    address: str  # gRPC, "127.0.0.1:9000"
    http: str  # "http://127.0.0.1:8000"
    tokens: dict[str, str] = field(default_factory=dict, repr=False)  # role -> token


@dataclass(frozen=True)
class StateFolder:
    """Paths of one system's state.

    Example:
        folder = StateFolder(Path("state"))
        with folder.lock():
            catalog = Catalog(folder.catalog_url)
    """

    root: Path

    def __post_init__(self) -> None:
        # Absolute, because processes of one system have different working directories.
        object.__setattr__(self, "root", Path(self.root).expanduser().absolute())

    @property
    def catalog_url(self) -> str:
        return _sqlite_url(self.root / "catalog.db")

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def outbox(self) -> Path:
        """Records of images that wait for the catalog."""
        return self.root / "blobs-outbox"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def run(self, run_id: str) -> Path:
        """Checkpoints and log of one run."""
        if not run_id or "/" in run_id or run_id.startswith("."):
            raise InvalidInput(f"{run_id!r} is not the id of a run.")
        return self.runs / run_id

    @property
    def mlflow_uri(self) -> str:
        """As SQLAlchemy writes it, for MLflow hands it to SQLAlchemy."""
        import sqlalchemy as sa  # clients of a system need no database

        url = sa.URL.create("sqlite", database=os.fspath(self.root / "mlflow.db"))
        return url.render_as_string()

    @property
    def metrics(self) -> Path:
        return self.root / "metrics"

    @property
    def logs(self) -> Path:
        """One JSON line for each call that was refused or broke."""
        return self.root / "logs"

    @property
    def audit_head(self) -> Path:
        """The head of the audit log at the last start, backup or check."""
        return self.root / "audit-head"

    @property
    def access(self) -> Path:
        return self.root / "access.json"

    def create(self) -> StateFolder:
        """Make the folder and its parts, if they are not there.

        Raises:
            InvalidInput: its name cannot be spelled in a URL.
            FailedPrecondition: a file is in the way, or the place may not be written.
            StorageFull: no room.
        """
        self._check_name()
        with storage_errors(f"The state folder {self.root}"):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for part in (self.blobs, self.models, self.runs, self.metrics, self.logs):
                part.mkdir(mode=0o700, exist_ok=True)
            self._close_to_others()
        return self

    def _check_name(self) -> None:
        """Bytes that are no text in the locale's encoding cannot stand in the URL of the catalog."""
        name = str(self.root)
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise InvalidInput(
                f"The state folder {printable_name(name)} has characters that are no text in this locale's encoding "
                f"({sys.getfilesystemencoding()}). Set LC_ALL=C.UTF-8 and leave PYTHONUTF8 unset, or name another "
                "folder.",
                "UNREADABLE_PATH",
            )

    def _close_to_others(self) -> None:
        """Take from others what an older version or a generous umask left them. Parts lie behind the folder's own
        mode. On a volume that somebody else owns, modes are that owner's business."""
        own = (path for pattern in OWN for path in self.root.glob(pattern))
        for path in (self.root, *own):
            status = path.lstat()
            if status.st_uid == os.getuid() and not stat.S_ISLNK(status.st_mode) and status.st_mode & 0o077:
                path.chmod(stat.S_IMODE(status.st_mode) & 0o700)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold this folder for the length of the `with` block; a killed process lets go by dying.

        Raises:
            FailedPrecondition: another system holds it.
        """
        self.create()
        path = self.root / "lock"
        with storage_errors(str(path)):
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._take(handle)
            yield
        finally:
            os.close(handle)

    def _take(self, handle: int) -> None:
        try:
            take_lock(handle)
        except BlockingIOError as error:
            holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise FailedPrecondition(
                f"The state folder {self.root} is already in use by pid {holder}. "
                "Stop that system first, or choose another folder with --state.",
                "STATE_IN_USE",
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)

    def is_held(self) -> bool | None:
        """Whether the system that last held this folder still runs; None where no system ever did, or on another
        machine."""
        try:
            os.kill(int((self.root / "lock").read_text("ascii")), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        except (OSError, ValueError, OverflowError):
            return None
        return True

    def write_access(self, access: Access) -> None:
        """Publish address and tokens, readable by the owner alone."""
        write_whole(self.access, json.dumps(asdict(access), indent=2).encode(), mode=0o600)

    def read_access(self) -> Access:
        """Address and tokens of the system that runs (or last ran) on this folder.

        Raises:
            NotFound: nothing ever ran here.
            FailedPrecondition: other users may read the tokens.
            InvalidInput: the file is not what `write_access` wrote.
        """
        try:
            mode = self.access.stat().st_mode
            text = self.access.read_text("utf-8")
        except FileNotFoundError as error:
            raise NotFound(
                f"No system has been started on {self.root}: run `vouch up`, or name its folder with --state.",
                "NO_SYSTEM",
            ) from error
        except OSError as error:
            raise FailedPrecondition(f"{self.access} cannot be read: {error.strerror}.") from error
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:  # Windows has no such modes
            raise FailedPrecondition(
                f"Other users can read the tokens in {self.access}: run `chmod 600 {self.access}`.",
                "TOKENS_EXPOSED",
            )
        return _parse_access(text, self.access)


def _sqlite_url(file: Path) -> str:
    """`file` as a URL. A "?", "#" or "%" in its path is quoted: unquoted it would mean something else there."""
    return f"sqlite:///{quote(os.fspath(file), safe='/ ~')}"


def _parse_access(text: str, path: Path) -> Access:
    try:
        access = Access(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{path} is damaged: remove it and start the system again.") from error
    texts = [access.address, access.http]
    if isinstance(access.tokens, dict) and all(
        isinstance(value, str) for value in [*texts, *access.tokens.values()]
    ):
        return access
    raise InvalidInput(f"{path} is damaged: remove it and start the system again.")
