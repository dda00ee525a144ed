"""Training runs: what was asked, what was frozen, how far it is, how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa

from vouch.errors import AlreadyExists, FailedPrecondition, InvalidInput, NotFound
from vouch.storage.catalog import pages, tables
from vouch.storage.catalog.audit import append_entry
from vouch.storage.catalog.database import Database, insert_once
from vouch.types.clock import now
from vouch.types.json_values import json_ready
from vouch.types.page import Page
from vouch.types.run import RUN_ENDED, RUN_KINDS, RUN_STATES, Run, RunKind, RunState

MAX_TEXT = 10_000
QUEUE_LOCK = 0x766F7563  # any number, the same in every process


class Runs:
    """Runs of a catalog. A run that has ended never changes again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        kind: RunKind,
        config: Mapping[str, Any],
        *,
        request_id: str,
        created_by: str = "",
        reason: str = "",
    ) -> Run:
        """Queue a run, with its entry of the audit log. The same request_id of the same caller with the same kind and
        config returns the first.

        Raises:
            InvalidInput: an unknown kind, or an empty request_id.
            AlreadyExists: the request_id was used for another run.
        """
        if kind not in RUN_KINDS:
            raise InvalidInput(f"{kind!r} is not a kind of run: choose {', '.join(RUN_KINDS)}.")
        if not request_id:
            raise InvalidInput(
                "request_id is empty: it is needed, so that a repeated request starts one run."
            )
        wanted = json_ready(config)
        with self._database.write() as connection:
            new = insert_once(connection, tables.runs, _new_row(kind, wanted, request_id, created_by))
            query = sa.select(tables.runs).where(
                tables.runs.c.created_by == created_by, tables.runs.c.request_id == request_id
            )
            run = _run(connection.execute(query).one())
            if new:
                details = {"kind": kind, "config": wanted, **({"reason": reason} if reason else {})}
                append_entry(connection, created_by, "training start", run.run_id, details)
        if run.kind != kind or run.config != wanted:
            raise AlreadyExists(
                f"request_id {request_id!r} was already used for {run.run_id}. Use a fresh one.",
                "REQUEST_ID_REUSED",
            )
        return run

    def get(self, run_id: str) -> Run:
        """Raises NotFound."""
        with self._database.read() as connection:
            return _get(connection, run_id)

    def list(
        self,
        *,
        kind: RunKind | None = None,
        state: RunState | None = None,
        page_size: int = pages.DEFAULT_PAGE_SIZE,
        page_token: str = "",
    ) -> Page[Run]:
        """Newest first."""
        filters = {"kind": kind, "state": state}
        with self._database.read() as connection:
            return pages.read_page(
                connection, tables.runs, filters, _run, page_size=page_size, page_token=page_token
            )

    def queue(self) -> AbstractContextManager[bool]:
        """Whether this process alone carries out what is queued, for the length of the `with` block."""
        return self._database.alone(QUEUE_LOCK)

    def oldest_open(self) -> Run | None:
        """The oldest run that a killed job left RUNNING, else the oldest that is QUEUED; None where none waits."""
        table = tables.runs
        for state in ("RUNNING", "QUEUED"):
            query = sa.select(table).where(table.c.state == state).order_by(table.c.seq).limit(1)
            with self._database.read() as connection:
                row = connection.execute(query).first()
            if row is not None:
                return _run(row)
        return None

    def start(self, run_id: str, *, total_steps: int = 0) -> Run:
        """RUNNING, one attempt more: also for a run that is resumed after its process was killed.

        Raises:
            NotFound, FailedPrecondition: no such run; it has ended.
        """
        with self._database.write() as connection:
            run = _open_run(connection, run_id)
            values: dict[str, Any] = {"state": "RUNNING", "attempt": run.attempt + 1}
            if total_steps:
                values["total_steps"] = total_steps
            if run.started_at is None:
                values["started_at"] = now()
            return _update(connection, run, values)

    def freeze_inputs(self, run_id: str, inputs: Mapping[str, Any]) -> Run:
        """Note what the run learns from. The first call decides: a resumed run reads the first one's inputs."""
        with self._database.write() as connection:
            run = _open_run(connection, run_id)
            return run if run.inputs else _update(connection, run, {"inputs": json_ready(inputs)})

    def progress(
        self,
        run_id: str,
        *,
        step: int,
        total_steps: int | None = None,
        message: str = "",
        metrics: Mapping[str, Any] | None = None,
    ) -> Run:
        """How far the run is. Look at `cancel_requested` of the answer. Metrics are merged by name.

        Raises:
            NotFound, FailedPrecondition: no such run; it has ended.
        """
        with self._database.write() as connection:
            run = _open_run(connection, run_id)
            values: dict[str, Any] = {"step": step, "metrics": {**run.metrics, **json_ready(metrics or {})}}
            if total_steps is not None:
                values["total_steps"] = total_steps
            if message:
                values["message"] = message[:MAX_TEXT]
            return _update(connection, run, values)

    def finish(
        self,
        run_id: str,
        state: RunState,
        *,
        version: str = "",
        error: str = "",
        metrics: Mapping[str, Any] | None = None,
    ) -> Run:
        """SUCCEEDED, FAILED or CANCELLED. Saying the same end twice changes nothing.

        Raises:
            NotFound, FailedPrecondition: no such run; it has ended otherwise.
        """
        if state not in RUN_ENDED:
            raise InvalidInput(f"{state!r} is no end of a run: {', '.join(sorted(RUN_ENDED))}.")
        with self._database.write() as connection:
            run = _get(connection, run_id, lock=True)
            if run.ended and (run.state, run.version) == (state, version or run.version):
                return run
            _refuse_ended(run)
            values: dict[str, Any] = {"state": state, "ended_at": now()}
            values.update(
                version=version, error=error[:MAX_TEXT], metrics={**run.metrics, **json_ready(metrics or {})}
            )
            return _update(connection, run, values)

    def cancel(self, run_id: str, *, request_id: str = "", by: str = "") -> Run:
        """Ask a run to stop: a queued one ends at once, a running one sees `cancel_requested`. Idempotent. What changes
        something is an entry of the audit log.

        Raises:
            NotFound: no such run.
            FailedPrecondition: it has succeeded or failed already.
        """
        del request_id  # asking twice is asking once, whoever asks
        with self._database.write() as connection:
            run = _get(connection, run_id, lock=True)
            if run.state == "CANCELLED" or (run.cancel_requested and not run.ended):
                return run
            _refuse_ended(run)
            values: dict[str, Any] = {"cancel_requested": True}
            if run.state == "QUEUED":
                values.update(state="CANCELLED", ended_at=now())
            append_entry(connection, by, "training cancel", run_id, {})
            return _update(connection, run, values)


