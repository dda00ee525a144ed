"""The RPCs about training runs. Part of the operations deployment."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from services import metrics
from services.identity import Identity
from services.jobs.paths import readable_paths
from services.jobs.runner import Runner, training_command, training_environment
from services.required import required
from vouch import recipes, wire
from vouch.errors import Exhausted, InvalidInput
from vouch.extras import require
from vouch.pb.v1 import training_pb2 as pb
from vouch.settings import Settings
from vouch.storage.catalog import Catalog
from vouch.types.run import Run
from vouch.types.version import numbers

MAX_QUEUED = 32
WATCH_S = 0.25


class TrainingService:
    """Queues runs and tells how far they are; `Runner` executes them."""

    def __init__(self, settings: Settings, catalog: Catalog) -> None:
        self._settings, self._catalog = settings, catalog
        self._runner = Runner(
            catalog,
            settings.folder,
            training_command,
            environment={**_bounded(settings.training.threads), **training_environment(settings)},
            niceness=settings.training.nice,
            on_end=lambda run: metrics.RUNS.labels(run.kind, run.state).inc(),
        )
        if settings.training.inside:
            self._runner.start()

    def StartTraining(self, request: pb.StartTrainingRequest, caller: Identity) -> pb.Run:
        kind = wire.word(request, "kind")
        if not kind:
            raise InvalidInput(
                "kind is missing: say what to do: pretrain, reward, align, concept, adapt or evaluate."
            )
        config = wire.to_dict(request.config)
        recipes.parse(kind, config)
        require("train")  # a server without it queues no run that could only fail
        config = readable_paths(self._settings, kind, config)
        if len(self._catalog.runs.list(state="QUEUED", page_size=MAX_QUEUED).items) >= MAX_QUEUED:
            raise Exhausted(f"{MAX_QUEUED} runs wait already: cancel some, or wait until they are done.")
        run = self._catalog.runs.create(
            kind,
            config,
            request_id=request.request_id or uuid.uuid4().hex,
            created_by=caller.name,
        )
        self._runner.notify()
        return self._message(run)

    def GetRun(self, request: pb.GetRunRequest, caller: Identity) -> pb.Run:
        return self._message(self._catalog.runs.get(required(request, "run_id")))

    def ListRuns(self, request: pb.ListRunsRequest, caller: Identity) -> pb.ListRunsResponse:
        page = self._catalog.runs.list(
            kind=wire.word(request, "kind") or None,
            state=wire.word(request, "state") or None,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListRunsResponse(runs=self._messages(page.items), next_page_token=page.next_token)

    def CancelRun(self, request: pb.CancelRunRequest, caller: Identity) -> pb.Run:
        run = self._catalog.runs.get(required(request, "run_id"))
        if not run.ended:
            run = self._catalog.runs.cancel(run.run_id, request_id=request.request_id, by=caller.name)
            self._runner.notify()
        return self._message(run)

    async def WatchRun(self, request: pb.WatchRunRequest, caller: Identity) -> AsyncIterator[pb.Run]:
        """Now, and at every change; ends with the run."""
        last, run_id = None, required(request, "run_id")
        while True:
            run = await asyncio.to_thread(self._catalog.runs.get, run_id)
            if run != last:
                yield await asyncio.to_thread(self._message, run)
                last = run
            if run.ended:
                return
            await asyncio.sleep(WATCH_S)

    def stop(self) -> None:
        self._runner.stop()

    def _message(self, run: Run) -> pb.Run:
        return self._messages([run])[0]

    def _messages(self, runs: Sequence[Run]) -> list[pb.Run]:
        names = self._catalog.versions.names_of([run.version for run in runs])
        return [
            wire.to_message(
                replace(run, version_name=names.get(run.version, ""), metrics=numbers(run.metrics)), pb.Run
            )
            for run in runs
        ]


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
