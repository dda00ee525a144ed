"""The operations deployment: versions, rollouts and training in one small process, of which there is exactly one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from ray.serve.handle import DeploymentHandle

import vouch
from services import logs, metrics
from services.account.app import AccountService
from services.identity import Identity
from services.jobs.app import TrainingService
from services.overview import Overview, overview
from services.pools import Pools
from services.processes import MARK
from services.retraining.loop import retrain_now_and_then
from services.retraining.retrainer import Retrainer
from services.rollout.app import RolloutService
from services.rollout.comparison import Comparison, Draw
from services.rollout.controller import RolloutController
from services.rollout.judge_process import JudgeProcess, judge_command
from services.rollout.meter import RequestEventCounter
from services.rollout.replay import Replays
from services.versions.app import ModelsService
from vouch import rpcs
from vouch.client.rpcs import METHODS
from vouch.settings import Settings
from vouch.storage.audit_head import note_head
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.clock import now
from vouch.types.generation import GeneratedImage, GenerationRequest

DRAW_S = 300.0
"""Seconds that a comparison or a replay waits for its image behind the requests of clients."""
STARTER_JUDGE = Path(vouch.__file__).parent / "starter" / "judge"


class Operations:
    """Hands each RPC to the service that it belongs to: one that answers once on a thread of its own pool."""

    def __init__(self, settings: Settings, generation: DeploymentHandle, reward: DeploymentHandle) -> None:
        logs.leave_out_refusals()
        catalog = Catalog(settings.resolved_catalog_url)
        registry = Registry(catalog, settings.folder.models, settings.models_url)
        handles = {"generator": generation, "reward": reward}
        blobs = BlobStore(settings.resolved_blobs_url)

        def draw(request: GenerationRequest) -> list[GeneratedImage]:
            drawn: list[GeneratedImage] = generation.generate.remote(request).result(timeout_s=DRAW_S)
            return drawn

        controller = RolloutController(
            catalog,
            registry,
            lambda slot: _notify(handles[slot]),
            settings.rollout.steps_percent,
            observer=_observer(settings, catalog, blobs, draw),
            system=os.environ.get(MARK, ""),
        )
        self._catalog, self._controller, self._started_at = catalog, controller, now()
        note_head(settings.folder, catalog.audit)
        self._training = TrainingService(settings, catalog)
        self._retraining = retrain_now_and_then(Retrainer(settings, catalog, controller))
        self._rollouts = RolloutService(catalog, controller)
        self.services = (
            ModelsService(catalog, registry, controller),
            self._rollouts,
            AccountService(settings.folder, catalog, registry, Replays(catalog, blobs, draw)),
            self._training,
        )
        self.pools = Pools()

    # ---- the system itself

    async def overview(self) -> Overview:
        """What the web page shows."""
        return await self.pools.run("overview", overview, self._catalog, self._controller, self._started_at)

    async def check_health(self) -> None:
        """Raises RuntimeError when a thread has ended that works without being asked; Serve then starts anew."""
        if not self._rollouts.alive:
            raise RuntimeError("the thread that watches rollouts has ended")
        if self._retraining is not None and not self._retraining.is_alive():
            raise RuntimeError("the thread that trains the reward model again has ended")

    async def stop(self) -> None:
        """Before the system goes down: end the training process; its run is resumed at the next start."""
        await self.pools.run("stop", self._training.stop)


def _observer(settings: Settings, catalog: Catalog, blobs: BlobStore, draw: Draw) -> Comparison:
    """What measures candidates; without a judge for this kind of image, by requests and experts alone."""
    folder = settings.rollout.judge or (STARTER_JUDGE if settings.domain == "blood_cells" else None)
    judge = None if folder is None else JudgeProcess(judge_command(folder))
    comparison = Comparison(catalog, blobs, draw, judge, RequestEventCounter(metrics.roles))
    comparison.start()
    return comparison


def _notify(handle: DeploymentHandle) -> None:
    """Tell every replica to look at once. One that misses it looks within half a second anyway."""
    handle.broadcast("notify")


def _handler(operations: Operations, name: str) -> Callable[..., Any]:
    """The method of this name of the service that has it."""
    return next(getattr(service, name) for service in operations.services if hasattr(service, name))


def _once(name: str) -> Callable[..., Awaitable[Message]]:
    async def call(self: Operations, request: Message, caller: Identity) -> Message:
        return await self.pools.run(name, _handler(self, name), request, caller)

    return call


def _stream(name: str) -> Callable[..., AsyncIterator[Message]]:
    async def call(self: Operations, request: Message, caller: Identity) -> AsyncIterator[Message]:
        async for answer in _handler(self, name)(request, caller):
            yield answer

    return call


for _rpc in rpcs.of("operations"):
    _make = _stream if METHODS[_rpc.name].server_streaming else _once
    setattr(Operations, _rpc.name, _make(_rpc.name))
