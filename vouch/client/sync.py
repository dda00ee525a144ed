"""The client for ordinary code. Made of `aio.py` by `make client`; change that file instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from vouch.client import rpcs
from vouch.client.groups import RATINGS, REAL_IMAGES, SCORES, Entries
from vouch.client.streams import GENERATE_TIMEOUT_S, deadline_of
from vouch.client.sync_calls import Calls
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


class Client(Calls):
    """Calls a vouch system; make one with `vouch.connect()` or, for one event loop of asyncio, `vouch.connect_async()`.

    Both clients have the same methods with the same arguments and errors. Calls of the asynchronous one are awaited,
    and its streams and lists are read with `async for`. The other one may be shared between threads.

    Every method is one RPC of `protos/vouch/v1/`, which has the units, ranges and defaults of its arguments. Mutating
    calls take a `request_id`; the same id repeats nothing. Lists fetch their pages as they are read.

    A call that the system lost, because a part of it ended, is made again until the part is replaced.

    Every method raises errors of `vouch.errors` only; beside the ones of its RPC that is `Unavailable` when no system
    answers, `Unauthenticated`, `PermissionDenied`, and `DeadlineExceeded` after `timeout_s`.
    """

    # ---- generation

    def generate_images(
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
        """1 to 64 images, scored and stored. `version` and `reward_version` are names, digests or prefixes."""
        request = rpcs.request(
            "GenerateImages", prompt=prompt, count=count, seed=seed, steps=steps, guidance=guidance,
            sampler=sampler, eta=eta, guidance_method=guidance_method, guidance_start=guidance_start,
            guidance_stop=guidance_stop, adapter_start=adapter_start,
            negative_prompt=negative_prompt, version=version, score=score, reward_version=reward_version,
            timeout_s=timeout_s, request_id=request_id,
        )  # fmt: skip
        return to_value(self._call("GenerateImages", request, deadline_of(timeout_s)))

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
    ) -> Iterator[GenerationEvent]:
        """1 to 10,000 images as they are done, progress between them, the summary last. Leaving stops the drawing.

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

    def describe_generator(self, version: str = "") -> GeneratorDescription:
        """Vocabulary, defaults and limits of a generator, by default of the one that serves."""
        return self._value("DescribeGenerator", version=version)

    # ---- reward

    def score_images(
        self, items: Iterable[ScoreItem], *, version: str = "", request_id: str = ""
    ) -> tuple[ImageScore, ...]:
        """Scores of 1 to 64 images in their order; one bad image fails the call."""
        messages = [SCORES.message(item) for item in items]
        return self._values("ScoreImages", "scores", items=messages, version=version, request_id=request_id)

    def score_stream(
        self, items: Entries[ScoreItem], *, version: str = "", batch: int = 16
    ) -> Iterator[ScoreResult]:
        """Scores of a whole data set in any order, matched by `item_id`; a bad item brings its own error.

        `items` is read as fast as the scoring goes, by the client for ordinary code in another thread. What it raises
        is raised here.
        """
        return self._upload_and_listen(SCORES, items, batch, version=version)

    # ---- feedback

    def record_rating(self, rating: NewRating) -> Rating:
        """Stores a verdict; durable when this returns. The same `request_id` twice is one rating."""
        return self._value("RecordRating", request_id=rating.request_id, rating=RATINGS.message(rating))

    def import_ratings(self, ratings: Entries[NewRating], *, batch: int = 100) -> ImportRatingsResponse:
        """Stores many verdicts. A `Rating` keeps its id and time, so an export can be brought back, even twice."""
        return self._upload(RATINGS, ratings, batch)

    def import_real_images(self, images: Entries[RealImage], *, batch: int = 32) -> ImportRealImagesResponse:
        """Stores labelled real images, which reviews hide among drawn ones. The same image twice is one."""
        return self._upload(REAL_IMAGES, images, batch)

    def list_ratings(
        self,
        *,
        image_digest: str = "",
        rater: str = "",
        kind: str = "",
        generator_version: str = "",
        include_superseded: bool = False,
        limit: int | None = None,
    ) -> Iterator[Rating]:
        """Ratings, newest first. `kind` is "human" or "simulated"."""
        return self._pages(
            "ListRatings", "ratings", limit, image_digest=image_digest, rater=rater, kind=kind,
            generator_version=generator_version, include_superseded=include_superseded,
        )  # fmt: skip

    def next_for_review(
        self, rater: str, *, count: int = 1, generator_version: str = "", label: str = "", kind: str = ""
    ) -> tuple[ReviewItem, ...]:
        """Images for this rater, at most `count`; none when nothing new is left.

        Most are new to them. Hidden between these are some real ones and some that they have rated once: a second
        rating of an image is welcome, both are kept.
        """
        return self._values(
            "NextForReview", "items", rater=rater, count=count, generator_version=generator_version, label=label,
            kind=kind,
        )  # fmt: skip

    def describe_criteria(self, domain: str = "") -> DescribeCriteriaResponse:
        """The questions that a rating answers."""
        return self._value("DescribeCriteria", domain=domain)

    def describe_caller(self) -> DescribeCallerResponse:
        """Who this client's token stands for, and what its ratings may be."""
        return self._value("DescribeCaller")

    def get_image(self, digest: str) -> StoredImage:
        """A stored image with its bytes and provenance."""
        return self._value("GetImage", digest=digest)

    def list_images(
        self, *, generator_version: str = "", label: str = "", request_id: str = "", limit: int | None = None
    ) -> Iterator[StoredImage]:
        """Stored images without their bytes, newest first."""
        filters = {"generator_version": generator_version, "label": label, "request_id": request_id}
        return self._pages("ListImages", "images", limit, **filters)

    # ---- models

    def list_versions(self, *, kind: str = "", limit: int | None = None) -> Iterator[VersionDetails]:
        """Versions, newest first. `kind` is "generator", "reward", "rater" or "judge"."""
        return self._pages("ListVersions", "versions", limit, kind=kind)

    def get_version(self, version: str) -> VersionDetails:
        """One version in full, by name, digest or digest prefix."""
        return self._value("GetVersion", version=version)

    def get_serving(self, slot: str = "") -> GetServingResponse:
        """What should serve in each slot, and what each replica does."""
        return self._value("GetServing", slot=slot)

    def get_lineage(self, version: str) -> tuple[VersionDetails, ...]:
        """A version and its ancestors, itself first."""
        return self._values("GetLineage", "versions", version=version)

    # ---- rollout

    def start_rollout(
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

        With steps, hold_s or shadow the system moves it on by itself. force, with a reason, starts it against its
        evidence; dry_run changes nothing.
        """
        return self._value(
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

    def pause_rollout(self, rollout_id: str, *, reason: str = "", request_id: str = "") -> Rollout:
        """Stops it from being promoted by itself; what is proven worse is rolled back all the same."""
        return self._value("PauseRollout", rollout_id=rollout_id, reason=reason, request_id=request_id)

    def resume_rollout(self, rollout_id: str, *, reason: str = "", request_id: str = "") -> Rollout:
        """Lets it be promoted by itself again."""
        return self._value("ResumeRollout", rollout_id=rollout_id, reason=reason, request_id=request_id)

    def get_serving_history(self, *, at: datetime | None = None, slot: str = "") -> GetServingHistoryResponse:
        """What was to serve at that moment, who decided it, and from whose ratings it had learned."""
        return self._value("GetServingHistory", at=at, slot=slot)

    def list_audit_entries(self, *, limit: int | None = None) -> Iterator[AuditEntry]:
        """What operators did, newest first."""
        return self._pages("ListAuditEntries", "entries", limit)

    def verify_audit(self, *, head: str = "") -> VerifyAuditResponse:
        """Whether every entry of the audit log is as it was written, and the noted head still in it."""
        return self._value("VerifyAudit", head=head)

    def replay_image(self, digest: str) -> ReplayImageResponse:
        """Draws a served image again from its record, and compares the two."""
        return self._value("ReplayImage", digest=digest)

    def promote_rollout(
        self, rollout_id: str, *, percent: int | None = None, reason: str = "", request_id: str = ""
    ) -> Rollout:
        """Gives the candidate its next share, or `percent`; 100 makes it the champion."""
        return self._value(
            "PromoteRollout", rollout_id=rollout_id, percent=percent, reason=reason, request_id=request_id
        )

    def roll_back_rollout(self, rollout_id: str, *, reason: str = "", request_id: str = "") -> Rollout:
        """Takes the candidate out, or brings the previous champion back."""
        return self._value("RollBackRollout", rollout_id=rollout_id, reason=reason, request_id=request_id)

    def get_rollout(self, rollout_id: str) -> Rollout:
        """One rollout."""
        return self._value("GetRollout", rollout_id=rollout_id)

    def watch_rollout(self, rollout_id: str) -> Iterator[Rollout]:
        """The rollout now and at every change, until it is over and every replica follows."""
        return self._listen("WatchRollout", rpcs.request("WatchRollout", rollout_id=rollout_id))

    def list_rollouts(
        self, *, slot: str = "", state: str = "", limit: int | None = None
    ) -> Iterator[Rollout]:
        """Rollouts, newest first."""
        return self._pages("ListRollouts", "rollouts", limit, slot=slot, state=state)

    # ---- training

    def start_training(
        self, kind: str, config: Mapping[str, Any] | None = None, *, request_id: str = ""
    ) -> Run:
        """Queues a run: "pretrain", "reward", "align", "concept", "adapt" or "evaluate"."""
        return self._value("StartTraining", kind=kind, config=config or {}, request_id=request_id)

    def get_run(self, run_id: str) -> Run:
        """One run."""
        return self._value("GetRun", run_id=run_id)

    def list_runs(self, *, kind: str = "", state: str = "", limit: int | None = None) -> Iterator[Run]:
        """Runs, newest first."""
        return self._pages("ListRuns", "runs", limit, kind=kind, state=state)

    def cancel_run(self, run_id: str, *, request_id: str = "") -> Run:
        """Stops a run that is queued or running."""
        return self._value("CancelRun", run_id=run_id, request_id=request_id)

    def watch_run(self, run_id: str) -> Iterator[Run]:
        """The run now and at every change, until it has ended."""
        return self._listen("WatchRun", rpcs.request("WatchRun", run_id=run_id))
