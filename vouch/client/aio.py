"""The client for asyncio. `sync.py`, the one for ordinary code, is made of this file by `make client`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from vouch.client import rpcs
from vouch.client.async_calls import AsyncCalls
from vouch.client.groups import RATINGS, REAL_IMAGES, SCORES, AsyncEntries
from vouch.client.streams import GENERATE_TIMEOUT_S, deadline_of
from vouch.types.account import GetServingHistoryResponse, ReplayImageResponse
from vouch.types.audit import AuditEntry, VerifyAuditResponse
from vouch.types.generation import GenerateImagesResponse, GenerationEvent
from vouch.types.generator import GeneratorDescription
from vouch.types.image import RealImage, StoredImage
from vouch.types.rating import ImportRatingsResponse, ImportRealImagesResponse, NewRating, Rating
from vouch.types.review import DescribeCriteriaResponse, ReviewItem
from vouch.types.rollout import Rollout
from vouch.types.run import Run
from vouch.types.score import ImageScore, ScoreItem, ScoreResult
from vouch.types.serving import GetServingResponse
from vouch.types.token import DescribeCallerResponse
from vouch.types.version import VersionDetails
from vouch.wire import to_value


class AsyncClient(AsyncCalls):
    """A client of a vouch system; create it with `vouch.connect()`, or with `vouch.connect_async()` for asyncio.

    Both clients have the same methods, arguments and errors. Calls of the asynchronous client are awaited, and its
    streams and lists are read with `async for`; it belongs to one event loop. The synchronous client is thread-safe.

    Every method is one RPC of `protos/vouch/v1/`, which documents the units, ranges and defaults of its arguments.
    Mutating calls take a `request_id` and are idempotent by it. Lists fetch their pages as they are read.

    A call that fails because a part of the system died is retried until the part is replaced.

    Every method raises errors of `vouch.errors` only: those of its RPC, and `Unavailable` if no system answers,
    `Unauthenticated`, `PermissionDenied`, and `DeadlineExceeded` after `timeout_s`.
    """

    # ---- generation

    async def generate_images(
        self,
        prompt: str,
        *,
        count: int = 1,
        seed: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        sampler: str = "",
        eta: float = 0.0,
        guidance_method: str = "",
        guidance_start: float | None = None,
        guidance_stop: float | None = None,
        adapter_start: float | None = None,
        negative_prompt: str = "",
        version: str = "",
        score: bool = True,
        reward_version: str = "",
        timeout_s: float = GENERATE_TIMEOUT_S,
        request_id: str = "",
    ) -> GenerateImagesResponse:
        """Generates, scores and stores 1 to 64 images. Versions are names, digests or digest prefixes."""
        request = rpcs.request(
            "GenerateImages", prompt=prompt, count=count, seed=seed, steps=steps, guidance=guidance,
            sampler=sampler, eta=eta, guidance_method=guidance_method, guidance_start=guidance_start,
            guidance_stop=guidance_stop, adapter_start=adapter_start,
            negative_prompt=negative_prompt, version=version, score=score, reward_version=reward_version,
            timeout_s=timeout_s, request_id=request_id,
        )  # fmt: skip
        return to_value(await self._call("GenerateImages", request, deadline_of(timeout_s)))

    def stream_images(
        self,
        prompt: str,
        *,
        count: int = 1,
        seed: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        sampler: str = "",
        eta: float = 0.0,
        guidance_method: str = "",
        guidance_start: float | None = None,
        guidance_stop: float | None = None,
        adapter_start: float | None = None,
        negative_prompt: str = "",
        version: str = "",
        score: bool = True,
        reward_version: str = "",
        timeout_s: float | None = None,
        preview_every: int = 0,
        request_id: str = "",
    ) -> AsyncIterator[GenerationEvent]:
        """Generates 1 to 10,000 images; sends each when it is stored, progress in between, and the summary last.

        Closing the stream stops the generation.

        preview_every: denoising steps from one preview of an image to the next; 0 is none.
        """
        request = rpcs.request(
            "StreamImages", prompt=prompt, count=count, seed=seed, steps=steps, guidance=guidance,
            sampler=sampler, eta=eta, guidance_method=guidance_method, guidance_start=guidance_start,
            guidance_stop=guidance_stop, adapter_start=adapter_start,
            negative_prompt=negative_prompt, version=version, score=score, reward_version=reward_version,
            timeout_s=timeout_s, preview_every=preview_every, request_id=request_id,
        )  # fmt: skip
        return self._listen("StreamImages", request, None if timeout_s is None else deadline_of(timeout_s))

    async def describe_generator(self, version: str = "") -> GeneratorDescription:
        """Vocabulary, defaults and limits of a generator; by default of the serving one."""
        return await self._value("DescribeGenerator", version=version)

    # ---- reward

    async def score_images(
        self, items: Iterable[ScoreItem], *, version: str = "", request_id: str = ""
    ) -> tuple[ImageScore, ...]:
        """Scores of 1 to 64 images in their order; one bad image fails the call."""
        messages = [SCORES.message(item) for item in items]
        return await self._values(
            "ScoreImages", "scores", items=messages, version=version, request_id=request_id
        )

    def score_stream(
        self, items: AsyncEntries[ScoreItem], *, version: str = "", batch: int = 16
    ) -> AsyncIterator[ScoreResult]:
        """Scores of a whole data set in any order, matched by `item_id`; a bad item has an error of its own.

        `items` is read at the speed of scoring; the synchronous client reads it in another thread. An exception of
        `items` is raised here.
        """
        return self._upload_and_listen(SCORES, items, batch, version=version)

    # ---- feedback

    async def record_rating(self, rating: NewRating) -> Rating:
        """Stores a rating, which is durable when this returns. Idempotent by `request_id`."""
        return await self._value("RecordRating", request_id=rating.request_id, rating=RATINGS.message(rating))

    async def import_ratings(
        self, ratings: AsyncEntries[NewRating], *, batch: int = 100
    ) -> ImportRatingsResponse:
        """Stores many ratings. A `Rating` keeps its id and time, so that an export can be imported, even twice."""
        return await self._upload(RATINGS, ratings, batch)

    async def import_real_images(
        self, images: AsyncEntries[RealImage], *, batch: int = 32
    ) -> ImportRealImagesResponse:
        """Stores labelled real images, which reviews hide among generated ones. The same image is stored once."""
        return await self._upload(REAL_IMAGES, images, batch)

    def list_ratings(
        self,
        *,
        image_digest: str = "",
        rater: str = "",
        kind: str = "",
        generator_version: str = "",
        include_superseded: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[Rating]:
        """Ratings, newest first. `kind` is "human" or "simulated"."""
        return self._pages(
            "ListRatings", "ratings", limit, image_digest=image_digest, rater=rater, kind=kind,
            generator_version=generator_version, include_superseded=include_superseded,
        )  # fmt: skip

    async def next_for_review(
        self, rater: str, *, count: int = 1, generator_version: str = "", label: str = "", kind: str = ""
    ) -> tuple[ReviewItem, ...]:
        """At most `count` images for this rater; none if no new image is left.

        Most are new to the rater. Hidden among them are real images and images that the rater has rated once: a second
        rating of an image is allowed, and both are kept.
        """
        return await self._values(
            "NextForReview", "items", rater=rater, count=count, generator_version=generator_version, label=label,
            kind=kind,
        )  # fmt: skip

    async def describe_criteria(self, domain: str = "") -> DescribeCriteriaResponse:
        """The questions of a rating."""
        return await self._value("DescribeCriteria", domain=domain)

    async def describe_caller(self) -> DescribeCallerResponse:
        """Name, role and rights of this client's token."""
        return await self._value("DescribeCaller")

    async def get_image(self, digest: str) -> StoredImage:
        """A stored image with its bytes and provenance."""
        return await self._value("GetImage", digest=digest)

    def list_images(
        self, *, generator_version: str = "", label: str = "", request_id: str = "", limit: int | None = None
    ) -> AsyncIterator[StoredImage]:
        """Stored images without their bytes, newest first."""
        filters = {"generator_version": generator_version, "label": label, "request_id": request_id}
        return self._pages("ListImages", "images", limit, **filters)

    # ---- models

    def list_versions(self, *, kind: str = "", limit: int | None = None) -> AsyncIterator[VersionDetails]:
        """Versions, newest first. `kind` is "generator", "reward", "rater" or "judge"."""
        return self._pages("ListVersions", "versions", limit, kind=kind)

    async def get_version(self, version: str) -> VersionDetails:
        """One version in full, by name, digest or digest prefix."""
        return await self._value("GetVersion", version=version)

    async def get_serving(self, slot: str = "") -> GetServingResponse:
        """The desired state of each slot, and what each replica serves."""
        return await self._value("GetServing", slot=slot)

    async def get_lineage(self, version: str) -> tuple[VersionDetails, ...]:
        """A version and its ancestors, the version first."""
        return await self._values("GetLineage", "versions", version=version)

    # ---- rollout

    async def start_rollout(
        self,
        version: str,
        *,
        percent: int | None = None,
        steps: Sequence[int] = (),
        hold_s: float | None = None,
        shadow: bool = False,
        sticky: bool = False,
        force: bool = False,
        dry_run: bool = False,
        reason: str = "",
        request_id: str = "",
    ) -> Rollout:
        """Verifies a version and its evidence, and gives it its first share of new requests, 5 % by default.

        With steps, hold_s or shadow the rollout is automatic. force, with a reason, starts it against its evidence;
        dry_run changes nothing.
        """
        return await self._value(
            "StartRollout",
            version=version,
            percent=percent,
            steps=list(steps),
            hold_s=hold_s,
            shadow=shadow,
            sticky=sticky,
            force=force,
            dry_run=dry_run,
            reason=reason,
            request_id=request_id,
        )

    async def pause_rollout(self, rollout_id: str, *, reason: str = "", request_id: str = "") -> Rollout:
        """Pauses automatic promotion; automatic rollback stays on."""
        return await self._value("PauseRollout", rollout_id=rollout_id, reason=reason, request_id=request_id)

    async def resume_rollout(self, rollout_id: str, *, reason: str = "", request_id: str = "") -> Rollout:
        """Resumes automatic promotion."""
        return await self._value("ResumeRollout", rollout_id=rollout_id, reason=reason, request_id=request_id)

    async def get_serving_history(
        self, *, at: datetime | None = None, slot: str = ""
    ) -> GetServingHistoryResponse:
        """The desired state at that time, who decided it, and whose ratings the versions were trained on."""
        return await self._value("GetServingHistory", at=at, slot=slot)

    def list_audit_entries(self, *, limit: int | None = None) -> AsyncIterator[AuditEntry]:
        """Entries of the audit log, newest first."""
        return self._pages("ListAuditEntries", "entries", limit)

    async def verify_audit(self, *, head: str = "") -> VerifyAuditResponse:
        """Whether every entry of the audit log is unchanged, and the log still contains the given head."""
        return await self._value("VerifyAudit", head=head)

    async def replay_image(self, digest: str) -> ReplayImageResponse:
        """Generates a served image again from its record, and compares the two."""
        return await self._value("ReplayImage", digest=digest)

    async def promote_rollout(
        self, rollout_id: str, *, percent: int | None = None, reason: str = "", request_id: str = ""
    ) -> Rollout:
        """Gives the candidate its next share, or `percent`; 100 makes it the champion."""
        return await self._value(
            "PromoteRollout", rollout_id=rollout_id, percent=percent, reason=reason, request_id=request_id
        )

    async def roll_back_rollout(self, rollout_id: str, *, reason: str = "", request_id: str = "") -> Rollout:
        """Removes the candidate, or restores the previous champion."""
        return await self._value(
            "RollBackRollout", rollout_id=rollout_id, reason=reason, request_id=request_id
        )

    async def get_rollout(self, rollout_id: str) -> Rollout:
        """One rollout."""
        return await self._value("GetRollout", rollout_id=rollout_id)

    def watch_rollout(self, rollout_id: str) -> AsyncIterator[Rollout]:
        """The rollout now and at every change, until it has ended and every replica has converged."""
        return self._listen("WatchRollout", rpcs.request("WatchRollout", rollout_id=rollout_id))

    def list_rollouts(
        self, *, slot: str = "", state: str = "", limit: int | None = None
    ) -> AsyncIterator[Rollout]:
        """Rollouts, newest first."""
        return self._pages("ListRollouts", "rollouts", limit, slot=slot, state=state)

    # ---- training

    async def start_training(
        self, kind: str, config: Mapping[str, Any] | None = None, *, request_id: str = ""
    ) -> Run:
        """Queues a run: "pretrain", "reward", "align", "concept", "adapt" or "evaluate"."""
        return await self._value("StartTraining", kind=kind, config=config or {}, request_id=request_id)

    async def get_run(self, run_id: str) -> Run:
        """One run."""
        return await self._value("GetRun", run_id=run_id)

    def list_runs(self, *, kind: str = "", state: str = "", limit: int | None = None) -> AsyncIterator[Run]:
        """Runs, newest first."""
        return self._pages("ListRuns", "runs", limit, kind=kind, state=state)

    async def cancel_run(self, run_id: str, *, request_id: str = "") -> Run:
        """Cancels a queued or running run."""
        return await self._value("CancelRun", run_id=run_id, request_id=request_id)

    def watch_run(self, run_id: str) -> AsyncIterator[Run]:
        """The run now and at every change, until it has ended."""
        return self._listen("WatchRun", rpcs.request("WatchRun", run_id=run_id))
