"""The client against a real gRPC server with the real edge."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

import vouch
from tests.edged_server import EdgedServer
from vouch import errors
from vouch.client import (
    Client,
    GeneratedImage,
    GenerationProgress,
    GenerationSummary,
    ImagePreview,
    RealImage,
    ScoreItem,
)
from vouch.client.endpoint import find
from vouch.pb.v1 import training_pb2, training_pb2_grpc
from vouch.testing import TOKENS, flat_png
from vouch.types.rating import NewRating


def rating_of(digest: str, request_id: str, **more: Any) -> NewRating:
    plain: dict[str, Any] = {"rater": "rater-7", "kind": "human", "verdict": "plausible"}
    return NewRating(image=digest, request_id=request_id, **{**plain, **more})


@pytest.fixture
def client(system: EdgedServer) -> Iterator[Client]:
    with vouch.connect(state=system.state) as connected:
        yield connected


def test_a_good_call_returns_values(client: Client) -> None:
    reply = client.generate_images("neutrophil", count=2, seed=7)
    assert [image.seed for image in reply.images] == [7, 8]
    first = reply.images[0]
    assert first.data == flat_png(7)
    assert first.criterion_scores == {"cell_type": first.score}
    assert reply.request_id


def test_a_stream_brings_progress_images_and_a_summary(client: Client) -> None:
    events = list(client.stream_images("platelet", count=3, seed=1))
    kinds = [type(event) for event in events]
    assert kinds == [GenerationProgress, GeneratedImage] * 3 + [GenerationSummary]


def test_a_stream_brings_previews_to_who_asks_for_them(client: Client) -> None:
    events = list(client.stream_images("platelet", count=2, seed=1, preview_every=1))
    previews = [event for event in events if isinstance(event, ImagePreview)]
    assert [(preview.index, preview.step, preview.data) for preview in previews] == [
        (0, 1, flat_png(1)),
        (1, 1, flat_png(2)),
    ]


def test_who_is_refused_for_lack_of_room_learns_when_to_come_again(
    system: EdgedServer, client: Client
) -> None:
    system.full_for_s = 2.5
    with pytest.raises(errors.Exhausted) as caught:
        client.generate_images("neutrophil")
    assert caught.value.retry_after_s == 2.5


@pytest.mark.parametrize("count", [0, -1, 65])
def test_a_number_of_images_out_of_range_is_refused_by_the_server(client: Client, count: int) -> None:
    with pytest.raises(errors.InvalidInput, match="1 to 64"):
        client.generate_images("neutrophil", count=count)


def test_a_stream_of_too_many_images_is_refused_without_an_empty_event(client: Client) -> None:
    events = client.stream_images("neutrophil", count=10_001)
    with pytest.raises(errors.InvalidInput, match="10000"):
        next(events)


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", 2**63), ("seed", -(2**63) - 1), ("count", 2**40), ("steps", 2.5), ("guidance", "much")],
)
def test_a_value_that_no_message_holds_is_refused_before_it_is_sent(
    client: Client, name: str, value: Any
) -> None:
    with pytest.raises(errors.InvalidInput, match=name):
        client.generate_images("neutrophil", **{name: value})


def test_how_to_guide_reaches_the_server_and_comes_back_with_the_image(client: Client) -> None:
    how: dict[str, Any] = {
        "guidance_method": "cfg_pp", "guidance_start": 0.25, "guidance_stop": 0.75, "adapter_start": 0.5,
        "negative_prompt": "monocyte",
    }  # fmt: skip
    answer = client.generate_images("neutrophil", **how)
    streamed = [one for one in client.stream_images("neutrophil", **how) if isinstance(one, GeneratedImage)]
    for image in (*answer.images, *streamed):
        assert {name: getattr(image, name) for name in how} == how


def test_a_guidance_method_that_there_is_not_is_refused_with_those_that_there_are(client: Client) -> None:
    with pytest.raises(
        errors.InvalidInput, match="guidance_method: 'cfg\\+\\+' is not one of: cfg, cfg_pp, auto"
    ):
        client.generate_images("neutrophil", guidance_method="cfg++")


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, math.nan])
def test_a_timeout_that_is_none_is_refused(client: Client, timeout_s: float) -> None:
    with pytest.raises(errors.InvalidInput, match="timeout_s"):
        client.generate_images("neutrophil", timeout_s=timeout_s)


def test_an_unknown_word_is_refused_with_the_words_that_there_are(client: Client) -> None:
    with pytest.raises(errors.InvalidInput, match="human, simulated"):
        list(client.list_ratings(kind="robot"))
    with pytest.raises(errors.InvalidInput, match="pretrain, reward, align, evaluate"):
        client.start_training("dream")


def test_a_wrong_token_and_a_missing_role_are_told_apart(system: EdgedServer) -> None:
    with (
        vouch.connect(state=system.state, token="wrong") as stranger,
        pytest.raises(errors.Unauthenticated),
    ):
        stranger.describe_generator()
    with (
        vouch.connect(state=system.state, role="client") as client,
        pytest.raises(errors.PermissionDenied, match="operator"),
    ):
        client.start_training("reward")


def test_scores_come_back_for_every_item_and_a_bad_one_fails_alone(client: Client) -> None:
    items = [ScoreItem(item_id=str(i), data=flat_png(i), prompt="neutrophil") for i in range(40)]
    items[13] = ScoreItem(item_id="13", data=b"not an image", prompt="neutrophil")
    results = {result.item_id: result for result in client.score_stream(iter(items), batch=7)}
    assert len(results) == 40
    error = results["13"].error
    assert error is not None
    assert error.reason
    assert all((result.score is None) == (key == "13") for key, result in results.items())


def test_what_the_items_raise_is_raised_by_the_stream(client: Client) -> None:
    def items() -> Iterator[ScoreItem]:
        yield ScoreItem(item_id="1", data=flat_png(1), prompt="neutrophil")
        raise FileNotFoundError("the tar ends here")

    with pytest.raises(FileNotFoundError, match="the tar ends here"):
        list(client.score_stream(items(), batch=1))


def test_large_images_are_sent_though_their_message_could_hold_more(client: Client) -> None:
    answered = threading.Event()

    def items() -> Iterator[ScoreItem]:
        yield ScoreItem(item_id="1", data=bytes(5 * 2**20), prompt="neutrophil")
        assert answered.wait(60), "the first image waited for company that never came"
        yield ScoreItem(item_id="2", data=bytes(5 * 2**20), prompt="neutrophil")

    for result in client.score_stream(items(), batch=64):
        assert result.error is not None  # zeros are no image, and say so
        answered.set()


def test_a_stream_that_stays_broken_raises_what_the_server_said(system: EdgedServer) -> None:
    system.break_after = 2
    items = (ScoreItem(item_id=str(i), data=flat_png(i), prompt="neutrophil") for i in range(100))
    with (
        Client(find(state=system.state), patience_s=0.5) as client,
        pytest.raises(errors.Unavailable, match="went away"),
    ):
        list(client.score_stream(items, batch=1))


def test_a_rating_given_twice_is_one(client: Client) -> None:
    image = client.generate_images("neutrophil", seed=3).images[0]
    given = rating_of(image.digest, "once", answers={"cell_size": "unsure"}, text="µ")
    first, second = client.record_rating(given), client.record_rating(given)
    assert first == second
    assert (first.kind, first.verdict, first.answers) == ("human", "plausible", {"cell_size": "unsure"})
    assert list(client.list_ratings()) == [first]


def test_a_rating_of_an_unknown_image_says_so(client: Client) -> None:
    with pytest.raises(errors.NotFound) as caught:
        client.record_rating(rating_of("0" * 64, "r"))
    assert caught.value.reason == "UNKNOWN_IMAGE"


def test_an_import_counts_what_it_stored_knew_and_refused(client: Client) -> None:
    image = client.generate_images("neutrophil", seed=3).images[0]
    ratings = [rating_of(image.digest, f"r-{i % 5}") for i in range(6)] + [rating_of("0" * 64, "bad")]
    report = client.import_ratings(ratings, batch=2)
    assert (report.recorded, report.already_recorded, report.failed) == (5, 1, 1)
    assert [failure.index for failure in report.failures] == [6]


def test_real_images_are_kept_once_and_refused_one_by_one(client: Client) -> None:
    images = [RealImage(data=flat_png(i % 3), prompt="neutrophil") for i in range(6)]
    images += [RealImage(data=b"no image", prompt="platelet"), RealImage(data=flat_png(9), prompt="unicorn")]
    report = client.import_real_images(iter(images), batch=4)
    assert (report.stored, report.already_stored, report.failed) == (3, 3, 2)
    assert [(one.index, one.reason) for one in report.failures] == [(6, "NOT_AN_IMAGE"), (7, "UNKNOWN_LABEL")]
    assert {image.source for image in client.list_images()} == {"real"}


def test_who_may_only_rate_does_not_choose_what_is_hidden(system: EdgedServer) -> None:
    with (
        vouch.connect(state=system.state, token=TOKENS["rater"]) as rater,
        pytest.raises(errors.PermissionDenied, match="operator"),
    ):
        rater.import_real_images([RealImage(data=flat_png(1), prompt="neutrophil")])


def test_what_reading_the_images_raises_is_raised_by_the_import(client: Client) -> None:
    def images() -> Iterator[RealImage]:
        yield RealImage(data=flat_png(1), prompt="neutrophil")
        raise FileNotFoundError("the tar ends here")

    with pytest.raises(FileNotFoundError, match="the tar ends here"):
        client.import_real_images(images(), batch=1)
    with pytest.raises(errors.InvalidInput, match="cannot be sent"):
        client.import_real_images([RealImage(data="text", prompt="neutrophil")])  # type: ignore[arg-type]


def test_lists_fetch_their_pages_and_stop_at_the_limit(system: EdgedServer) -> None:
    with Client(find(state=system.state), page_size=2) as client:
        list(client.stream_images("neutrophil", count=5))
        assert len({image.digest for image in client.list_images()}) == 5
        assert len(list(client.list_images(limit=3))) == 3
        assert list(client.list_images(limit=0)) == []


def test_training_settings_keep_their_types_on_the_way(client: Client) -> None:
    config = {
        "steps": 5,
        "lr": 0.5,
        "data": "x.parquet",
        "symmetric": True,
        "widths": [8, 16],
        "domain": None,
    }
    run = client.start_training("reward", config)
    assert run.config == config
    assert (run.kind, run.state) == ("reward", "QUEUED")
    assert [seen.state for seen in client.watch_run(run.run_id)][-1] == "SUCCEEDED"


def test_settings_that_json_cannot_say_are_refused(client: Client) -> None:
    with pytest.raises(errors.InvalidInput, match="config"):
        client.start_training("reward", {"data": object()})


def test_nobody_answering_is_said_with_the_address_and_what_to_do() -> None:
    with (
        vouch.connect("127.0.0.1:1", token="t") as client,
        pytest.raises(errors.Unavailable, match=r"127\.0\.0\.1:1.*vouch up"),
    ):
        client.get_serving()


def test_an_image_beyond_grpcs_own_limit_of_4_mib_passes(system: EdgedServer, client: Client) -> None:
    image = client.generate_images("neutrophil", seed=9).images[0]
    system.images[image.digest].data = bytes(12 * 2**20)
    assert len(client.get_image(image.digest).data) == 12 * 2**20


def test_a_plain_grpc_client_sees_code_sentence_and_error_info(system: EdgedServer) -> None:
    with grpc.insecure_channel(vouch.connect(state=system.state).address) as channel:
        stub = training_pb2_grpc.TrainingServiceStub(channel)
        metadata = (("authorization", f"Bearer {TOKENS['operator']}"),)
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetRun(training_pb2.GetRunRequest(run_id="none"), metadata=metadata, timeout=30)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "none" in caught.value.details()
    assert dict(caught.value.trailing_metadata())["grpc-status-details-bin"]


def test_the_asyncio_client_does_the_same(system: EdgedServer) -> None:
    async def use() -> None:
        async with vouch.connect_async(state=system.state) as client:
            reply = await client.generate_images("neutrophil", count=2, seed=1)
            streamed = [event async for event in client.stream_images("neutrophil", count=2)]
            assert isinstance(streamed[-1], GenerationSummary)
            items = [ScoreItem(item_id=i.digest, digest=i.digest) for i in reply.images]
            scored = {result.item_id async for result in client.score_stream(items)}
            assert scored == {image.digest for image in reply.images}
            await client.record_rating(rating_of(reply.images[0].digest, "r"))
            report = await client.import_ratings([rating_of(reply.images[1].digest, "s")])
            assert report.recorded == 1
            hidden = await client.import_real_images([RealImage(data=flat_png(200), prompt="neutrophil")])
            assert (hidden.stored, hidden.failed) == (1, 0)
            assert len([rating async for rating in client.list_ratings()]) == 2
            with pytest.raises(errors.NotFound):
                await client.get_run("none")
            with pytest.raises(errors.InvalidInput):
                [event async for event in client.stream_images("neutrophil", count=10_001)]

    asyncio.run(use())


def test_what_asynchronous_items_raise_is_raised_by_the_stream(system: EdgedServer) -> None:
    async def items() -> Any:
        yield ScoreItem(item_id="1", data=flat_png(1), prompt="neutrophil")
        raise FileNotFoundError("the tar ends here")

    async def use() -> None:
        async with vouch.connect_async(state=system.state) as client:
            [result async for result in client.score_stream(items(), batch=1)]

    with pytest.raises(FileNotFoundError, match="the tar ends here"):
        asyncio.run(use())