def _new_row(kind: str, config: Any, request_id: str, created_by: str) -> dict[str, Any]:
    moment = now()
    return {
        "kind": kind,
        "state": "QUEUED",
        "config": config,
        "request_id": request_id,
        "created_by": created_by,
        "attempt": 0,
        "step": 0,
        "total_steps": 0,
        "message": "",
        "metrics": {},
        "inputs": {},
        "version": "",
        "error": "",
        "cancel_requested": False,
        "created_at": moment,
        "updated_at": moment,
    }


def _get(connection: sa.Connection, run_id: str, *, lock: bool = False) -> Run:
    kind, _, number = run_id.rpartition("-")
    if number.isascii() and number.isdigit() and len(number) <= 18:
        query = sa.select(tables.runs).where(tables.runs.c.seq == int(number), tables.runs.c.kind == kind)
        row = connection.execute(query.with_for_update() if lock else query).first()
        if row is not None:
            return _run(row)
    raise NotFound(f"There is no run {run_id!r}: `vouch train list` shows them.", "RUN_NOT_FOUND")


def _open_run(connection: sa.Connection, run_id: str) -> Run:
    run = _get(connection, run_id, lock=True)
    _refuse_ended(run)
    return run


def _refuse_ended(run: Run) -> None:
    if run.ended:
        raise FailedPrecondition(
            f"Run {run.run_id} has ended ({run.state}) and does not change any more.", "RUN_ENDED"
        )


def _update(connection: sa.Connection, run: Run, values: Mapping[str, Any]) -> Run:
    seq = int(run.run_id.rpartition("-")[2])
    connection.execute(
        sa.update(tables.runs).where(tables.runs.c.seq == seq).values(**values, updated_at=now())
    )
    return _get(connection, run.run_id)


def _run(row: Any) -> Run:
    values = {name: value for name, value in row._mapping.items() if name != "seq"}
    assert values["state"] in RUN_STATES
    return Run(run_id=f"{row.kind}-{row.seq}", **values)
