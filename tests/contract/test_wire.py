"""The codec between values and messages."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import pytest

from vouch import wire
from vouch.errors import InvalidInput
from vouch.pb.v1 import feedback_pb2, generation_pb2, models_pb2, reward_pb2, training_pb2
from vouch.types.generation import GeneratedImage, GenerationProgress, GenerationRequest, ImagePreview
from vouch.types.image import StoredImage
from vouch.types.run import Run
from vouch.types.score import ImageScore, ItemError, ScoreItem, ScoreResult

DAY = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc)
IMAGE = GeneratedImage(
    data=b"png", media_type="image/png", digest="d" * 64, index=3, width=8, height=9, prompt="neutrophil",
    seed=2**63 - 1, sampler="ddim eta=0.5",
    steps=20, guidance=2.5, generator_version="g" * 64, generator_name="starter",
    reward_version="r" * 64, score=0.5, score_std=0.25, criterion_scores={"cell_size": 0.75}, created_at=DAY,
    guidance_method="cfg_pp", guidance_start=0.25, guidance_stop=0.75, adapter_start=0.5, negative_prompt="blur",
)  # fmt: skip


def test_an_image_is_the_same_after_the_way_there_and_back() -> None:
    message = wire.to_message(IMAGE, generation_pb2.GeneratedImage)
    assert message.guidance_method == generation_pb2.GUIDANCE_METHOD_CFG_PP
    assert wire.to_value(message) == IMAGE


def test_what_only_the_server_knows_of_an_image_stays_there() -> None:
    told = replace(IMAGE, label="neutrophil", engine_s=1.5, fallback_reason="no table")
    assert wire.to_value(wire.to_message(told, generation_pb2.GeneratedImage)) == IMAGE


def test_an_image_without_a_score_says_so_by_absence() -> None:
    plain = replace(IMAGE, reward_version="", score=None, score_std=None, criterion_scores={})
    message = wire.to_message(plain, generation_pb2.GeneratedImage)
    assert not message.HasField("score")
    assert wire.to_value(message) == plain


def test_an_absent_optional_field_takes_the_default_of_the_value() -> None:
    message = generation_pb2.GenerateImagesRequest(prompt="neutrophil", guidance=0.0)
    request = wire.to_value(message, GenerationRequest, seeds=(1,))
    assert (request.score, request.steps, request.guidance) == (True, None, 0.0)
    assert not wire.to_value(
        generation_pb2.GenerateImagesRequest(score=False), GenerationRequest, seeds=()
    ).score


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (IMAGE, "image"),
        (GenerationProgress(step=1, total_steps=2), "progress"),
        (ImagePreview(index=0, step=1, total_steps=2, data=b"png", media_type="image/png"), "preview"),
    ],
)
def test_an_event_of_a_stream_is_in_the_field_of_its_kind(event: object, field: str) -> None:
    assert wire.to_event(event, generation_pb2.StreamImagesResponse).WhichOneof("event") == field


def test_messages_within_messages_are_values_within_values() -> None:
    score = ImageScore(item_id="1", digest="d" * 64, score=0.5, score_std=0.0, reward_version="r")
    for result in (
        ScoreResult(item_id="1", score=score),
        ScoreResult(item_id="1", error=ItemError(reason="NOT_AN_IMAGE", message="No.")),
    ):
        assert wire.to_value(wire.to_message(result, reward_pb2.ScoreResult)) == result


def test_an_item_has_its_bytes_or_a_digest() -> None:
    for item in (ScoreItem(item_id="1", data=b"png"), ScoreItem(item_id="1", digest="d" * 64)):
        assert wire.to_value(wire.to_message(item, reward_pb2.ScoreItem)) == item


def test_a_stored_image_tells_what_is_not_known_by_none() -> None:
    real = StoredImage(
        digest="d" * 64, media_type="image/png", width=8, height=8, size_bytes=3, source="real", prompt="neutrophil",
        created_at=DAY,
    )  # fmt: skip
    message = wire.to_message(real, feedback_pb2.StoredImage)
    assert not any(map(message.HasField, ("seed", "steps", "guidance", "score")))
    assert wire.to_value(message) == real


def test_a_runs_settings_keep_whole_numbers_and_its_state_stays_in_capitals() -> None:
    run = Run(
        run_id="align-1", kind="align", state="RUNNING", config={"steps": 5, "lr": 0.5, "widths": [8, None]}, step=1,
        total_steps=2, message="", metrics={"loss": 0.5}, version="", error="", created_at=DAY, updated_at=DAY,
        attempt=1, inputs={}, created_by="ops",
    )  # fmt: skip
    message = wire.to_message(run, training_pb2.Run)
    assert message.state == training_pb2.RUN_STATE_RUNNING
    assert wire.to_value(message) == run


def test_a_word_that_the_contract_does_not_know_is_refused_by_the_name_of_its_field() -> None:
    with pytest.raises(InvalidInput, match="guidance_method: 'cfg[+][+]' is not one of: cfg, cfg_pp, auto"):
        wire.to_message(replace(IMAGE, guidance_method="cfg++"), generation_pb2.GeneratedImage)


def test_a_number_that_its_field_cannot_hold_is_refused_by_the_name_of_its_field() -> None:
    with pytest.raises(InvalidInput, match="seed cannot be"):
        wire.to_message(replace(IMAGE, seed=2**63), generation_pb2.GeneratedImage)


def test_a_number_of_an_enum_that_this_version_does_not_know_is_no_word() -> None:
    assert wire.word(models_pb2.ListVersionsRequest(kind=99), "kind") == ""  # type: ignore[arg-type]
