"""The reward deployment: decodes images and scores them with the version that its routing table names."""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from ray import serve

from services import logs, metrics
from services.budget import WeightedSemaphore, parts
from services.convergence import Convergence, Loaded, Routes
from services.reward.messages import ScoreReply, ScoreRequest
from services.reward.models import ServedReward, load_version
from services.reward.scorer import Scorer
from services.threads import share, spin_briefly
from vouch.errors import Internal, VouchError
from vouch.formats import images
from vouch.settings import Settings
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.score import ImageScore, ItemError

SLOT = "reward"
PIXELS_OF_A_CALL = (
    images.MAX_PIXELS
)  # decoded at once of one call: the largest image alone, or many small ones
PIXELS_AT_ONCE = 2 * images.MAX_PIXELS  # of all calls together; the others wait


class Reward:
    """One replica. A bad image is an outcome of its own; the others are scored."""

    def __init__(self, settings: Settings) -> None:
        logs.leave_out_refusals()
        spin_briefly()
        self._catalog = Catalog(settings.resolved_catalog_url)
        registry = Registry(self._catalog, settings.folder.models, settings.models_url)
        self._scorer = Scorer(
            max_batch=settings.reward.max_batch,
            max_waiting=settings.reward.max_queued * settings.reward.max_batch,
            threads=settings.reward.threads or share(1.0),
        )
        self._decoders = ThreadPoolExecutor(2, "decode")
        self._threshold = settings.review.threshold
        self._pixels = WeightedSemaphore(PIXELS_AT_ONCE, most_waiting=sys.maxsize, what="images to decode")
        self._convergence: Convergence[ServedReward] = Convergence(
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

    async def score(self, request: ScoreRequest) -> ScoreReply:
        """One outcome per item. Raises NotFound and CorruptVersion (an explicit version), Exhausted, Unavailable."""
        started = time.perf_counter()
        loaded = await self._choose(request.request_id, request.version)
        loop = asyncio.get_running_loop()
        # One job for all of them: handing each to the pool would cost more than a small image's decoding.
        sizes = await loop.run_in_executor(self._decoders, _sizes, [data for data, _ in request.items])
        outcomes: list[ImageScore | ItemError] = []
        for part in parts(sizes, PIXELS_OF_A_CALL):
            async with self._pixels.hold(sum(sizes[part])):
                outcomes += await self._part(loaded.model, request.items[part])
        elapsed = time.perf_counter() - started
        metrics.SCORE_SECONDS.observe(elapsed)
        self._count(loaded.digest, [outcome.score for outcome in outcomes if isinstance(outcome, ImageScore)])
        return ScoreReply(version=loaded.digest, outcomes=tuple(outcomes), score_s=elapsed)

    async def resolve(self, request_id: str, version: str) -> str:
        """The digest of the version that scores a request of this id; loads an explicit one."""
        return (await self._choose(request_id, version)).digest

    async def notify(self) -> None:
        """Broadcast after a rollout step: look at the desired state now."""
        self._convergence.notify()

    async def check_health(self) -> None:
        if not self._scorer.alive:
            raise RuntimeError("the scorer's thread has ended")

    # ---- inside

    def _count(self, digest: str, scores: Sequence[float]) -> None:
        """Rewards by the part that their version plays: its digest would make a series for every version ever."""
        routes = self._convergence.routes
        candidate = routes.candidate.digest if routes.candidate is not None else ""
        role = {routes.champion.digest: "champion", candidate: "candidate"}.get(digest, "named")
        metrics.SCORES.inc(len(scores))
        metrics.ACCEPTED.labels(role).inc(sum(score >= self._threshold for score in scores))
        for score in scores:
            metrics.SCORE_VALUES.labels(role).observe(score)

    async def _choose(self, request_id: str, version: str) -> Loaded[ServedReward]:
        if not version:
            return self._convergence.routes.choose(request_id)
        return await asyncio.to_thread(self._convergence.version, version)

    async def _part(
        self, served: ServedReward, items: Sequence[tuple[bytes, str]]
    ) -> tuple[ImageScore | ItemError, ...]:
        """Decode and score as many items as memory has room for at once."""
        loop = asyncio.get_running_loop()
        decoded = await loop.run_in_executor(self._decoders, _decode_all, [data for data, _ in items])
        return await self._score(served, decoded, [prompt for _, prompt in items])

    async def _score(
        self, served: ServedReward, decoded: Sequence[np.ndarray | ItemError], prompts: Sequence[str]
    ) -> tuple[ImageScore | ItemError, ...]:
        good = [row for row, pixels in enumerate(decoded) if not isinstance(pixels, ItemError)]
        pixels = [item for item in decoded if not isinstance(item, ItemError)]
        futures = self._scorer.submit(served.model, pixels, [prompts[row] for row in good])
        scored = await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
        by_row = dict(zip(good, map(_outcome, scored), strict=True))
        return tuple(by_row.get(row) or _refused(item) for row, item in enumerate(decoded))


def _sizes(items: list[bytes]) -> list[int]:
    """Pixels of each image by its header; 0 where it cannot be decoded."""
    return [_size(data) for data in items]


def _size(data: bytes) -> int:
    try:
        info = images.inspect(data)
    except Exception:  # noqa: BLE001 - decoding says what is wrong with it
        return 0
    return info.width * info.height


def _decode_all(items: list[bytes]) -> list[np.ndarray | ItemError]:
    return [_decode(data) for data in items]


def _decode(data: bytes) -> np.ndarray | ItemError:
    try:
        return images.decode(data)
    except Exception as error:  # noqa: BLE001 - one bad image must not fail the others of its message
        return _refusal(error)


def _outcome(result: ImageScore | BaseException) -> ImageScore | ItemError:
    if isinstance(result, Exception):
        return _refusal(result)
    if isinstance(result, BaseException):  # the call was cancelled
        raise result
    return result


def _refusal(error: Exception) -> ItemError:
    if isinstance(error, VouchError):
        return ItemError(reason=error.reason, message=error.message)
    message = f"The image could not be scored ({type(error).__name__}: {error})."
    return ItemError(reason=Internal.reason, message=message)


def _refused(item: np.ndarray | ItemError) -> ItemError:
    assert isinstance(item, ItemError)
    return item


def _timed_load(registry: Registry, digest: str) -> ServedReward:
    with metrics.LOAD_SECONDS.labels(SLOT).time():
        return load_version(registry, digest)


def _count_swap(routes: Routes[ServedReward]) -> None:
    metrics.SWAPS.labels(SLOT).inc()
