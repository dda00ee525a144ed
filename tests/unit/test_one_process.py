"""Every call of a client passes the real gateway and the real deployments, in one process without Ray."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import vouch
from tests.one_process import running
from tests.tiny import save_generator, save_reward
from vouch.client import (
    Client,
    GeneratedImage,
    GenerationProgress,
    GenerationSummary,
    ImagePreview,
    ScoreItem,
)
from vouch.errors import AlreadyExists, InvalidInput, NotFound, PermissionDenied
from vouch.formats import images
from vouch.settings import Settings
from vouch.types.rating import NewRating


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    models = tmp_path_factory.mktemp("models")
    save_generator(models / "first", 0)
    save_reward(models / "judge", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("VOUCH_SETTINGS", raising=False)
        with running(tmp_path_factory.mktemp("system") / "state", models, patch) as settings:
            yield settings


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with vouch.connect(state=settings.folder.root, timeout_s=120) as connected:
        yield connected


def test_an_image_says_how_it_was_made_and_is_stored_so(client: Client) -> None:
    how = {"guidance_method": "cfg_pp", "guidance_start": 0.25, "guidance_stop": 0.75}
    reply = client.generate_images(
        "neutrophil, cell size big", count=2, seed=2**63 - 1, steps=3, guidance=0.5, **how
    )
    assert [(image.index, image.seed) for image in reply.images] == [(0, 2**63 - 1), (1, 0)]
    for image in reply.images:
        assert image.digest == images.digest(image.data)
        assert (image.steps, image.guidance, image.sampler, image.prompt) == (
            3, 0.5, "ddim", "neutrophil, cell size big",
        )  # fmt: skip
        assert image.reward_version == reply.reward_version != ""
        stored = client.get_image(image.digest)
        for name in ("data", "seed", "score", "criterion_scores", "generator_name", "created_at", *how):
            assert getattr(stored, name) == getattr(image, name)
        assert (stored.label, stored.source, stored.rating_count) == ("neutrophil", "generated", 0)
    assert reply.summary is not None
    assert (reply.summary.images, reply.summary.engine_s > 0, reply.summary.score_s > 0) == (2, True, True)


def test_a_stream_brings_progress_previews_images_and_a_summary(client: Client) -> None:
    events = list(client.stream_images("monocyte", count=3, seed=1, steps=4, preview_every=1))
    assert [event.index for event in events if isinstance(event, GeneratedImage)] == [0, 1, 2]
    assert any(isinstance(event, ImagePreview) for event in events)
    (*_, last) = (event for event in events if isinstance(event, GenerationProgress))
    assert (last.images_total, last.total_steps) == (3, 4)
    assert isinstance(events[-1], GenerationSummary)
    assert events[-1].images == 3


def test_a_repeated_request_is_answered_from_what_is_stored(client: Client) -> None:
    asked = {"prompt": "monocyte", "count": 2, "steps": 2, "request_id": "the-same"}
    first, second = client.generate_images(**asked), client.generate_images(**asked)
    assert second.images == first.images
    assert (second.summary.engine_s if second.summary else None) == 0.0
    with pytest.raises(AlreadyExists):
        client.generate_images(**{**asked, "steps": 3})


def test_a_generator_is_described_with_the_limits_of_the_contract(client: Client) -> None:
    known = client.describe_generator()
    assert (known.open_vocabulary, known.max_images_per_call, known.max_steps) == (False, 64, 200)
    assert known.guidance_methods == ("cfg", "cfg_pp")
    assert known.attributes
    with pytest.raises(InvalidInput):
        client.generate_images("unicorn")


def test_items_are_scored_by_bytes_and_by_digest_and_a_bad_one_fails_alone(client: Client) -> None:
    image = client.generate_images("neutrophil", seed=5, steps=2).images[0]
    items = [
        ScoreItem(item_id="bytes", data=image.data, prompt="neutrophil"),
        ScoreItem(item_id="stored", digest=image.digest),
        ScoreItem(item_id="bad", data=b"no image", prompt="neutrophil"),
        ScoreItem(item_id="long", digest=image.digest, prompt="x" * 1001),
    ]
    results = {result.item_id: result for result in client.score_stream(items)}
    scores = [results[name].score for name in ("bytes", "stored")]
    assert [score.score if score else None for score in scores] == [pytest.approx(image.score)] * 2
    errors = [results[name].error for name in ("bad", "long")]
    assert [error.reason if error else None for error in errors] == ["NOT_AN_IMAGE", "FIELD_OUT_OF_RANGE"]
    assert client.score_images(items[:2])[1].digest == image.digest
    with pytest.raises(InvalidInput, match=r"Image 1 \(bad\)"):
        client.score_images([items[0], items[2]])


def test_ratings_are_recorded_listed_and_counted(client: Client) -> None:
    image = client.generate_images("neutrophil", seed=6, steps=2).images[0]
    rating = client.record_rating(
        NewRating(request_id="r-1", image=image.digest, rater="ada", kind="human", verdict="unsure",
                  answers={"cell_size": "fail"}, text="µ")
    )  # fmt: skip
    assert list(client.list_ratings(image_digest=image.digest)) == [rating]
    assert client.get_image(image.digest).rating_count == 1
    again = client.import_ratings(
        [rating, NewRating(**{**vars(rating_of(rating)), "image": "0" * 64, "request_id": "x"})]
    )
    assert (again.already_recorded, again.failed, again.failures[0].index) == (1, 1, 1)
    assert client.next_for_review("bob", count=1)


def rating_of(rating: NewRating) -> NewRating:
    names = NewRating.__dataclass_fields__
    return NewRating(**{name: getattr(rating, name) for name in names})


def test_versions_rollouts_and_runs_are_told_by_the_operations(client: Client) -> None:
    (reward, generator) = client.list_versions()
    assert {reward.kind, generator.kind} == {"reward", "generator"}
    assert client.get_version(generator.digest).files
    assert client.get_lineage(generator.digest)[0].digest == generator.digest
    (slot,) = client.get_serving("generator").slots
    assert slot.champion_version in (reward.digest, generator.digest)
    assert list(client.list_rollouts()) == list(client.list_runs()) == []
    for missing in (lambda: client.get_rollout("rollout-9"), lambda: client.get_run("align-9")):
        with pytest.raises(NotFound):
            missing()


def test_a_call_that_its_role_may_not_make_is_refused(settings: Settings) -> None:
    with (
        vouch.connect(state=settings.folder.root, role="client") as client,
        pytest.raises(PermissionDenied, match="StartTraining needs the role operator"),
    ):
        client.start_training("reward")
