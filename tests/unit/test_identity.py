"""What a caller may do is what its token says, whatever its messages claim."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from services.feedback.app import Feedback
from services.gateway.scoring import Scoring, _Call
from services.identity import Identity
from services.keyring import USE_KEPT_EVERY, Keyring
from services.tokens import default_tokens
from vouch.errors import FailedPrecondition, NotFound, PermissionDenied
from vouch.formats import images as codec
from vouch.pb.v1 import feedback_pb2 as pb
from vouch.settings import Access, Settings
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.score import Score, ScoreItem

ALICE = Identity("rater", name="alice", scopes=("human",))
BOB = Identity("rater", name="bob", scopes=("human",))
SIMULATED = Identity("rater", name="sim-1", scopes=("simulated",))
IMPORTER = Identity("operator", name="import", scopes=("human", "simulated", "any-rater"))
CLIENT = Identity("client", name="client")
OTHER_CLIENT = Identity("client", name="other")
VERSION = "a" * 64


@pytest.fixture
def feedback(settings: Settings) -> Feedback:
    return Feedback(settings)


@pytest.fixture
def image(settings: Settings, make_image: Any) -> str:
    """The digest of an image that `client` asked for under the request id "1"."""
    import numpy as np

    data = codec.encode_png(np.zeros((8, 8, 3), dtype=np.uint8))
    digest: str = BlobStore(settings.resolved_blobs_url).put(data)
    with Catalog(settings.resolved_catalog_url) as catalog:
        catalog.images.add([make_image(1, digest=digest, request_id="1")], owner="client")
    return digest


def rate(feedback: Feedback, caller: Identity, image: str, **fields: Any) -> Any:
    values = {"image_digest": image, "kind": "RATING_KIND_HUMAN", "verdict": "VERDICT_PLAUSIBLE", **fields}
    request = pb.RecordRatingRequest(request_id=uuid.uuid4().hex, rating=pb.Rating(**values))
    return asyncio.run(feedback.RecordRating(request, caller))


# ---- raters


def test_a_rating_carries_the_name_of_the_token(feedback: Feedback, image: str) -> None:
    assert rate(feedback, ALICE, image).rater == "alice"
    assert rate(feedback, BOB, image, rater="bob").rater == "bob"


@pytest.mark.parametrize("declared", ["dr-alice", "alice ", "ALICE", "bob"])
def test_nobody_rates_under_another_name(feedback: Feedback, image: str, declared: str) -> None:
    with pytest.raises(PermissionDenied, match="This token rates as alice"):
        rate(feedback, ALICE, image, rater=declared)


def test_nobody_supersedes_what_another_said(feedback: Feedback, image: str) -> None:
    first = rate(feedback, ALICE, image)
    with pytest.raises(FailedPrecondition, match="same image by the same rater"):
        rate(feedback, BOB, image, supersedes=first.rating_id)
    assert rate(feedback, ALICE, image, supersedes=first.rating_id).rater == "alice"


@pytest.mark.parametrize(
    ("caller", "kind"), [(SIMULATED, "RATING_KIND_HUMAN"), (ALICE, "RATING_KIND_SIMULATED")]
)
def test_the_kind_of_a_rating_is_one_that_the_token_may_give(
    feedback: Feedback, image: str, caller: Identity, kind: str
) -> None:
    with pytest.raises(PermissionDenied, match="This token lacks the scope"):
        rate(feedback, caller, image, kind=kind)


def test_a_simulated_rater_is_marked_as_one(feedback: Feedback, image: str) -> None:
    rating = rate(feedback, SIMULATED, image, kind="RATING_KIND_SIMULATED")
    assert (rating.rater, rating.kind) == ("sim-1", pb.RATING_KIND_SIMULATED)


def test_an_import_is_held_to_the_same_rules_rating_by_rating(feedback: Feedback, image: str) -> None:
    ratings = [
        pb.Rating(request_id=name, image_digest=image, rater=name, kind=1, verdict=1)
        for name in ("alice", "bob", "carol")
    ]
    request = pb.ImportRatingsRequest(ratings=ratings)
    answer = asyncio.run(feedback.ImportRatings(request, 0, ALICE))
    assert (answer.recorded, answer.failed) == (1, 2)
    assert {failure.reason for failure in answer.failures} == {"NOT_THIS_RATER"}
    assert asyncio.run(feedback.ImportRatings(request, 0, IMPORTER)).recorded == 3


def test_the_queue_of_another_rater_is_not_read(feedback: Feedback, image: str) -> None:
    queue = pb.NextForReviewRequest()
    assert asyncio.run(feedback.NextForReview(queue, ALICE)).items[0].digest == image
    with pytest.raises(PermissionDenied):
        asyncio.run(feedback.NextForReview(pb.NextForReviewRequest(rater="bob"), ALICE))


def test_without_authentication_everybody_may_rate_as_anybody(feedback: Feedback, image: str) -> None:
    assert rate(feedback, Identity.unchecked(), image, rater="ada").rater == "ada"


# ---- images


def test_a_client_sees_its_own_images_and_raters_see_all(feedback: Feedback, image: str) -> None:
    def seen(caller: Identity) -> list[str]:
        listed = asyncio.run(feedback.ListImages(pb.ListImagesRequest(), caller))
        return [one.digest for one in listed.images]

    assert seen(CLIENT) == seen(ALICE) == seen(IMPORTER) == [image]
    assert seen(OTHER_CLIENT) == []


def test_an_image_is_handed_to_its_owner_and_to_raters(feedback: Feedback, image: str) -> None:
    request = pb.GetImageRequest(digest=image)
    for caller in (CLIENT, ALICE, IMPORTER):
        assert asyncio.run(feedback.GetImage(request, caller)).digest == image
    with pytest.raises(NotFound, match="There is no image"):
        asyncio.run(feedback.GetImage(request, OTHER_CLIENT))


TOLD_TO_RATERS = {"digest", "media_type", "size_bytes", "width", "height", "prompt", "label"}


def fields_of(message: Any) -> set[str]:
    return {one.name for one, _ in message.ListFields()}


@pytest.fixture
def scored(settings: Settings, make_image: Any) -> str:
    """The digest of a drawn image with all that is known of one."""
    import numpy as np

    data = codec.encode_png(np.full((8, 8, 3), 7, dtype=np.uint8))
    digest: str = BlobStore(settings.resolved_blobs_url).put(data)
    drawn = make_image(
        7, digest=digest, request_id="2", generator_version=VERSION, sampler="ddim", steps=4, guidance=2.0,
        guidance_method="cfg", guidance_start=0.0, guidance_stop=1.0, adapter_start=0.1,
    )  # fmt: skip
    with Catalog(settings.resolved_catalog_url) as catalog:
        catalog.images.add([drawn], owner="client")
        catalog.images.add_scores([Score(image=digest, version="b" * 64, overall=0.5, std=0.1, criteria={})])
    return digest


def test_a_rater_learns_nothing_of_an_image_that_it_is_still_to_rate(feedback: Feedback, scored: str) -> None:
    request = pb.GetImageRequest(digest=scored)
    rate(feedback, BOB, scored)
    assert fields_of(asyncio.run(feedback.GetImage(request, ALICE))) == {*TOLD_TO_RATERS, "data"}
    listed = asyncio.run(feedback.ListImages(pb.ListImagesRequest(), ALICE)).images
    assert [fields_of(one) for one in listed] == [TOLD_TO_RATERS]
    told = asyncio.run(feedback.ListRatings(pb.ListRatingsRequest(), ALICE)).ratings
    assert [(one.rater, one.generator_version) for one in told] == [("bob", "")]


def test_an_image_that_a_rater_has_rated_is_shown_in_full(feedback: Feedback, scored: str) -> None:
    rate(feedback, ALICE, scored)
    shown = asyncio.run(feedback.GetImage(pb.GetImageRequest(digest=scored), ALICE))
    assert {"source", "seed", "generator_version", "score", "reward_version"} <= fields_of(shown)
    told = asyncio.run(feedback.ListRatings(pb.ListRatingsRequest(), ALICE)).ratings
    assert told[0].generator_version == shown.generator_version


def test_who_rates_for_others_stays_blinded(feedback: Feedback, scored: str) -> None:
    desk = Identity("rater", name="rater", scopes=("human", "any-rater"))
    rate(feedback, desk, scored, rater="rater")
    shown = asyncio.run(feedback.GetImage(pb.GetImageRequest(digest=scored), desk))
    assert fields_of(shown) == {*TOLD_TO_RATERS, "data"}


def test_clients_and_operators_are_told_the_scores(feedback: Feedback, scored: str) -> None:
    for caller in (CLIENT, IMPORTER):
        assert asyncio.run(feedback.GetImage(pb.GetImageRequest(digest=scored), caller)).HasField("score")


@pytest.mark.parametrize("name", ["generator_version", "request_id"])
def test_a_rater_does_not_ask_which_images_a_version_drew(feedback: Feedback, image: str, name: str) -> None:
    request = pb.ListImagesRequest(**{name: "1"})
    with pytest.raises(PermissionDenied, match=f"{name} would tell a rater"):
        asyncio.run(feedback.ListImages(request, ALICE))


def test_a_rater_does_not_ask_for_the_ratings_of_a_version(feedback: Feedback, image: str) -> None:
    with pytest.raises(PermissionDenied, match="generator_version would tell a rater"):
        asyncio.run(feedback.ListRatings(pb.ListRatingsRequest(generator_version="1"), ALICE))


def test_a_request_id_of_another_client_finds_nothing(feedback: Feedback, image: str) -> None:
    request = pb.ListImagesRequest(request_id="1")
    assert len(asyncio.run(feedback.ListImages(request, CLIENT)).images) == 1
    assert len(asyncio.run(feedback.ListImages(request, OTHER_CLIENT)).images) == 0


def test_a_client_cannot_have_the_image_of_another_scored(settings: Settings, image: str) -> None:
    with Catalog(settings.resolved_catalog_url) as catalog:
        blobs = BlobStore(settings.resolved_blobs_url)
        scoring = Scoring(
            None, catalog, blobs, Registry(catalog, settings.folder.models, settings.models_url)
        )  # type: ignore[arg-type]

        def reason(owner: str | None) -> str:
            found = scoring._find(ScoreItem(item_id="1", digest=image), _Call("r", "", owner, needs_id=True))
            return getattr(found, "reason", "")

        assert reason("client") == reason(None) == ""
        assert reason("other") == "IMAGE_NOT_FOUND"


# ---- tokens in a running system


@pytest.fixture
def catalog(settings: Settings) -> Any:
    with Catalog(settings.resolved_catalog_url) as catalog:
        yield catalog


def test_a_new_token_opens_and_a_revoked_one_closes_without_a_restart(catalog: Catalog) -> None:
    keys = Keyring(catalog.tokens, poll_s=3600)
    _, secret = catalog.tokens.create("alice", "rater", ["human"])
    assert keys.find(secret) is None
    keys.refresh()
    found = keys.find(secret)
    assert found is not None
    assert Identity.of(found) == ALICE
    catalog.tokens.revoke("alice")
    keys.refresh()
    assert keys.find(secret) is None


def test_the_last_use_reaches_the_catalog_once_a_minute(catalog: Catalog) -> None:
    _, secret = catalog.tokens.create("alice", "rater", ["human"])
    keys = Keyring(catalog.tokens, poll_s=3600)
    keys.find(secret)
    keys.refresh()
    first = catalog.tokens.get("alice").last_used_at
    assert first is not None
    keys.find(secret)
    keys.refresh()
    assert catalog.tokens.get("alice").last_used_at == first
    catalog.tokens.note_use({"alice": first - 2 * USE_KEPT_EVERY})
    keys.refresh()
    kept = catalog.tokens.get("alice").last_used_at
    assert kept is not None
    assert kept > first


def test_what_watches_the_tokens_reads_them_again_by_itself(catalog: Catalog) -> None:
    read = []

    class Watched:
        def valid(self) -> dict[str, Any]:
            read.append(1)
            if len(read) == 3:
                twice.set()
            return {}

        def note_use(self, moments: Any) -> None:
            return

    import threading

    twice = threading.Event()
    Keyring(Watched(), poll_s=0.001)  # type: ignore[arg-type]
    assert twice.wait(30)


def test_the_default_tokens_are_named_tokens_that_stay_the_same(settings: Settings, catalog: Catalog) -> None:
    first = default_tokens(settings)
    settings.folder.write_access(Access(address="127.0.0.1:1", http="http://127.0.0.1:2", tokens=first))
    assert default_tokens(settings) == first
    assert [(token.name, token.role) for token in catalog.tokens.list()] == [
        (role, role) for role in ("client", "rater", "operator")
    ]
    keys = Keyring(catalog.tokens, poll_s=3600)
    rater = keys.find(first["rater"])
    assert rater is not None
    assert Identity.of(rater).rater("anybody") == "anybody"


def test_a_default_token_that_was_revoked_does_not_come_back(settings: Settings, catalog: Catalog) -> None:
    first = default_tokens(settings)
    catalog.tokens.revoke("rater")
    assert set(default_tokens(settings)) == {"client", "operator"}
    assert Keyring(catalog.tokens, poll_s=3600).find(first["rater"]) is None


def test_the_tokens_of_a_system_from_before_there_were_names_go_on_to_work(
    settings: Settings, catalog: Catalog
) -> None:
    old = {"client": "old-client", "rater": "old-rater", "operator": "old-operator"}
    settings.folder.write_access(Access(address="127.0.0.1:1", http="http://127.0.0.1:2", tokens=old))
    assert default_tokens(settings) == old
    assert Keyring(catalog.tokens, poll_s=3600).find("old-rater") is not None


# ---- the gateway


class Elsewhere:
    """A handle to a deployment that is not there; nothing of it is called."""

    def options(self, **_: Any) -> Elsewhere:
        return self


class Call:
    """The context of a call that brings a token, or none."""

    def __init__(self, secret: str = "") -> None:
        self._secret, self.status = secret, "OK"

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self._secret}")] if self._secret else []

    def set_code(self, code: Any) -> None:
        self.status = code.name

    def code(self) -> Any:
        return None

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, metadata: Any) -> None:
        self.metadata = metadata


def described(settings: Settings, call: Call) -> Any:
    from services.gateway.app import Gateway

    elsewhere: Any = Elsewhere()
    gateway = Gateway(settings, elsewhere, elsewhere, elsewhere, elsewhere)
    return asyncio.run(gateway.DescribeCaller(pb.DescribeCallerRequest(), call))


def test_without_authentication_the_gateway_admits_everybody_as_an_operator(settings: Settings) -> None:
    off = settings.model_copy(update={"server": settings.server.model_copy(update={"auth": False})})
    call = Call()
    caller = described(off, call)
    assert (call.status, caller.name, caller.role, caller.any_rater) == ("OK", "", "operator", True)


def test_with_authentication_the_gateway_knows_the_tokens_of_the_catalog(
    settings: Settings, catalog: Catalog
) -> None:
    _, secret = catalog.tokens.create("sim-1", "rater", ["simulated"])
    caller = described(settings, Call(secret))
    assert (caller.name, caller.role, list(caller.kinds)) == ("sim-1", "rater", [pb.RATING_KIND_SIMULATED])
    stranger = Call()
    described(settings, stranger)
    assert stranger.status == "UNAUTHENTICATED"
