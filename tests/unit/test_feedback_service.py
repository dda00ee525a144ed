"""The feedback deployment without Ray: what it lists imports again exactly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

import pytest

from services.feedback.app import Feedback
from services.identity import Identity
from vouch.errors import StorageFull, Unavailable
from vouch.pb.v1 import feedback_pb2 as pb
from vouch.settings import Settings
from vouch.storage.catalog import Catalog

OPERATOR = Identity.unchecked()


@pytest.fixture
def feedback(settings: Settings, make_image) -> Feedback:
    with Catalog(settings.resolved_catalog_url) as catalog:
        catalog.images.add([make_image(1)])
    return Feedback(settings)


def recorded(feedback: Feedback, digest: str) -> pb.Rating:
    rating = pb.Rating(
        image_digest=digest, rater="ada", kind="RATING_KIND_HUMAN", verdict="VERDICT_PLAUSIBLE"
    )
    rating.answers["cell_size"] = pb.ANSWER_PASS
    request = pb.RecordRatingRequest(request_id="once", rating=rating)
    return asyncio.run(feedback.RecordRating(request, OPERATOR))


def test_a_listed_rating_imports_as_the_same_one(feedback: Feedback, make_image) -> None:
    recorded(feedback, make_image(1).digest)
    listed = asyncio.run(feedback.ListRatings(pb.ListRatingsRequest(), OPERATOR)).ratings
    answer = asyncio.run(feedback.ImportRatings(pb.ImportRatingsRequest(ratings=listed), 0, OPERATOR))
    assert (answer.recorded, answer.already_recorded, answer.failed) == (0, 1, 0)


def test_an_import_is_in_the_audit_log_before_its_first_rating_is_stored(
    feedback: Feedback, settings: Settings, make_image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(feedback, "_take", die)
    message = pb.ImportRatingsRequest(ratings=[pb.Rating(), pb.Rating()])
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(feedback.ImportRatings(message, 4, OPERATOR))
    with Catalog(settings.resolved_catalog_url) as catalog:
        (entry,) = catalog.audit.entries()
    assert (entry.action, entry.details) == ("import of ratings", {"offset": 4, "count": 2})


def test_a_rating_from_another_system_keeps_its_id_and_its_time(feedback: Feedback, make_image) -> None:
    rating = recorded(feedback, make_image(1).digest)
    rating.rating_id, rating.request_id, rating.rater = "of-elsewhere", "another", "grace"
    rating.created_at.FromSeconds(1_700_000_000)
    answer = asyncio.run(feedback.ImportRatings(pb.ImportRatingsRequest(ratings=[rating]), 0, OPERATOR))
    assert (answer.recorded, answer.failed) == (1, 0)
    listed = asyncio.run(feedback.ListRatings(pb.ListRatingsRequest(rater="grace"), OPERATOR)).ratings
    assert [(one.rating_id, one.created_at.seconds) for one in listed] == [("of-elsewhere", 1_700_000_000)]


@pytest.mark.parametrize(
    "failure", [StorageFull("The disk is full."), Unavailable("Away."), OSError(28, "full")]
)
def test_an_import_ends_at_what_every_other_entry_would_meet(
    feedback: Feedback, make_image, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    rating = recorded(feedback, make_image(1).digest)
    monkeypatch.setattr(feedback, "_take", refusing(failure))
    with pytest.raises(type(failure)):
        asyncio.run(feedback.ImportRatings(pb.ImportRatingsRequest(ratings=[rating]), 0, OPERATOR))


def test_what_nobody_expects_of_a_rating_is_its_own_failure(
    feedback: Feedback, make_image, monkeypatch: pytest.MonkeyPatch
) -> None:
    rating = recorded(feedback, make_image(1).digest)
    monkeypatch.setattr(feedback, "_take", refusing(RuntimeError("secret")))
    answer = asyncio.run(feedback.ImportRatings(pb.ImportRatingsRequest(ratings=[rating]), 3, OPERATOR))
    (failure,) = answer.failures
    assert (answer.failed, failure.index, failure.reason) == (1, 3, "INTERNAL")
    assert failure.message == "The entry could not be stored (RuntimeError). The server's log says why."


def refusing(failure: Exception) -> Callable[..., NoReturn]:
    def refuse(*_: object) -> NoReturn:
        raise failure

    return refuse
