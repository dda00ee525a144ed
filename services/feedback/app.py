"""The feedback deployment: experts' verdicts, and the stored images that they are about."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Sequence
from typing import TypeVar

from services import field_limits, logs, metrics
from services.feedback.blinding import Blinding
from services.feedback.real_images import RealImageStore
from services.feedback.review import Review
from services.identity import Identity
from services.pools import Pools, on_thread
from vouch import wire
from vouch.domains.criteria import Domain, load_domain, shipped_domain
from vouch.errors import DeadlineExceeded, Exhausted, Internal, InvalidInput, Unavailable, VouchError
from vouch.pb.v1 import feedback_pb2 as pb
from vouch.settings import Settings
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.clock import now
from vouch.types.generator import GeneratorDescription
from vouch.types.image import ImageRecord, StoredImage
from vouch.types.rating import NewRating, Rating

log = logging.getLogger(__name__)
T = TypeVar("T")
_OF_EVERY_ENTRY = (Exhausted, Unavailable, DeadlineExceeded, OSError)
TO_RATE = ("digest", "data", "media_type", "size_bytes", "width", "height", "prompt", "label")
"""Fields of a stored image that its rater sees."""
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
        self._review = Review(catalog, blobs, settings.review)
        self._real_images = RealImageStore(catalog, blobs)
        self._blinding = Blinding(catalog)
        self.pools = Pools()

    # ---- ratings

    @on_thread
    def RecordRating(self, request: pb.RecordRatingRequest, caller: Identity) -> pb.Rating:
        new = _new_rating(request.request_id or uuid.uuid4().hex, request.rating, caller)
        rating = self._catalog.ratings.record(new, self._domain, by=caller.name)
        self._count(rating)
        return self._messages([rating])[0]

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

    @on_thread
    def ImportRatings(
        self, request: pb.ImportRatingsRequest, offset: int, caller: Identity
    ) -> pb.ImportRatingsResponse:
        """One message of an import whose first rating has position `offset`."""
        self._catalog.audit.append(
            caller.name, "import of ratings", "ratings", {"offset": offset, "count": len(request.ratings)}
        )
        answer = pb.ImportRatingsResponse()
        for index, message in enumerate(request.ratings, start=offset):
            try:
                added, known = self._take(index, message, caller)
            except Exception as error:  # noqa: BLE001 - one odd rating must not end the import
                answer.failed += 1
                answer.failures.append(_failure(index, error, message.request_id[:ID_SHOWN]))
            else:
                answer.recorded += added
                answer.already_recorded += known
        metrics.RATINGS.labels("imported").inc(answer.recorded)
        return answer

    @on_thread
    def ListRatings(self, request: pb.ListRatingsRequest, caller: Identity) -> pb.ListRatingsResponse:
        self._blinding.check_filter("generator_version", request.generator_version, caller)
        kind = wire.word(request, "kind")
        page = self._catalog.ratings.list(
            image=request.image_digest or None,
            rater=request.rater or None,
            kinds=(kind,) if kind else None,
            generator_version=self._registry.digest(request.generator_version) or None,
            current_only=not request.include_superseded,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        ratings = self._messages(page.items)
        hidden = self._blinding.hidden({rating.image for rating in page.items}, caller)
        for message in ratings:
            if message.image_digest in hidden:
                message.ClearField("generator_version")
        return pb.ListRatingsResponse(ratings=ratings, next_page_token=page.next_token)

    def _take(self, index: int, message: pb.Rating, caller: Identity) -> tuple[int, int]:
        """Store one rating of an import: (1, 0), or (0, 1) when it was there before."""
        field_limits.check(message)
        new = _new_rating(_needed("request_id", message.request_id), message, caller)
        if message.rating_id or message.HasField("created_at"):
            restored = self._restored(new, message)
            return self._catalog.ratings.restore([(index, restored)], self._domain, by=caller.name)
        asked_at = now()
        known = self._catalog.ratings.record(new, self._domain, by=caller.name).created_at < asked_at
        return int(not known), int(known)

    def _restored(self, new: NewRating, message: pb.Rating) -> Rating:
        """A rating with the id and the time that it came with."""
        image = self._catalog.images.get(new.image)
        # Either may be missing. The id is then made from the request id, so that a second import finds it again.
        return wire.to_value(
            message,
            Rating,
            **vars(new),
            id=message.rating_id or uuid.uuid5(uuid.NAMESPACE_OID, new.request_id).hex,
            domain=message.domain or self._domain.name,
            generator_version=image.generator_version,
            **({} if message.HasField("created_at") else {"created_at": now()}),
        )

    def _messages(self, ratings: Sequence[Rating]) -> list[pb.Rating]:
        prompts = self._catalog.images.prompts(rating.image for rating in ratings)
        messages = [wire.to_message(rating, pb.Rating) for rating in ratings]
        for message in messages:
            message.prompt = prompts[message.image_digest]
        return messages

    # ---- images

    @on_thread
    def ImportRealImages(
        self,
        request: pb.ImportRealImagesRequest,
        offset: int,
        drawn: GeneratorDescription,
        caller: Identity,
    ) -> pb.ImportRealImagesResponse:
        """One message of an import whose first image has position `offset`, to be made alike to what is `drawn`."""
        self._catalog.audit.append(
            caller.name, "import of real images", "images", {"offset": offset, "count": len(request.images)}
        )
        answer = pb.ImportRealImagesResponse()
        for index, image in enumerate(request.images, start=offset):
            try:
                field_limits.check(image)
                new = self._real_images.add(image.data, image.prompt, drawn)
            except Exception as error:  # noqa: BLE001 - one odd image must not end the import
                answer.failed += 1
                answer.failures.append(_failure(index, error))
            else:
                answer.stored += new
                answer.already_stored += not new
        return answer

    @on_thread
    def NextForReview(self, request: pb.NextForReviewRequest, caller: Identity) -> pb.NextForReviewResponse:
        rater = caller.rater(request.rater)
        if not rater:
            raise InvalidInput("rater is empty: say who will rate.")
        items = self._review.next(
            rater,
            request.count if request.HasField("count") else 1,
            kind=wire.word(request, "kind") or "human",
            label=request.label or None,
            generator=self._registry.digest(request.generator_version) or None,
        )
        return pb.NextForReviewResponse(items=[_review_item(record, data) for record, data in items])

    @on_thread
    def GetImage(self, request: pb.GetImageRequest, caller: Identity) -> pb.StoredImage:
        return self._shown([self._review.image(request.digest, caller.owner)], caller)[0]

    @on_thread
    def ListImages(self, request: pb.ListImagesRequest, caller: Identity) -> pb.ListImagesResponse:
        for name in ("generator_version", "request_id"):
            self._blinding.check_filter(name, getattr(request, name), caller)
        page = self._catalog.images.list(
            owner=caller.owner,
            generator_version=self._registry.digest(request.generator_version) or None,
            label=request.label or None,
            request_id=request.request_id or None,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        images = self._shown(self._review.about(page.items), caller)
        return pb.ListImagesResponse(images=images, next_page_token=page.next_token)

    def _shown(self, images: Sequence[StoredImage], caller: Identity) -> list[pb.StoredImage]:
        hidden = self._blinding.hidden({image.digest for image in images}, caller)
        messages = [wire.to_message(image, pb.StoredImage) for image in images]
        return [_to_rate(message) if message.digest in hidden else message for message in messages]

    async def DescribeCriteria(
        self, request: pb.DescribeCriteriaRequest, caller: Identity
    ) -> pb.DescribeCriteriaResponse:
        domain = self._described(request.domain)
        return pb.DescribeCriteriaResponse(
            domain=domain.name,
            title=domain.title,
            criteria=[
                pb.Criterion(criterion_id=one.id, question=one.question, help=one.help)
                for one in domain.criteria
            ],
        )

    def _described(self, name: str) -> Domain:
        """The domain in use, or one that ships: a name from outside opens no file."""
        return self._domain if name in ("", self._domain.name) else shipped_domain(name)


# ---- messages to values


def _new_rating(request_id: str, message: pb.Rating, caller: Identity) -> NewRating:
    caller.check_kind(_needed("kind", wire.word(message, "kind")))
    rating = wire.to_value(
        message, NewRating, request_id=request_id, rater=_needed("rater", caller.rater(message.rater))
    )
    _needed("image_digest", rating.image)
    _needed("verdict", rating.verdict)
    for criterion, answer in rating.answers.items():
        _needed(f"answer to {criterion}", answer)
    return rating


def _needed(name: str, value: T) -> T:
    if not value:
        raise InvalidInput(f"{name} is missing: a rating needs it.")
    return value


# ---- values to messages


def _failure(index: int, error: Exception, request_id: str = "") -> pb.ImportFailure:
    """The failure of one entry of an import. Raises an error that every other entry would meet too, such as a full
    disk: the caller repeats the whole import."""
    if isinstance(error, _OF_EVERY_ENTRY):
        raise error
    if not isinstance(error, VouchError):
        log.error("an entry of an import could not be stored", exc_info=error)
        error = Internal(
            f"The entry could not be stored ({type(error).__name__}). The server's log says why."
        )
    return pb.ImportFailure(index=index, request_id=request_id, reason=error.reason, message=error.message)


def _to_rate(image: pb.StoredImage) -> pb.StoredImage:
    """An image as its rater sees it: without origin, time and scores."""
    return pb.StoredImage(**{name: getattr(image, name) for name in TO_RATE})


def _review_item(record: ImageRecord, data: bytes) -> pb.ReviewItem:
    message = wire.to_message(record, pb.ReviewItem)
    message.data = data
    return message
