"""The fake server's ratings and stored images."""

# ruff: noqa: N802 - gRPC dispatches by the name of the RPC

from __future__ import annotations

from collections.abc import AsyncIterator

from vouch import errors
from vouch.domains.criteria import shipped_domain
from vouch.pb.v1 import feedback_pb2 as f
from vouch.testing.door import Caller
from vouch.testing.generation import FakeGeneration
from vouch.testing.images import SIZE, check_prompt, digest
from vouch.testing.operations import page


class FakeFeedback(FakeGeneration):
    """Ratings as they come in, and review of every image that the rater has not rated."""

    def __init__(self) -> None:
        super().__init__()
        self.ratings: list[f.Rating] = []
        """Every recorded rating, oldest first."""
        self.by_request: dict[str, f.Rating] = {}
        """The ratings by request_id, so that a repeated call records nothing."""

    async def RecordRating(self, request: f.RecordRatingRequest, caller: Caller) -> f.Rating:
        return self._record(request)

    def _record(self, request: f.RecordRatingRequest) -> f.Rating:
        if request.request_id in self.by_request:
            return self.by_request[request.request_id]
        self._stored(request.rating.image_digest)
        rating = f.Rating()
        rating.CopyFrom(request.rating)
        rating.rating_id = f"rating-{len(self.ratings) + 1}"
        rating.domain = "blood_cells"
        rating.request_id = request.request_id
        if not rating.HasField("created_at"):
            rating.created_at.GetCurrentTime()
        self.ratings.append(rating)
        self.by_request[request.request_id] = rating
        return rating

    async def ImportRatings(
        self, requests: AsyncIterator[f.ImportRatingsRequest], caller: Caller
    ) -> f.ImportRatingsResponse:
        answer = f.ImportRatingsResponse()
        index = 0
        async for request in requests:
            for one in request.ratings:
                self._import(one, index, answer)
                index += 1
            self._lose()
        return answer

    def _import(self, one: f.Rating, index: int, answer: f.ImportRatingsResponse) -> None:
        known = one.request_id in self.by_request
        try:
            self._record(f.RecordRatingRequest(request_id=one.request_id, rating=one))
        except errors.VouchError as error:
            answer.failed += 1
            answer.failures.add(
                index=index, request_id=one.request_id, reason=error.reason, message=error.message
            )
            return
        if known:
            answer.already_recorded += 1
        else:
            answer.recorded += 1

    async def ImportRealImages(
        self, requests: AsyncIterator[f.ImportRealImagesRequest], caller: Caller
    ) -> f.ImportRealImagesResponse:
        answer = f.ImportRealImagesResponse()
        index = 0
        async for request in requests:
            for one in request.images:
                self._import_real(one, index, answer)
                index += 1
            self._lose()
        return answer

    def _import_real(self, one: f.RealImage, index: int, answer: f.ImportRealImagesResponse) -> None:
        try:
            check_prompt(one.prompt)
            data = _fitted(one.data)
        except errors.VouchError as error:
            answer.failed += 1
            answer.failures.add(index=index, reason=error.reason, message=error.message)
            return
        name = digest(data)
        answer.already_stored += name in self.images
        answer.stored += name not in self.images
        stored = f.StoredImage(
            digest=name, data=data, media_type="image/png", width=SIZE, height=SIZE, prompt=one.prompt,
            source=f.IMAGE_SOURCE_REAL,
        )  # fmt: skip
        self.images.setdefault(name, stored)

    async def ListRatings(self, request: f.ListRatingsRequest, caller: Caller) -> f.ListRatingsResponse:
        superseded = {rating.supersedes for rating in self.ratings}
        kept = [
            rating
            for rating in reversed(self.ratings)
            if (request.include_superseded or rating.rating_id not in superseded)
            and request.image_digest in ("", rating.image_digest)
            and request.rater in ("", rating.rater)
            and request.kind in (0, rating.kind)
        ]
        start, end, token = page(request, len(kept))
        return f.ListRatingsResponse(ratings=kept[start:end], next_page_token=token)

    async def NextForReview(self, request: f.NextForReviewRequest, caller: Caller) -> f.NextForReviewResponse:
        done = {rating.image_digest for rating in self.ratings if rating.rater == request.rater}
        left = [image for name, image in self.images.items() if name not in done]
        if self.full_for_s is not None:
            raise errors.Exhausted("The queue is full.", retry_after_s=self.full_for_s)
        count = request.count if request.HasField("count") else 1
        items = [
            f.ReviewItem(
                digest=i.digest,
                data=i.data,
                media_type=i.media_type,
                width=SIZE,
                height=SIZE,
                prompt=i.prompt,
            )
            for i in left[:count]
        ]
        return f.NextForReviewResponse(items=items)

    async def DescribeCriteria(
        self, request: f.DescribeCriteriaRequest, caller: Caller
    ) -> f.DescribeCriteriaResponse:
        domain = shipped_domain(request.domain or "blood_cells")
        criteria = [
            f.Criterion(criterion_id=c.id, question=c.question, help=c.help) for c in domain.criteria[:2]
        ]
        return f.DescribeCriteriaResponse(domain=domain.name, title=domain.title, criteria=criteria)

    async def DescribeCaller(
        self, request: f.DescribeCallerRequest, caller: Caller
    ) -> f.DescribeCallerResponse:
        return f.DescribeCallerResponse(
            name=caller.name, role=caller.role, any_rater="any-rater" in caller.scopes
        )

    async def GetImage(self, request: f.GetImageRequest, caller: Caller) -> f.StoredImage:
        return self._stored(request.digest)

    async def ListImages(self, request: f.ListImagesRequest, caller: Caller) -> f.ListImagesResponse:
        kept = list(self.images.values())
        start, end, token = page(request, len(kept))
        return f.ListImagesResponse(images=kept[start:end], next_page_token=token)


def _fitted(data: bytes) -> bytes:
    """The image as PNG in the generator's size. Raises InvalidInput if the bytes are no image."""
    from vouch.formats import images

    return images.encode_png(images.fitted(images.decode(data), SIZE, SIZE))
