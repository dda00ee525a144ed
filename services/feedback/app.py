"""The feedback deployment: experts' verdicts, and the stored images that they are about."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import fields
from datetime import timezone
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from services import field_limits, logs, metrics
from services.feedback.blinding import Blinding
from services.feedback.real_images import RealImages
from services.feedback.review import Found, Review
from services.generation.orders import Description
from services.identity import Identity
from services.pools import Pools
from vouch.domains.criteria import Domain, load_domain, shipped_domain
from vouch.errors import InvalidInput, VouchError
from vouch.pb.v1 import feedback_pb2 as pb
from vouch.settings import Settings
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.records import ImageRecord, NewRating, Preference, Rating, now

T = TypeVar("T")
ID_SHOWN = 128  # characters; a longer id is refused, and its failure carries so much of it


class Feedback:
    """One replica. Every method is a transaction or a read; all state is in the catalog."""

    def __init__(self, settings: Settings) -> None:
        logs.leave_out_refusals()
        catalog = Catalog(settings.resolved_catalog_url)
        registry = Registry(catalog, settings.folder.models, settings.models_url)
        self._catalog, self._registry = catalog, registry
        self._domain = load_domain(settings.domain)
        blobs = BlobStore(settings.resolved_blobs_url)
        self._review = Review(catalog, blobs, registry, settings.review)
        self._real_images = RealImages(catalog, blobs)
        self._blinding = Blinding(catalog)
        self._pools = Pools()

    # ---- ratings

    async def RecordRating(self, request: Any, caller: Identity) -> Any:
        return await self._pools.run("RecordRating", self._record, request, caller)

    async def import_ratings(self, request: Any, offset: int, caller: Identity) -> Any:
        """One message of an import whose first rating has position `offset`."""
        return await self._pools.run("ImportRatings", self._import, request, offset, caller)

    async def ListRatings(self, request: Any, caller: Identity) -> Any:
        return await self._pools.run("ListRatings", self._list_ratings, request, caller)

    # ---- images

    async def import_real_images(self, request: Any, offset: int, drawn: Description) -> Any:
        """One message of an import whose first image has position `offset`, to be made alike to what is `drawn`."""
        return await self._pools.run("ImportRealImages", self._import_real, request, offset, drawn)

    async def NextForReview(self, request: Any, caller: Identity) -> Any:
        return await self._pools.run("NextForReview", self._next_for_review, request, caller)

    async def GetImage(self, request: Any, caller: Identity) -> Any:
        return await self._pools.run("GetImage", self._image, request.digest, caller)

    async def ListImages(self, request: Any, caller: Identity) -> Any:
        return await self._pools.run("ListImages", self._list_images, request, caller)

    async def DescribeCriteria(self, request: Any) -> Any:
        domain = self._described(request.domain)
        return pb.DescribeCriteriaResponse(
            domain=domain.name,
            title=domain.title,
            criteria=[
                pb.Criterion(criterion_id=c.id, question=c.question, help=c.help) for c in domain.criteria
            ],
        )

    def _described(self, name: str) -> Domain:
        """The domain in use, or one that ships: a name from outside opens no file."""
        return self._domain if name in ("", self._domain.name) else shipped_domain(name)

    # ---- inside: worker threads

    def _record(self, request: Any, caller: Identity) -> Any:
        new = _new_rating(request.request_id or uuid.uuid4().hex, request.rating, caller)
        rating = self._catalog.ratings.record(new, self._domain, by=caller.name)
        self._count(rating)
        return self._rating(rating)

    def _count(self, rating: Rating) -> None:
        """Agreement of raters with themselves: the queue shows some images twice."""
        metrics.RATINGS.labels(rating.kind).inc()
        if rating.supersedes:
            return
        with contextlib.suppress(VouchError):  # the rating is kept: nothing that only counts may refuse it
            earlier = self._catalog.ratings.list(image=rating.image, rater=rating.rater, page_size=2).items
            for known in earlier:
                if known.id != rating.id:
                    same = str(known.verdict == rating.verdict).lower()
                    metrics.REPEATS.labels(rating.kind, same).inc()
                    break

    def _import(self, request: Any, offset: int, caller: Identity) -> Any:
        answer = pb.ImportRatingsResponse()
        for index, message in enumerate(request.ratings, start=offset):
            try:
                added, known = self._take(index, message, caller)
            except VouchError as error:
                answer.failed += 1
                answer.failures.add(
                    index=index,
                    request_id=message.request_id[:ID_SHOWN],
                    reason=error.reason,
                    message=error.message,
                )
            else:
                answer.recorded += added
                answer.already_recorded += known
        metrics.RATINGS.labels("imported").inc(answer.recorded)
        return answer

    def _import_real(self, request: Any, offset: int, drawn: Description) -> Any:
        answer = pb.ImportRealImagesResponse()
        for index, image in enumerate(request.images, start=offset):
            try:
                field_limits.check(image)
                new = self._real_images.add(image.data, image.prompt, drawn)
            except InvalidInput as error:  # a full disk ends the whole import
                answer.failed += 1
                answer.failures.add(index=index, reason=error.reason, message=error.message)
            else:
                answer.stored += new
                answer.already_stored += not new
        return answer

    def _take(self, index: int, message: Any, caller: Identity) -> tuple[int, int]:
        """Store one rating of an import: (1, 0), or (0, 1) when it was there before."""
        field_limits.check(message)
        new = _new_rating(_needed("request_id", message.request_id), message, caller)
        if message.rating_id or message.HasField("created_at"):
            restored = self._restored(new, message)
            return self._catalog.ratings.restore([(index, restored)], self._domain, by=caller.name)
        asked_at = now()
        known = self._catalog.ratings.record(new, self._domain, by=caller.name).created_at < asked_at
        return int(not known), int(known)

    def _restored(self, new: NewRating, message: Any) -> Rating:
        """A rating with the id and the time that it came with."""
        image = self._catalog.images.get(new.image)
        # Either may be missing. The id is then made from the request id, so that a second import finds it again.
        own_id = message.rating_id or uuid.uuid5(uuid.NAMESPACE_OID, new.request_id).hex
        created_at = message.created_at.ToDatetime(timezone.utc) if message.HasField("created_at") else now()
        return Rating(
            **{field.name: getattr(new, field.name) for field in fields(NewRating)},
            id=own_id,
            domain=message.domain or self._domain.name,
            generator_version=image.generator_version,
            created_at=created_at,
        )

    def _image(self, digest: str, caller: Identity) -> Any:
        return self._shown(self._review.image(digest, caller.owner), caller)

    def _shown(self, found: Found, caller: Identity) -> Any:
        hidden = self._blinding.hides(found.record.digest, caller)
        return _to_rate(found) if hidden else _stored(found)

    def _list_ratings(self, request: Any, caller: Identity) -> Any:
        self._blinding.check_filter("generator_version", request.generator_version, caller)
        page = self._catalog.ratings.list(
            image=request.image_digest or None,
            rater=request.rater or None,
            kinds=(_lower(pb.RatingKind, request.kind),) if request.kind else None,
            generator_version=self._digest(request.generator_version),
            current_only=not request.include_superseded,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListRatingsResponse(
            ratings=[self._listed(rating, caller) for rating in page.items], next_page_token=page.next_token
        )

    def _listed(self, rating: Rating, caller: Identity) -> Any:
        message = self._rating(rating)
        if self._blinding.hides(rating.image, caller):
            message.ClearField("generator_version")
        return message

    def _next_for_review(self, request: Any, caller: Identity) -> Any:
        count = request.count if request.HasField("count") else 1
        rater = caller.rater(request.rater)
        if not rater:
            raise InvalidInput("rater is empty: say who will rate.")
        found = self._review.next(
            rater,
            count,
            kind=_lower(pb.RatingKind, request.kind) or "human",
            label=request.label or None,
            generator=self._digest(request.generator_version),
        )
        return pb.NextForReviewResponse(items=[_review_item(record, data) for record, data in found])

    def _list_images(self, request: Any, caller: Identity) -> Any:
        for name in ("generator_version", "request_id"):
            self._blinding.check_filter(name, getattr(request, name), caller)
        page = self._catalog.images.list(
            owner=caller.owner,
            generator_version=self._digest(request.generator_version),
            label=request.label or None,
            request_id=request.request_id or None,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListImagesResponse(
            images=[self._shown(self._review.about(record), caller) for record in page.items],
            next_page_token=page.next_token,
        )

    def _digest(self, ref: str) -> str | None:
        return self._registry.get(ref).digest if ref else None

    def _rating(self, rating: Rating) -> Any:
        message = pb.Rating(
            rating_id=rating.id,
            image_digest=rating.image,
            rater=rating.rater,
            kind=pb.RatingKind.Value(f"RATING_KIND_{rating.kind.upper()}"),
            verdict=pb.Verdict.Value(f"VERDICT_{rating.verdict.upper()}"),
            answers={
                key: pb.Answer.Value(f"ANSWER_{answer.upper()}") for key, answer in rating.answers.items()
            },
            text=rating.text,
            duration_ms=rating.duration_ms,
            ui_version=rating.ui_version,
            created_at=_timestamp(rating.created_at),
            supersedes=rating.supersedes,
            domain=rating.domain,
            generator_version=rating.generator_version,
            prompt=self._catalog.images.get(rating.image).prompt,
            request_id=rating.request_id,
        )
        if rating.preference:
            message.preference.other_image_digest = rating.preference.other
            message.preference.preferred_digest = rating.preference.preferred
        return message


# ---- messages to values


def _new_rating(request_id: str, rating: Any, caller: Identity) -> NewRating:
    preference = rating.preference if rating.HasField("preference") else None
    kind = _needed("kind", _lower(pb.RatingKind, rating.kind))
    caller.check_kind(kind)
    return NewRating(
        request_id=request_id,
        image=_needed("image_digest", rating.image_digest),
        rater=_needed("rater", caller.rater(rating.rater)),
        kind=kind,
        verdict=_needed("verdict", _lower(pb.Verdict, rating.verdict)),
        answers={key: _needed(f"answer to {key}", _lower(pb.Answer, a)) for key, a in rating.answers.items()},
        preference=Preference(other=preference.other_image_digest, preferred=preference.preferred_digest)
        if preference
        else None,
        text=rating.text,
        duration_ms=rating.duration_ms,
        ui_version=rating.ui_version,
        supersedes=rating.supersedes,
    )


def _needed(name: str, value: T) -> T:
    if not value:
        raise InvalidInput(f"{name} is missing: a rating needs it.")
    return value


def _lower(enum: Any, number: int) -> Any:
    """RATING_KIND_HUMAN -> "human"; "" for the unspecified one and for numbers that this version does not know."""
    if number not in enum.values() or number == 0:
        return ""
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    return enum.Name(number).removeprefix(prefix).lower()


# ---- values to messages


def _timestamp(moment: Any) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def _review_item(record: ImageRecord, data: bytes) -> Any:
    return pb.ReviewItem(
        digest=record.digest,
        data=data,
        media_type=record.media_type,
        width=record.width,
        height=record.height,
        prompt=record.prompt,
    )


def _to_rate(found: Found) -> Any:
    """An image as its rater sees it: without origin, time and scores."""
    record = found.record
    return pb.StoredImage(
        digest=record.digest,
        data=found.data,
        media_type=record.media_type,
        size_bytes=record.size_bytes,
        width=record.width,
        height=record.height,
        prompt=record.prompt,
        label=record.label,
    )


def _stored(found: Found) -> Any:
    record, score = found.record, found.score
    message = pb.StoredImage(
        digest=record.digest,
        data=found.data,
        media_type=record.media_type,
        size_bytes=record.size_bytes,
        width=record.width,
        height=record.height,
        source=pb.ImageSource.Value(f"IMAGE_SOURCE_{record.source.upper()}"),
        prompt=record.prompt,
        label=record.label,
        sampler=record.sampler,
        guidance_method=record.guidance_method,
        generator_version=record.generator_version,
        generator_name=found.generator_name,
        request_id=record.request_id,
        rating_count=found.ratings,
        created_at=_timestamp(record.created_at),
    )
    for name in ("seed", "steps", "guidance", "guidance_start", "guidance_stop", "adapter_start"):
        if getattr(record, name) is not None:
            setattr(message, name, getattr(record, name))
    if score:
        message.reward_version, message.score, message.score_std = score.version, score.overall, score.std
        message.criterion_scores.update(score.criteria)
    return message
