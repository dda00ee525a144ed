from __future__ import annotations

import shutil

import grpc
import pytest

from tests.ray.conftest import Running, apart, until
from vouch.client import Client
from vouch.errors import AlreadyExists, DeadlineExceeded, InvalidInput
from vouch.formats import images
from vouch.pb.v1 import generation_pb2 as pb
from vouch.pb.v1 import generation_pb2_grpc

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def test_every_image_says_how_it_was_made_and_is_stored(client, first):
    reply = client.generate_images(
        "neutrophil, cell size big", count=3, seed=2**63 - 1, steps=3, guidance=1.5
    )
    assert [image.index for image in reply.images] == [0, 1, 2]
    assert [image.seed for image in reply.images] == [2**63 - 1, 0, 1]
    assert len({image.digest for image in reply.images}) == 3
    for image in reply.images:
        assert image.digest == images.digest(image.data)
        assert images.decode(image.data).shape == (32, 32, 3)
        assert (image.steps, image.guidance, image.sampler) == (3, 1.5, "ddim")
        assert image.generator_version == reply.generator_version == first.digest
        assert image.reward_version == reply.reward_version
        assert 0 <= image.score <= 1
        stored = client.get_image(image.digest)
        assert (stored.data, stored.seed, stored.label) == (image.data, image.seed, "neutrophil")
        assert stored.generator_name == "generator-first"


def test_every_image_says_how_it_was_guided_and_can_be_drawn_again_from_that(client):
    how = {"guidance_method": "cfg_pp", "guidance_start": 0.25, "guidance_stop": 0.75}
    image = client.generate_images("monocyte", seed=5, steps=4, guidance=0.6, score=False, **how).images[0]
    stored = client.get_image(image.digest)
    for told in (image, stored):
        assert {name: getattr(told, name) for name in how} == how
        assert (told.guidance, told.adapter_start) == (0.6, 0.0)
    fields = ("seed", "steps", "guidance", *how, "adapter_start")
    again = client.generate_images(
        stored.prompt, score=False, **{name: getattr(stored, name) for name in fields}
    ).images[0]
    assert apart(image.data, again.data) <= 1


def test_guidance_that_the_generator_does_not_know_is_refused_and_described(client):
    known = client.describe_generator()
    assert known.guidance_methods == ("cfg", "cfg_pp")
    assert (known.default_guidance_method, known.default_guidance_start, known.default_guidance_stop) == (
        "cfg", 0.0, 1.0,
    )  # fmt: skip
    with pytest.raises(InvalidInput, match="no guide folder to autoguide with"):
        client.generate_images("monocyte", guidance_method="autoguidance")
    with pytest.raises(InvalidInput, match="no adapter upon another one"):
        client.generate_images("monocyte", adapter_start=0.5)


def test_the_same_seed_draws_the_same_image_whatever_its_mates(client):
    alone = client.generate_images("monocyte", seed=11, score=False).images[0]
    among = client.generate_images("monocyte", seed=8, count=6, score=False).images[3]
    assert apart(alone.data, among.data) <= 1
    assert alone.score is None


def test_a_repeated_request_id_returns_what_is_stored_and_draws_nothing(client):
    once = client.generate_images("basophil", count=2, request_id="again")
    twice = client.generate_images("basophil", count=2, request_id="again")
    assert [image.digest for image in once.images] == [image.digest for image in twice.images]
    assert [image.score for image in once.images] == [image.score for image in twice.images]
    assert (once.summary.engine_s > 0, twice.summary.engine_s) == (True, 0)


def test_a_request_id_used_for_other_images_is_refused(client):
    client.generate_images("basophil", request_id="taken")
    with pytest.raises(AlreadyExists, match="already used for other images"):
        client.generate_images("monocyte", request_id="taken")
    for other in ({"sampler": "euler"}, {"eta": 0.5}):
        with pytest.raises(AlreadyExists, match="already used for other images"):
            client.generate_images("basophil", request_id="taken", **other)


def test_a_stream_tells_progress_sends_every_image_and_ends_with_a_summary(client):
    events = list(client.stream_images("eosinophil", count=40, seed=5))
    drawn = [event for event in events if hasattr(event, "digest")]
    progress = [event for event in events if hasattr(event, "images_done")]
    assert sorted(image.index for image in drawn) == list(range(40))
    assert sorted(image.seed for image in drawn) == list(range(5, 45))
    assert any(0 < step.images_done < 40 for step in progress)
    assert {step.total_steps for step in progress} == {4}
    assert events[-1].images == 40
    assert {image.generator_version for image in drawn} == {events[-1].generator_version}


