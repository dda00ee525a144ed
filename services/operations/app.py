"""The operations deployment: versions, rollouts and training in one small process, of which there is exactly one."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from ray.serve.handle import DeploymentHandle

import vouch
from services import logs, metrics
from services.generation.orders import Drawn, DrawOrder
from services.jobs.app import Training
from services.overview import overview
from services.pools import Pools
from services.processes import MARK
from services.rollout.app import Account, Models, Rollouts
from services.rollout.comparison import Comparison
from services.rollout.controller import NoObserver, RolloutController
from services.rollout.judge_process import JudgeProcess, judge_command
from services.rollout.meter import Meter
from services.rollout.replay import Replays
from vouch.settings import Settings
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.records import now

DRAW_S = 300.0
"""Seconds that a comparison or a replay waits for its image behind the requests of clients."""
STARTER_JUDGE = Path(vouch.__file__).parent / "starter" / "judge"


class Operations:
    """Hands each RPC to the part that it belongs to, on a worker thread."""

    def __init__(self, settings: Settings, generation: DeploymentHandle, reward: DeploymentHandle) -> None:
        logs.leave_out_refusals()
        catalog = Catalog(settings.resolved_catalog_url)
        registry = Registry(catalog, settings.folder.models)
        handles = {"generator": generation, "reward": reward}
        blobs = BlobStore(settings.resolved_blobs_url)

        def draw(order: DrawOrder) -> list[Drawn]:
            drawn: list[Drawn] = generation.draw_all.remote(order).result(timeout_s=DRAW_S)
            return drawn

        controller = RolloutController(
            catalog,
            registry,
            lambda slot: _hurry(handles[slot]),
            settings.rollout.steps_percent,
            observer=_observer(settings, catalog, blobs, draw),
            system=os.environ.get(MARK, ""),
        )
        self._catalog, self._controller, self._started_at = catalog, controller, now()
        self._models = Models(catalog, registry, controller)
        self._rollouts = Rollouts(catalog, self._models, controller)
        self._account = Account(catalog, registry, self._models, Replays(catalog, blobs, draw))
        self._training = Training(settings, catalog, self._models)
        self._pools = Pools()

    # ---- models

    async def ListVersions(self, request: Any) -> Any:
        return await self._pools.run("ListVersions", self._models.list_versions, request)

    async def GetVersion(self, request: Any) -> Any:
        return await self._pools.run("GetVersion", self._models.get_version, request)

    async def GetServing(self, request: Any) -> Any:
        return await self._pools.run("GetServing", self._models.get_serving, request)

    async def GetLineage(self, request: Any) -> Any:
        return await self._pools.run("GetLineage", self._models.get_lineage, request)

    # ---- rollouts

    async def StartRollout(self, request: Any, actor: str) -> Any:
        return await self._pools.run("StartRollout", self._rollouts.start, request, actor)

    async def PromoteRollout(self, request: Any, actor: str) -> Any:
        return await self._pools.run("PromoteRollout", self._rollouts.promote, request, actor)

    async def RollBackRollout(self, request: Any, actor: str) -> Any:
        return await self._pools.run("RollBackRollout", self._rollouts.roll_back, request, actor)

    async def PauseRollout(self, request: Any, actor: str) -> Any:
        return await self._pools.run("PauseRollout", self._rollouts.set_paused, request, actor, True)

    async def ResumeRollout(self, request: Any, actor: str) -> Any:
        return await self._pools.run("ResumeRollout", self._rollouts.set_paused, request, actor, False)

    async def GetServingHistory(self, request: Any) -> Any:
        return await self._pools.run("GetServingHistory", self._account.history, request)

    async def ListAuditEntries(self, request: Any) -> Any:
        return await self._pools.run("ListAuditEntries", self._account.entries, request)

    async def VerifyAudit(self, request: Any) -> Any:
        return await self._pools.run("VerifyAudit", self._account.verify, request)

    async def ReplayImage(self, request: Any) -> Any:
        return await self._pools.run("ReplayImage", self._account.replay, request)

    async def GetRollout(self, request: Any) -> Any:
        return await self._pools.run("GetRollout", self._rollouts.get, request.rollout_id)

    async def ListRollouts(self, request: Any) -> Any:
        return await self._pools.run("ListRollouts", self._rollouts.list, request)

    async def WatchRollout(self, request: Any) -> AsyncIterator[Any]:
        async for rollout in self._rollouts.watch(request.rollout_id):
            yield rollout

    # ---- training

    async def StartTraining(self, request: Any, actor: str) -> Any:
        return await self._pools.run("StartTraining", self._training.start, request, actor)

    async def GetRun(self, request: Any) -> Any:
        return await self._pools.run("GetRun", self._training.get, request.run_id)

    async def ListRuns(self, request: Any) -> Any:
        return await self._pools.run("ListRuns", self._training.list, request)

    async def CancelRun(self, request: Any, actor: str) -> Any:
        return await self._pools.run("CancelRun", self._training.cancel, request, actor)

    async def WatchRun(self, request: Any) -> AsyncIterator[Any]:
        async for run in self._training.watch(request.run_id):
            yield run

    # ---- the system itself

    async def overview(self) -> dict[str, Any]:
        """What the web page shows."""
        return await self._pools.run("overview", overview, self._catalog, self._controller, self._started_at)

    async def stop(self) -> None:
        """Before the system goes down: end the training process; its run is resumed at the next start."""
        await self._pools.run("stop", self._training.stop)


def _observer(
    settings: Settings, catalog: Catalog, blobs: BlobStore, draw: Callable[[DrawOrder], list[Drawn]]
) -> Comparison | NoObserver:
    """What measures candidates; nothing where there is no judge for this kind of image."""
    judge = settings.rollout.judge or (STARTER_JUDGE if settings.domain == "blood_cells" else None)
    if judge is None:
        return NoObserver()
    comparison = Comparison(catalog, blobs, draw, JudgeProcess(judge_command(judge)), Meter(metrics.sides))
    comparison.start()
    return comparison


def _hurry(handle: DeploymentHandle) -> None:
    """Tell every replica to look at once. One that misses it looks within half a second anyway."""
    handle.broadcast("hurry")
