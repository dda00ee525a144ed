"""The generation deployment: the engine and the version that it serves, behind a handle."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path
from ray import serve

from services import logs, metrics
from services.convergence import Convergence, Loaded, Routes
from services.generation.metered import Metered
from services.generation.models import Loader, ServedGenerator
from services.generation.orders import (
    COMPARISON,
    Description,
    Drawn,
    DrawOrder,
    DrawPreview,
    DrawProgress,
)
from services.generation.routing import Reporter
from services.generation.scaling import RUNNING, WAITING
from services.generation.sides import counted, side_of
from services.generation.slots import Finished, ImageRequest, Preview
from services.threads import cores, share
from vouch.formats import images
from vouch.settings import Settings
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.samplers import sampler_name

SLOT = "generator"


class Generation:
    """One replica: draws what it is ordered with the version that its routing table, or the order, names."""

    def __init__(self, settings: Settings) -> None:
        # They bring torch, which only this process needs.
        from services.generation.engine import Engine
        from services.generation.workshop import Workshop

        logs.leave_out_refusals()
        self._catalog = Catalog(settings.resolved_catalog_url)
        registry = Registry(self._catalog, settings.folder.models)
        # The most replicas that there may be share the cores: how many run beside this one is not known here, and the
        # threads stay what they are. Two replicas on two cores take one each.
        threads = settings.generation.threads or share(1.0 / settings.generation.most_replicas)
        self._engine = Engine(
            max_batch=settings.generation.max_batch,
            step_rows=settings.generation.step_rows,
            max_waiting=max(settings.generation.max_queued, 64),
            threads=threads,
            beside=settings.generation.gpus > 0 or threads * settings.generation.most_replicas < cores(),
            encode=_encoded,
            observer=Metered(),
        )
        device = "cuda" if settings.generation.gpus else "cpu"
        self._workshop = Workshop(_packages(settings), settings.generation.precision, device)
        self._reporter = Reporter(settings.generation.max_batch)
        self._convergence: Convergence[ServedGenerator] = Convergence(
            slot=SLOT,
            replica=serve.get_replica_context().replica_id.unique_id,
            desired=functools.partial(self._catalog.serving.get, SLOT),
            load=functools.partial(_timed_load, Loader(registry, self._workshop.equip, device)),
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

    async def draw(self, order: DrawOrder) -> AsyncIterator[DrawProgress | DrawPreview | Drawn]:
        """Images as they end, with progress and previews between them when the order asks for them.

        Raises InvalidInput (the prompt has a word that the version never learned, or it cannot draw with the sampler
        or the guidance), NotFound and CorruptVersion (an explicit version), Exhausted (the queue is full), Unavailable
        (nothing is loaded yet), DeadlineExceeded.
        """
        loaded = await self._choose(order)
        served = loaded.model
        label = served.label(order.prompt)
        request = _request(order, served)
        told = 0
        side = "" if order.client == COMPARISON else side_of(self._convergence.routes, loaded.digest)
        with counted(side):
            async with aclosing(self._engine.stream(request)) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        yield _drawn(order, request, event, loaded, label)
                    elif isinstance(event, Preview):
                        yield _preview(order, event)
                    elif event.step > told:  # one line for the furthest, not one for each image
                        told = event.step
                        self._note_load()
                        yield DrawProgress(step=event.step, total=event.total)
        self._note_load()

    async def describe(self, request_id: str, version: str, client: str = "") -> Description:
        """What the version understands; "" is the version that a request of this id and client would get."""
        order = DrawOrder(
            request_id=request_id, prompt="", seeds=(), indices=(), version=version, client=client
        )
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
            return self._convergence.routes.choose(order.request_id, order.client)
        return await asyncio.to_thread(self._convergence.version, order.version)


@dataclass(frozen=True)
class Picture:
    """An image as it leaves the engine."""

    data: bytes
    width: int
    height: int


def _encoded(image: np.ndarray) -> Picture:
    return Picture(images.encode_png(image), image.shape[1], image.shape[0])


def _preview(order: DrawOrder, event: Preview) -> DrawPreview:
    index = order.indices[event.index]
    return DrawPreview(index=index, step=event.step, total=event.total, data=event.image.data)


def _drawn(
    order: DrawOrder, request: ImageRequest, done: Finished, loaded: Loaded[ServedGenerator], label: str
) -> Drawn:
    metrics.ENGINE_SECONDS.observe(done.compute_s)
    generator = loaded.model.generator
    return Drawn(
        index=order.indices[done.index],
        data=done.image.data,
        width=done.image.width,
        height=done.image.height,
        seed=request.seeds[done.index],
        sampler=sampler_name(order.sampler or generator.sampler, order.eta),
        steps=request.steps,
        guidance=request.guidance,
        options=request.options,
        version=loaded.digest,
        version_name=loaded.model.version.name,
        label=label,
        engine_s=done.compute_s,
        waited_s=done.queued_s,
        whole_because=generator.whole_because,
    )


def _request(order: DrawOrder, served: ServedGenerator) -> ImageRequest:
    generator = served.generator
    guidance = generator.default_guidance if order.guidance is None else order.guidance
    options = order.choice.upon(generator.default_options)
    generator.check_sampler(order.sampler, order.eta)
    generator.check_guidance(guidance, options)
    return ImageRequest(
        model=generator,
        prompt=order.prompt,
        seeds=order.seeds,
        steps=generator.default_steps if order.steps is None else order.steps,
        guidance=guidance,
        options=options,
        client=order.client,
        progress=order.progress,
        sampler=order.sampler,
        eta=order.eta,
        preview_every=order.preview_every,
        deadline=math.inf if order.timeout_s is None else time.monotonic() + order.timeout_s,
    )


def _packages(settings: Settings) -> Path | None:
    """Where compiled code is kept: with the user, so that another state folder need not pay for it again."""
    if not settings.generation.compile:
        return None
    return settings.generation.packages or Path(user_cache_path("vouch")) / "compiled"


def _timed_load(loader: Loader, digest: str) -> ServedGenerator:
    with metrics.LOAD_SECONDS.labels(SLOT).time():
        return loader.load(digest)


def _count_swap(routes: Routes[ServedGenerator]) -> None:
    metrics.SWAPS.labels(SLOT).inc()
