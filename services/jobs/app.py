"""The RPCs about training runs. Part of the operations deployment."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.json_format import MessageToDict

from services import metrics
from services.jobs.paths import readable_paths
from services.jobs.runner import Runner, training_command
from services.rollout.app import Models, lower, needed, numbers, struct, timestamp, upper
from vouch import recipes
from vouch.errors import Exhausted, InvalidInput
from vouch.pb.v1 import training_pb2
from vouch.settings import Settings
from vouch.storage.catalog import Catalog
from vouch.types.records import Run

MAX_QUEUED = 32
WATCH_S = 0.25


class Training:
    """Queues runs and tells how far they are; `Runner` executes them."""

    def __init__(self, settings: Settings, catalog: Catalog, models: Models) -> None:
        self._settings, self._catalog, self._models = settings, catalog, models
        folder = settings.folder
        self._runner = Runner(
            catalog,
            folder,
            training_command(folder.root, settings.training.workers, settings.training.gpus, settings.domain),
            environment=_bounded(settings.training.threads),
            niceness=settings.training.nice,
            on_end=lambda run: metrics.RUNS.labels(run.kind, run.state).inc(),
        )
        self._runner.start()

    def start(self, request: Any, actor: str) -> Any:
        kind = lower(training_pb2.RunKind, request.kind)
        if not kind:
            raise InvalidInput(
                "kind is missing: say what to do: pretrain, reward, align, concept or evaluate."
            )
        config = _whole(MessageToDict(request.config))
        recipes.parse(kind, config)
        config = readable_paths(self._settings, kind, config)
        if len(self._catalog.runs.list(state="QUEUED", page_size=MAX_QUEUED).items) >= MAX_QUEUED:
            raise Exhausted(f"{MAX_QUEUED} runs wait already: cancel some, or wait until they are done.")
        run = self._catalog.runs.create(
            kind,
            config,
            request_id=request.request_id or uuid.uuid4().hex,
            created_by=actor,
        )
        self._catalog.audit.append_once(actor, "training start", run.id, {"kind": kind, "config": config})
        self._runner.wake()
        return self._message(run)

    def get(self, run_id: str) -> Any:
        return self._message(self._catalog.runs.get(needed("run_id", run_id)))

    def list(self, request: Any) -> Any:
        page = self._catalog.runs.list(
            kind=lower(training_pb2.RunKind, request.kind) or None,
            state=upper(training_pb2.RunState, request.state) or None,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return training_pb2.ListRunsResponse(
            runs=[self._message(run) for run in page.items], next_page_token=page.next_token
        )

    def cancel(self, request: Any, actor: str = "") -> Any:
        run = self._catalog.runs.get(needed("run_id", request.run_id))
        if not run.ended:
            run = self._catalog.runs.cancel(run.id, request_id=request.request_id)
            self._catalog.audit.append_once(actor, "training cancel", run.id, {})
            self._runner.wake()
        return self._message(run)

    async def watch(self, run_id: str) -> AsyncIterator[Any]:
        """Now, and at every change; ends with the run."""
        last = None
        while True:
            run = await asyncio.to_thread(self._catalog.runs.get, needed("run_id", run_id))
            if run != last:
                yield await asyncio.to_thread(self._message, run)
                last = run
            if run.ended:
                return
            await asyncio.sleep(WATCH_S)

    def stop(self) -> None:
        self._runner.stop()

    def _message(self, run: Run) -> Any:
        message = training_pb2.Run(
            run_id=run.id,
            kind=training_pb2.RunKind.Value(f"RUN_KIND_{run.kind.upper()}"),
            state=training_pb2.RunState.Value(f"RUN_STATE_{run.state}"),
            config=struct(run.config),
            step=run.step,
            total_steps=run.total_steps,
            message=run.message,
            metrics=numbers(run.metrics),
            version=run.version,
            version_name=self._models.name(run.version),
            error=run.error,
            created_at=timestamp(run.created_at),
            updated_at=timestamp(run.updated_at),
            attempt=run.attempt,
            inputs=struct(run.inputs),
            created_by=run.created_by,
        )
        if run.started_at:
            message.started_at.FromDatetime(run.started_at)
        if run.ended_at:
            message.ended_at.FromDatetime(run.ended_at)
        return message


def _bounded(threads: int) -> dict[str, str]:
    """The environment of a training process: few threads, and where Ray is."""
    import ray

    number = str(threads)
    return {
        "OMP_NUM_THREADS": number,
        "MKL_NUM_THREADS": number,
        "OPENBLAS_NUM_THREADS": number,
        "VOUCH_RAY_ADDRESS": ray.get_runtime_context().gcs_address,
        "PYTHONUNBUFFERED": "1",
        "PATH": os.environ.get("PATH", ""),
    }


def _whole(value: Any) -> Any:
    """A Struct knows floats only: 5.0 was 5."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
