"""The operations deployment: versions, rollouts and training in one small process, of which there is exactly one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ray.serve.handle import DeploymentHandle

from services import logs
from services.jobs.app import Training
from services.overview import overview
from services.pools import Pools
from services.rollout.app import Models, Rollouts
from services.rollout.controller import RolloutController
from vouch.settings import Settings
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.records import now


class Operations:
    """Hands each RPC to the part that it belongs to, on a worker thread."""

    def __init__(self, settings: Settings, generation: DeploymentHandle, reward: DeploymentHandle) -> None:
        logs.leave_out_refusals()
        catalog = Catalog(settings.resolved_catalog_url)
        registry = Registry(catalog, settings.folder.models, settings.models_url)
        handles = {"generator": generation, "reward": reward}
        controller = RolloutController(
            catalog, registry, lambda slot: _notify(handles[slot]), settings.rollout.steps_percent
        )
        self._catalog, self._controller, self._started_at = catalog, controller, now()
        self._models = Models(catalog, registry, controller)
        self._rollouts = Rollouts(catalog, self._models, controller)
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

    async def CancelRun(self, request: Any) -> Any:
        return await self._pools.run("CancelRun", self._training.cancel, request)

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


def _notify(handle: DeploymentHandle) -> None:
    """Tell every replica to look at once. One that misses it looks within half a second anyway."""
    handle.broadcast("notify")
