"""Rejected and failed calls, one JSON line each, in the state folder; `vouch logs` reads them.

A refusal says code, reason, RPC, role and reference, and nothing of what the caller wrote. An error that nobody
expected says its traceback too, under the reference that its caller was given.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
import traceback
from datetime import datetime, timezone
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from services.environment import LOGS_FOLDER
from vouch import tracing
from vouch.errors import Internal, VouchError

FILE_BYTES = 5 * 2**20  # then a new file begins; the one before is kept
FILES_KEPT = 20
_IDENTIFIER = re.compile(r"[0-9A-Za-z][0-9A-Za-z._:-]{5,63}")
RAY_SERVE = "ray.serve"

log = logging.getLogger("vouch.calls")


def request_id(request: Any) -> str:
    """The request_id of a request as a log may keep it: a caller could have written anything there, so what does not
    look like an identifier becomes the beginning of its digest."""
    value = str(getattr(request, "request_id", "") or "")
    if not value or _IDENTIFIER.fullmatch(value):
        return value
    return f"sha256:{hashlib.sha256(value.encode()).hexdigest()[:16]}"


def refused(**entry: str) -> None:
    """Log one line for a rejected call."""
    _write("INFO", entry)


def failed(error: BaseException, **entry: str) -> None:
    """Log one line with the traceback for a call that failed with an internal error."""
    _write("ERROR", {**entry, "trace": "".join(traceback.format_exception(error))})


def _write(level: str, entry: dict[str, str]) -> None:
    moment = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    _open()
    trace = tracing.current().split("-")[1] if tracing.current() else ""
    line = {"at": moment, "level": level, **entry, **({"trace_id": trace} if trace else {})}
    log.log(logging.getLevelName(level), json.dumps(line))


def remove_old(folder: Path, kept: int = FILES_KEPT) -> None:
    """Keep the newest files only: every process of every start has one or two."""
    files = sorted(folder.glob("calls-*.jsonl*"), key=lambda path: path.stat().st_mtime)
    for path in files[:-kept]:
        path.unlink(missing_ok=True)


def _open() -> None:
    """Let the lines of this process go to a file of its own, once."""
    folder = os.environ.get(LOGS_FOLDER)
    if not folder or any(isinstance(handler, RotatingFileHandler) for handler in log.handlers):
        return
    path = Path(folder) / f"calls-{os.getpid()}.jsonl"
    try:
        handler = RotatingFileHandler(path, maxBytes=FILE_BYTES, backupCount=1, encoding="utf-8", delay=False)
    except OSError as error:  # a full disk takes no log, and serving goes on
        sys.stderr.write(f"{path} cannot be written: {error.strerror}\n")
        return
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


class _NoRefusals(logging.Filter):
    """Serve logs every exception of a method with its traceback; a refusal is no fault and quotes its caller."""

    def filter(self, record: logging.LogRecord) -> bool:
        error: Any = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        error = getattr(error, "cause", None) or error
        return not isinstance(error, VouchError) or isinstance(error, Internal)


def leave_out_refusals() -> None:
    """Restrict Serve's own log in this process to internal errors."""
    logger = logging.getLogger(RAY_SERVE)
    if not any(isinstance(known, _NoRefusals) for known in logger.filters):
        logger.addFilter(_NoRefusals())
