"""The generation deployment: the engine and the version that it serves, behind a handle."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from platformdirs import user_cache_path
from ray import serve

from services import logs, metrics
from services.convergence import Convergence, Loaded, Routes
from services.generation.engine_trace import EngineTrace
from services.generation.metrics_observer import MetricsObserver
from services.generation.models import Loader, ServedGenerator
from services.generation.routing import Reporter
from services.generation.scaling import RUNNING, WAITING
from services.generation.sides import counted, role_of
from services.generation.slots import Finished, Preview
from services.threads import cores, share
from vouch.formats import images
from vouch.settings import Settings
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.generation import GeneratedImage, GenerationProgress, GenerationRequest, ImagePreview
from vouch.types.generator import GeneratorDescription
from vouch.types.samplers import sampler_name

SLOT = "generator"
MEDIA_TYPE = "image/png"


class Generation:
    """One replica: generates images with the version of its routing table or of the request."""

    def __init__(self, settings: Settings) -> None:
        # They bring torch, which only this process needs.
        from services.generation.engine import Engine
        from services.generation.kernel_cache import KernelCache

        logs.leave_out_refusals()
        self._catalog = Catalog(settings.resolved_catalog_url)
        registry = Registry(self._catalog, settings.folder.models, settings.models_url)
        # The most replicas that there may be share the cores: how many run beside this one is not known here, and the
        # threads stay what they are. Two replicas on two cores take one each.
        threads = settings.generation.threads or share(1.0 / settings.generation.most_replicas)
        self._engine = Engine(
            max_batch=settings.generation.max_batch,
            step_rows=settings.generation.step_rows,
            max_waiting=max(settings.generation.max_queued, 64),
            threads=threads,
            background=settings.generation.gpus > 0 or threads * settings.generation.most_replicas < cores(),
            encode=images.encode_png,
            observer=MetricsObserver(),
        )
        device = "cuda" if settings.generation.gpus else "cpu"
        self._kernels = KernelCache(_packages(settings), settings.generation.precision, device)
        self._reporter = Reporter(settings.generation.max_batch)
        self._convergence: Convergence[ServedGenerator] = Convergence(
            slot=SLOT,
            replica=serve.get_replica_context().replica_id.unique_id,
            desired=functools.partial(self._catalog.serving.get, SLOT),
            load=functools.partial(_timed_load, Loader(registry, self._kernels.attach, device)),
            report=self._catalog.reports.put,
            poll_s=settings.rollout.poll_s,
            on_swap=_count_swap,
        )
        self._convergence.converge()
        self._convergence.start()

    # ---- called through the handle

    async def generate(self, request: GenerationRequest) -> list[GeneratedImage]:
        """All images of the request, in the order of their seeds. Raises what `stream` raises."""
        images = [event async for event in self.stream(request) if isinstance(event, GeneratedImage)]
        return sorted(images, key=lambda image: image.index)

    async def stream(
        self, request: GenerationRequest
    ) -> AsyncIterator[GenerationProgress | ImagePreview | GeneratedImage]:
        """Images as they end, with progress and previews between them when the request asks for them.

        Raises InvalidInput (the prompt has a word that the version never learned, or it cannot draw with the sampler
        or the guidance), NotFound and CorruptVersion (an explicit version), Exhausted (the queue is full), Unavailable
        (nothing is loaded yet), DeadlineExceeded.
        """
        loaded = await self._choose(request.request_id, request.version, request.client)
        furthest = 0  # step that was reported
        trace = EngineTrace(request.trace, len(request.seeds))
        with counted(role_of(self._convergence.routes, request, loaded.digest)):
            wanted, request = request.progress, _decided(request, loaded.model)
            label = loaded.model.label(request.prompt)
            if request.negative_prompt:
                loaded.model.label(request.negative_prompt)
            async with aclosing(self._engine.stream(loaded.model.generator, request)) as events:
                async for event in events:
                    trace.note(event)
                    if isinstance(event, Finished):
                        yield _image(request, event, loaded, label)
                    elif isinstance(event, Preview):
                        yield _preview(request, event)
                    elif event.step > furthest:  # one event for the furthest image, not one for each
                        furthest = event.step
                        self._note_load()
                        if not wanted:  # only the trace asked
                            continue
                        yield GenerationProgress(step=event.step, total_steps=event.total)
        self._note_load()

    async def describe(self, request_id: str, version: str, client: str = "") -> GeneratorDescription:
        """Describes a version; "" is the version for a request with this id and client."""
        return (await self._choose(request_id, version, client)).model.describe()

    async def notify(self) -> None:
        """Broadcast after a rollout step: look at the desired state now."""
        self._convergence.notify()

    async def check_health(self) -> None:
        self._note_load()
        if not self._engine.alive:
            raise RuntimeError("the engine's thread has ended")

    async def record_routing_stats(self) -> dict[str, float]:
        """Called by Serve's controller, which passes the result to the routers."""
        return self._reporter.report(*self._engine.load())

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Serve for autoscaling."""
        running, waiting = self._engine.load()
        return {RUNNING: running, WAITING: waiting}

    # ---- inside

    def _note_load(self) -> None:
        running, waiting = self._engine.load()
        metrics.RUNNING.set(running)
        metrics.WAITING.set(waiting)

    async def _choose(self, request_id: str, version: str, client: str) -> Loaded[ServedGenerator]:
        if not version:
            return self._convergence.routes.choose(request_id, client)
        return await asyncio.to_thread(self._convergence.version, version)


def _preview(request: GenerationRequest, event: Preview) -> ImagePreview:
    return ImagePreview(
        index=request.index(event.index),
        step=event.step,
        total_steps=event.total,
        data=event.image,
        media_type=MEDIA_TYPE,
    )


def _image(
    request: GenerationRequest, done: Finished, loaded: Loaded[ServedGenerator], label: str
) -> GeneratedImage:
    metrics.ENGINE_SECONDS.observe(done.compute_s)
    generator = loaded.model.generator
    assert request.steps is not None and request.guidance is not None
    options = request.guidance_options
    return GeneratedImage(
        index=request.index(done.index),
        data=done.image,
        media_type=MEDIA_TYPE,
        width=generator.width,
        height=generator.height,
        prompt=request.prompt,
        seed=request.seeds[done.index],
        sampler=sampler_name(request.sampler or generator.sampler, request.eta),
        steps=request.steps,
        guidance=request.guidance,
        guidance_method=options.method,
        guidance_start=options.start,
        guidance_stop=options.stop,
        adapter_start=options.adapter_start,
        negative_prompt=options.negative_prompt,
        generator_version=loaded.digest,
        generator_name=loaded.model.version.name,
        label=label,
        engine_s=done.compute_s,
        fallback_reason=generator.fallback_reason,
    )


def _decided(request: GenerationRequest, served: ServedGenerator) -> GenerationRequest:
    """The request with the version's defaults filled in. Raises InvalidInput."""
    generator = served.generator
    guidance = generator.default_guidance if request.guidance is None else request.guidance
    options = request.choice.upon(generator.default_options)
    generator.check_sampler(request.sampler, request.eta)
    generator.check_guidance(guidance, options)
    return replace(
        request,
        steps=generator.default_steps if request.steps is None else request.steps,
        guidance=guidance,
        guidance_method=options.method,
        guidance_start=options.start,
        guidance_stop=options.stop,
        adapter_start=options.adapter_start,
        progress=request.progress or bool(request.trace),
    )


def _packages(settings: Settings) -> Path | None:
    """Folder for compiled code: the user's, so that all state folders share it."""
    if not settings.generation.compile:
        return None
    return settings.generation.packages or Path(user_cache_path("vouch")) / "compiled"


def _timed_load(loader: Loader, digest: str) -> ServedGenerator:
    with metrics.LOAD_SECONDS.labels(SLOT).time():
        return loader.load(digest)


def _count_swap(routes: Routes[ServedGenerator]) -> None:
    metrics.SWAPS.labels(SLOT).inc()
