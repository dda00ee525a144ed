"""The client for asyncio: the methods of `vouch.client.sync.Client`, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from types import TracebackType
from typing import Any

import grpc
from google.protobuf.message import Message

from vouch.client import rpcs, values
from vouch.client.convert import from_rating, to_value
from vouch.client.endpoint import Endpoint
from vouch.client.failures import as_vouch_error
from vouch.client.repeats import PATIENCE_S, Repeats
from vouch.client.streams import GENERATE_TIMEOUT_S, AsyncRemembering, deadline_of, flattened
from vouch.types.records import NewRating, Rating


class AsyncClient:
    """Calls a vouch system from one event loop; make one with `vouch.connect_async()`.

    The methods, their arguments and their errors are those of `vouch.client.Client`. Calls are awaited; streams and
    lists are read with `async for`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        timeout_s: float = 60.0,
        page_size: int = 500,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.address = endpoint.address
        self._patience_s = patience_s
        self._answered = False  # whether the system has ever answered this client
        self._timeout_s = timeout_s
        self._page_size = page_size  # records that a list asks for at once
        self._metadata = endpoint.metadata
        self._endpoint = endpoint
        self._channel: Any = None
        self._calls: dict[str, Any] = {}

    def _callable(self, rpc: str) -> Any:
        if self._channel is None:
            # Only now, because a channel belongs to the event loop that it was made in.
            self._channel = self._endpoint.open(grpc.aio)
        if rpc not in self._calls:
            self._calls[rpc] = getattr(self._channel, rpcs.arity(rpc))(
                rpcs.path(rpc),
                request_serializer=rpcs.request_class(rpc).SerializeToString,
                response_deserializer=rpcs.answer_class(rpc).FromString,
            )
        return self._calls[rpc]

    async def close(self) -> None:
        """Ends every call under way; the client cannot be used afterwards."""
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---- the ways to call

    async def _call(self, rpc: str, request: Any, timeout_s: float | None) -> Any:
        repeats = self._repeats(timeout_s)
        while True:
            try:
                answer = await self._callable(rpc)(request, timeout=repeats.left_s, metadata=self._metadata)
            except grpc.RpcError as error:
                wait_s = repeats.wait_s(error) if isinstance(request, Message) else None
                if wait_s is None:
                    raise as_vouch_error(error, self.address) from None
                await asyncio.sleep(wait_s)
            else:
                self._answered = True
                return answer

    def _repeats(self, timeout_s: float | None) -> Repeats:
        return Repeats(timeout_s, self._patience_s, self._endpoint.is_up, known=self._answered)

    async def _ask(self, rpc: str, **fields: Any) -> Any:
        return await self._call(rpc, rpcs.request(rpc, **fields), self._timeout_s)

    async def _value(self, rpc: str, **fields: Any) -> Any:
        return to_value(await self._ask(rpc, **fields))

    async def _listen(
        self, rpc: str, request: Any, timeout_s: float | None = None
    ) -> AsyncGenerator[Any, None]:
        repeats = self._repeats(timeout_s)
        while True:
            call = self._callable(rpc)(request, timeout=repeats.left_s, metadata=self._metadata)
            try:
                async for answer in call:
                    self._answered = True
                    if repeats.is_new(answer):
                        for value in flattened(answer):
                            yield value
                return
            except grpc.RpcError as error:
                wait_s = repeats.wait_s(error) if isinstance(request, Message) else None
                if wait_s is None:
                    raise as_vouch_error(error, self.address) from None
                await asyncio.sleep(wait_s)
            finally:
                call.cancel()

    async def _pages(self, rpc: str, items: str, limit: int | None, **filters: Any) -> AsyncIterator[Any]:
        token, left = "", limit
        while left is None or left > 0:
            size = self._page_size if left is None else min(self._page_size, left)
            page = await self._ask(rpc, page_size=size, page_token=token, **filters)
            found = getattr(page, items)
            for message in found:
                yield to_value(message)
            token, left = page.next_page_token, None if left is None else left - len(found)
            if not token:
                return

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
        version: str = "",
        score: bool = True,
        reward_version: str = "",
        timeout_s: float = GENERATE_TIMEOUT_S,
        request_id: str = "",
    ) -> values.GenerateImagesResponse:
        """1 to 64 images, scored and stored. `version` and `reward_version` are names, digests or prefixes."""
        request = rpcs.request(
            "GenerateImages", prompt=prompt, count=count, seed=seed, steps=steps, guidance=guidance,
            sampler=sampler, eta=eta, guidance_method=guidance_method, guidance_start=guidance_start,
            guidance_stop=guidance_stop, adapter_start=adapter_start, version=version, score=score,
            reward_version=reward_version,
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
        version: str = "",
        score: bool = True,
        reward_version: str = "",
        timeout_s: float | None = None,
        preview_every: int = 0,
        request_id: str = "",
    ) -> AsyncIterator[values.GenerationEvent]:
        """1 to 10,000 images as they are done, progress between them, the summary last. Leaving stops the drawing.

        preview_every: denoising steps from one preview of an image to the next; 0 is none.
        """
        request = rpcs.request(
            "StreamImages", prompt=prompt, count=count, seed=seed, steps=steps, guidance=guidance,
            sampler=sampler, eta=eta, guidance_method=guidance_method, guidance_start=guidance_start,
            guidance_stop=guidance_stop, adapter_start=adapter_start, version=version, score=score,
            reward_version=reward_version,
            timeout_s=timeout_s, preview_every=preview_every, request_id=request_id,
        )  # fmt: skip
        return self._listen("StreamImages", request, None if timeout_s is None else deadline_of(timeout_s))

    async def describe_generator(self, version: str = "") -> values.DescribeGeneratorResponse:
        """Vocabulary, defaults and limits of a generator, by default of the one that serves."""
        return await self._value("DescribeGenerator", version=version)

    # ---- reward

    async def score_images(
        self, items: Iterable[values.ScoreItem], *, version: str = "", request_id: str = ""
    ) -> tuple[values.ImageScore, ...]:
        """Scores of 1 to 64 images in their order; one bad image fails the call."""
        messages = [rpcs.score_item(item) for item in items]
        answer = await self._ask("ScoreImages", items=messages, version=version, request_id=request_id)
        return tuple(map(to_value, answer.scores))

    async def score_stream(
        self,
        items: Iterable[values.ScoreItem] | AsyncIterable[values.ScoreItem],
        *,
        version: str = "",
        batch: int = 16,
    ) -> AsyncIterator[values.ScoreResult]:
        """Scores of a whole data set in any order, matched by `item_id`; a bad item brings its own error.

        `items` is read as fast as the scoring goes; what it raises is raised here.
        """
        sent = AsyncRemembering(rpcs.ascore_requests(items, version, batch))
        try:
            # Closed at once when the reader leaves, not when the garbage collector comes by.
            async with aclosing(self._listen("ScoreStream", sent)) as results:
                async for result in results:
                    yield result
        finally:
            sent.raise_again()

    # ---- feedback

    async def record_rating(self, rating: NewRating) -> Rating:
        """Stores a verdict; durable when this returns. The same `request_id` twice is one rating."""
        return await self._value("RecordRating", request_id=rating.request_id, rating=from_rating(rating))

    async def import_ratings(
        self, ratings: Iterable[NewRating] | AsyncIterable[NewRating], *, batch: int = 100
    ) -> values.ImportRatingsResponse:
        """Stores many verdicts. A `Rating` keeps its id and time, so an export can be brought back, even twice."""
        sent = AsyncRemembering(rpcs.aimport_requests(ratings, batch))
        try:
            answer = await self._call("ImportRatings", sent, None)
        finally:
            sent.raise_again()
        return to_value(answer)

    async def import_real_images(
        self, images: Iterable[values.RealImage] | AsyncIterable[values.RealImage], *, batch: int = 32
    ) -> values.ImportRealImagesResponse:
        """Stores labelled real images, which reviews hide among drawn ones. The same image twice is one."""
        sent = AsyncRemembering(rpcs.areal_requests(images, batch))
        try:
            answer = await self._call("ImportRealImages", sent, None)
        finally:
            sent.raise_again()
        return to_value(answer)

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
    ) -> tuple[values.ReviewItem, ...]:
        """Images for this rater, at most `count`; none when nothing new is left.

        Most are new to them. Hidden between these are some real ones and some that they have rated once: a second
        rating of an image is welcome, both are kept.
        """
        answer = await self._ask(
            "NextForReview",
            rater=rater,
            count=count,
            generator_version=generator_version,
            label=label,
            kind=kind,
        )
        return tuple(map(to_value, answer.items))

    async def describe_criteria(self, domain: str = "") -> values.DescribeCriteriaResponse:
        """The questions that a rating answers."""
        return await self._value("DescribeCriteria", domain=domain)

    async def describe_caller(self) -> values.DescribeCallerResponse:
        """Who this client's token stands for, and what its ratings may be."""
        return await self._value("DescribeCaller")

    async def get_image(self, digest: str) -> values.StoredImage:
        """A stored image with its bytes and provenance."""
        return await self._value("GetImage", digest=digest)

    def list_images(
        self, *, generator_version: str = "", label: str = "", request_id: str = "", limit: int | None = None
    ) -> AsyncIterator[values.StoredImage]:
        """Stored images without their bytes, newest first."""
        filters = {"generator_version": generator_version, "label": label, "request_id": request_id}
        return self._pages("ListImages", "images", limit, **filters)

    # ---- models

    def list_versions(self, *, kind: str = "", limit: int | None = None) -> AsyncIterator[values.Version]:
        """Versions, newest first. `kind` is "generator", "reward", "rater" or "judge"."""
        return self._pages("ListVersions", "versions", limit, kind=kind)

    async def get_version(self, version: str) -> values.Version:
        """One version in full, by name, digest or digest prefix."""
        return await self._value("GetVersion", version=version)

    async def get_serving(self, slot: str = "") -> values.GetServingResponse:
        """What should serve in each slot, and what each replica does."""
        return await self._value("GetServing", slot=slot)

    async def get_lineage(self, version: str) -> tuple[values.Version, ...]:
        """A version and its ancestors, itself first."""
        answer = await self._ask("GetLineage", version=version)
        return tuple(map(to_value, answer.versions))

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
    ) -> values.Rollout:
        """Verifies a version and its evidence, and gives it its first share of new requests, 5 % by default.

        With steps, hold_s or shadow the system moves it on by itself. force, with a reason, starts it against its
        evidence; dry_run changes nothing.
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

    async def pause_rollout(
        self, rollout_id: str, *, reason: str = "", request_id: str = ""
    ) -> values.Rollout:
        """Stops it from being promoted by itself; what is proven worse is rolled back all the same."""
        return await self._value("PauseRollout", rollout_id=rollout_id, reason=reason, request_id=request_id)

    async def resume_rollout(
        self, rollout_id: str, *, reason: str = "", request_id: str = ""
    ) -> values.Rollout:
        """Lets it be promoted by itself again."""
        return await self._value("ResumeRollout", rollout_id=rollout_id, reason=reason, request_id=request_id)

    async def get_serving_history(
        self, *, at: datetime | None = None, slot: str = ""
    ) -> values.GetServingHistoryResponse:
        """What was to serve at that moment, who decided it, and from whose ratings it had learned."""
        return await self._value("GetServingHistory", at=at, slot=slot)

    def list_audit_entries(self, *, limit: int | None = None) -> AsyncIterator[values.AuditEntry]:
        """What operators did, newest first."""
        return self._pages("ListAuditEntries", "entries", limit)

    async def verify_audit(self, *, head: str = "") -> values.VerifyAuditResponse:
        """Whether every entry of the audit log is as it was written, and the noted head still in it."""
        return await self._value("VerifyAudit", head=head)

    async def replay_image(self, digest: str) -> values.ReplayImageResponse:
        """Draws a served image again from its record, and compares the two."""
        return await self._value("ReplayImage", digest=digest)

    async def promote_rollout(
        self, rollout_id: str, *, percent: int | None = None, reason: str = "", request_id: str = ""
    ) -> values.Rollout:
        """Gives the candidate its next share, or `percent`; 100 makes it the champion."""
        return await self._value(
            "PromoteRollout", rollout_id=rollout_id, percent=percent, reason=reason, request_id=request_id
        )

    async def roll_back_rollout(
        self, rollout_id: str, *, reason: str = "", request_id: str = ""
    ) -> values.Rollout:
        """Takes the candidate out, or brings the previous champion back."""
        return await self._value(
            "RollBackRollout", rollout_id=rollout_id, reason=reason, request_id=request_id
        )

    async def get_rollout(self, rollout_id: str) -> values.Rollout:
        """One rollout."""
        return await self._value("GetRollout", rollout_id=rollout_id)

    def watch_rollout(self, rollout_id: str) -> AsyncIterator[values.Rollout]:
        """The rollout now and at every change, until it is over and every replica follows."""
        return self._listen("WatchRollout", rpcs.request("WatchRollout", rollout_id=rollout_id))

    def list_rollouts(
        self, *, slot: str = "", state: str = "", limit: int | None = None
    ) -> AsyncIterator[values.Rollout]:
        """Rollouts, newest first."""
        return self._pages("ListRollouts", "rollouts", limit, slot=slot, state=state)

    # ---- training

    async def start_training(
        self, kind: str, config: Mapping[str, Any] | None = None, *, request_id: str = ""
    ) -> values.Run:
        """Queues a run: "pretrain", "reward", "align", "concept" or "evaluate"."""
        return await self._value("StartTraining", kind=kind, config=config or {}, request_id=request_id)

    async def get_run(self, run_id: str) -> values.Run:
        """One run."""
        return await self._value("GetRun", run_id=run_id)

    def list_runs(
        self, *, kind: str = "", state: str = "", limit: int | None = None
    ) -> AsyncIterator[values.Run]:
        """Runs, newest first."""
        return self._pages("ListRuns", "runs", limit, kind=kind, state=state)

    async def cancel_run(self, run_id: str, *, request_id: str = "") -> values.Run:
        """Stops a run that is queued or running."""
        return await self._value("CancelRun", run_id=run_id, request_id=request_id)

    def watch_run(self, run_id: str) -> AsyncIterator[values.Run]:
        """The run now and at every change, until it has ended."""
        return self._listen("WatchRun", rpcs.request("WatchRun", run_id=run_id))
