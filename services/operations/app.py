"""The operations deployment: versions, rollouts and training in one small process, of which there is exactly one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.message import Message
from ray.serve.handle import DeploymentHandle

from services import logs
from services.identity import Identity
from services.jobs.app import TrainingService
from services.overview import overview
from services.pools import Pools
from services.rollout.app import RolloutService
from services.rollout.controller import RolloutController
from services.versions.app import ModelsService
from vouch import rpcs
from vouch.client.rpcs import METHODS
from vouch.settings import Settings
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.clock import now


class Operations:
    """Hands each RPC to the service that it belongs to: one that answers once on a thread of its own pool."""

    def __init__(self, settings: Settings, generation: DeploymentHandle, reward: DeploymentHandle) -> None:
        logs.leave_out_refusals()
        catalog = Catalog(settings.resolved_catalog_url)
        registry = Registry(catalog, settings.folder.models, settings.models_url)
        handles = {"generator": generation, "reward": reward}
        controller = RolloutController(
            catalog, registry, lambda slot: _notify(handles[slot]), settings.rollout.steps_percent
        )
        self._catalog, self._controller, self._started_at = catalog, controller, now()
        self._training = TrainingService(settings, catalog)
        self.services = (
            ModelsService(catalog, registry, controller),
            RolloutService(catalog, controller),
            self._training,
        )
        self.pools = Pools()

    # ---- the system itself

    async def overview(self) -> dict[str, Any]:
        """What the web page shows."""
        return await self.pools.run("overview", overview, self._catalog, self._controller, self._started_at)

    async def stop(self) -> None:
        """Before the system goes down: end the training process; its run is resumed at the next start."""
        await self.pools.run("stop", self._training.stop)


def _notify(handle: DeploymentHandle) -> None:
    """Tell every replica to look at once. One that misses it looks within half a second anyway."""
    handle.broadcast("notify")


def _handler(operations: Operations, name: str) -> Callable[..., Any]:
    """The method of this name of the service that has it."""
    return next(getattr(service, name) for service in operations.services if hasattr(service, name))


def _once(name: str) -> Callable[..., Any]:
    async def call(self: Operations, request: Message, caller: Identity) -> Message:
        return await self.pools.run(name, _handler(self, name), request, caller)

    return call


def _stream(name: str) -> Callable[..., Any]:
    async def call(self: Operations, request: Message, caller: Identity) -> AsyncIterator[Message]:
        async for answer in _handler(self, name)(request, caller):
            yield answer

    return call


for _rpc in rpcs.of("operations"):
    _make = _stream if METHODS[_rpc.name].server_streaming else _once
    setattr(Operations, _rpc.name, _make(_rpc.name))