def test_a_request_chooses_sampler_and_eta_and_the_image_says_so(client):
    told = {}
    for sampler, eta in (("", 0.0), ("ddim", 0.0), ("ddim", 0.7), ("euler", 0.0), ("dpm++2m", 0.0)):
        image = client.generate_images("monocyte", seed=3, sampler=sampler, eta=eta, score=False).images[0]
        told[sampler, eta] = (image.sampler, image.digest)
    assert told["", 0.0] == told["ddim", 0.0]
    assert [name for name, _ in told.values()] == ["ddim", "ddim", "ddim eta=0.7", "euler", "dpm++2m"]
    # Euler and DDIM without noise walk the same way in other coordinates: their images may agree.
    assert len({told[way][1] for way in (("ddim", 0.0), ("ddim", 0.7), ("dpm++2m", 0.0))}) == 3
    with pytest.raises(InvalidInput, match="only the sampler ddim"):
        client.generate_images("monocyte", sampler="euler", eta=0.7)


def test_a_stream_shows_what_is_being_drawn(client):
    events = list(client.stream_images("eosinophil", count=2, steps=40, preview_every=5))
    previews = [event for event in events if hasattr(event, "total_steps") and hasattr(event, "data")]
    assert {preview.index for preview in previews} == {0, 1}
    assert all(5 <= preview.step < preview.total_steps == 40 for preview in previews)
    assert images.decode(previews[0].data).shape == (32, 32, 3)


def test_the_page_of_figures_tells_of_the_engine(system: Running, client):
    client.generate_images("monocyte", count=3, steps=4, score=False)
    counted = {
        name: system.metric(f"vouch_engine_{name}")
        for name in ("steps_total", "image_steps_total", "batch_images_count", "admission_steps_count",
                     "wait_seconds_count", "seconds_count", "stage_seconds_count")
    }  # fmt: skip
    assert all(value > 0 for value in counted.values()), counted
    assert counted["image_steps_total"] > counted["steps_total"]


def test_a_cancelled_stream_frees_the_engine(system: Running):
    metadata = [("authorization", f"Bearer {system.folder.read_access().tokens['client']}")]
    with grpc.insecure_channel(system.address) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        call = stub.StreamImages(
            pb.StreamImagesRequest(prompt="monocyte", count=10_000, steps=200), metadata=metadata
        )
        next(call)
        until(lambda: system.metric("vouch_engine_running_images") > 0)
        call.cancel()
        # Ten thousand images of two hundred steps would take an hour.
        until(
            lambda: (
                system.metric("vouch_engine_running_images") + system.metric("vouch_engine_waiting_images")
                == 0
            )
        )
    assert system.metric("vouch_engine_evictions_total") > 0


def test_a_caller_without_patience_is_told_that_the_time_was_up(client):
    with pytest.raises(DeadlineExceeded, match="not ready within timeout_s"):
        client.generate_images("monocyte", count=64, steps=200, timeout_s=0.01)


def test_a_description_names_the_words_and_limits(client: Client):
    described = client.describe_generator()
    assert described.generator_name == "generator-first"
    assert "neutrophil" in described.labels
    assert {attribute.name for attribute in described.attributes} == {"cell size", "nucleus shape"}
    assert (described.max_images_per_call, described.max_images_per_stream) == (64, 10_000)
    for prompt in described.example_prompts:
        client.generate_images(prompt, steps=1, score=False)


def test_a_scheduler_that_shares_no_steps_draws_whole_images_and_says_so(client, registry, models, tmp_path):
    folder = tmp_path / "ancestral"
    shutil.copytree(models / "first", folder)
    for path in (folder / "model_index.json", folder / "scheduler" / "scheduler_config.json"):
        path.write_text(path.read_text().replace("DDIMScheduler", "EulerAncestralDiscreteScheduler"))
    other = registry.publish(folder, kind="generator", format="diffusers", name="generator-ancestral")
    reply = client.generate_images("monocyte", count=2, seed=5, steps=2, version=other.digest)
    assert [image.generator_version for image in reply.images] == [other.digest] * 2
    assert "EulerAncestralDiscreteScheduler" in reply.summary.fallback_reason
    assert client.generate_images("monocyte", seed=5, steps=2).summary.fallback_reason == ""
