"""The generation deployment: the engine and the version that it serves, behind a handle."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

from ray import serve

from services import metrics
from services.convergence import Convergence, Loaded, Routes
from services.generation.models import ServedGenerator, load_version
from services.generation.orders import Description, Drawn, DrawOrder, DrawProgress
from services.generation.routing import Reporter
from services.generation.scaling import RUNNING, WAITING
from services.generation.slots import Finished, ImageRequest
from services.threads import share
from vouch import images
from vouch.catalog import Catalog
from vouch.registry import Registry
from vouch.settings import Settings

SLOT = "generator"


class Generation:
    """One replica: draws what it is ordered with the version that its routing table, or the order, names."""

    def __init__(self, settings: Settings) -> None:
        from services.generation.engine import Engine  # brings torch, which only this process needs

        self._catalog = Catalog(settings.resolved_catalog_url)
        registry = Registry(self._catalog, settings.folder.models)
        self._engine = Engine(
            max_batch=settings.generation.max_batch,
            max_waiting=max(settings.generation.max_queued, 64),
            # The most replicas that there may be share the cores: how many run beside this one is not known here, and
            # the threads stay what they are. Two replicas on two cores take one each.
            threads=settings.generation.threads or share(1.0 / settings.generation.most_replicas),
        )
        self._reporter = Reporter(settings.generation.max_batch)
        self._encoders = ThreadPoolExecutor(2, "encode")
        self._convergence: Convergence[ServedGenerator] = Convergence(
            slot=SLOT,
            replica=serve.get_replica_context().replica_id.unique_id,
            desired=functools.partial(self._catalog.serving.get, SLOT),
            load=functools.partial(_timed_load, registry),
            report=self._catalog.reports.put,
            poll_s=settings.rollout.poll_s,
            on_swap=_count_swap,
        )
        self._convergence.converge()
        self._convergence.start()

    # ---- called through the handle

    async def draw_all(self, order: DrawOrder) -> list[Drawn]:
        """All images of the order, in the order of their seeds. Raises what `draw` raises."""
        drawn = [event async for event in self.draw(order) if isinstance(event, Drawn)]
        return sorted(drawn, key=lambda image: image.index)

    async def draw(self, order: DrawOrder) -> AsyncIterator[DrawProgress | Drawn]:
        """Images as they end, with progress between them when the order asks for it.

        Raises InvalidInput (the prompt has a word that the version never learned), NotFound and CorruptVersion (an
        explicit version), Exhausted (the queue is full), Unavailable (nothing is loaded yet).
        """
        loaded = await self._choose(order)
        served = loaded.model
        label = served.label(order.prompt)
        request = _request(order, served)
        told = 0
        async with aclosing(self._engine.stream(request)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    yield await self._finish(order, request, event, loaded, label)
                elif event.step > told:  # one line for the furthest, not one for each image
                    told = event.step
                    self._note_load()
                    yield DrawProgress(step=event.step, total=event.total)
        self._note_load()

    async def describe(self, request_id: str, version: str) -> Description:
        """What the version understands; "" is the version that a request of this id would get."""
        order = DrawOrder(request_id=request_id, prompt="", seeds=(), indices=(), version=version)
        return (await self._choose(order)).model.describe()

    async def hurry(self) -> None:
        """Broadcast after a rollout step: look at the desired state now."""
        self._convergence.hurry()

    async def check_health(self) -> None:
        self._note_load()
        if not self._engine.alive:
            raise RuntimeError("the engine's thread has ended")

    async def record_routing_stats(self) -> dict[str, float]:
        """Asked by Serve's controller, which hands it to the routers."""
        return self._reporter.report(*self._engine.load())

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked by Serve where replicas come and go."""
        running, waiting = self._engine.load()
        return {RUNNING: running, WAITING: waiting}

    # ---- inside

    def _note_load(self) -> None:
        running, waiting = self._engine.load()
        metrics.RUNNING.set(running)
        metrics.WAITING.set(waiting)

    async def _choose(self, order: DrawOrder) -> Loaded[ServedGenerator]:
        if not order.version:
            return self._convergence.routes.choose(order.request_id)
        return await asyncio.to_thread(self._convergence.version, order.version)

    async def _finish(
        self,
        order: DrawOrder,
        request: ImageRequest,
        done: Finished,
        loaded: Loaded[ServedGenerator],
        label: str,
    ) -> Drawn:
        _observe(done)
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(self._encoders, images.encode_png, done.image)
        return Drawn(
            index=order.indices[done.index],
            data=data,
            width=done.image.shape[1],
            height=done.image.shape[0],
            seed=request.seeds[done.index],
            sampler=loaded.model.generator.sampler,
            steps=request.steps,
            guidance=request.guidance,
            version=loaded.digest,
            version_name=loaded.model.version.name,
            label=label,
            engine_s=done.compute_s,
            waited_s=done.queued_s,
            whole_because=loaded.model.generator.whole_because,
        )


def _request(order: DrawOrder, served: ServedGenerator) -> ImageRequest:
    generator = served.generator
    return ImageRequest(
        model=generator,
        prompt=order.prompt,
        seeds=order.seeds,
        steps=generator.default_steps if order.steps is None else order.steps,
        guidance=generator.default_guidance if order.guidance is None else order.guidance,
        client=order.client,
        progress=order.progress,
    )


def _timed_load(registry: Registry, digest: str) -> ServedGenerator:
    with metrics.LOAD_SECONDS.labels(SLOT).time():
        return load_version(registry, digest)


def _count_swap(routes: Routes[ServedGenerator]) -> None:
    metrics.SWAPS.labels(SLOT).inc()


def _observe(done: Finished) -> None:
    metrics.WAIT_SECONDS.observe(done.queued_s)
    metrics.ENGINE_SECONDS.observe(done.compute_s)
    metrics.BATCH_IMAGES.observe(done.batch)
