"""Processes and files of a killed system, recorded in its state folder and removed by the next start."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from services.processes import end_all
from services.scratch import remove_scratch
from vouch.errors import FailedPrecondition
from vouch.storage.atomic import write_whole
from vouch.storage.state import StateFolder

FILE_NAME = "running.json"


@dataclass(frozen=True)
class Record:
    """A system that runs, or was killed: the mark of its processes and the folder of its short-lived files."""

    mark: str
    scratch: str

    def write(self, folder: StateFolder) -> None:
        write_whole(folder.root / FILE_NAME, json.dumps(asdict(self)).encode(), mode=0o600)


def end_leftovers(folder: StateFolder) -> bool:
    """End the processes and remove the files of a system that was killed. True when there was one.

    The caller holds the folder's lock: the system that wrote the record does not run any more.

    Raises FailedPrecondition where a process does not end.
    """
    record = _read(folder.root / FILE_NAME)
    if record is None:
        return False
    alive = end_all(record.mark)
    if alive:
        pids = ", ".join(str(process.pid) for process in alive)
        raise FailedPrecondition(
            f"Processes of the system that last ran on {folder.root} do not end (pid {pids}). End them by hand.",
            "LEFTOVERS",
        )
    remove_scratch(Path(record.scratch))
    forget(folder)
    return True


def forget(folder: StateFolder) -> None:
    """Remove the record: the system has ended and left nothing."""
    with contextlib.suppress(OSError):
        (folder.root / FILE_NAME).unlink(missing_ok=True)


def _read(path: Path) -> Record | None:
    try:
        values = json.loads(path.read_text("utf-8"))
        record = Record(mark=str(values["mark"]), scratch=str(values["scratch"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if len(record.mark) >= 32 else None
