from __future__ import annotations

import math

import pytest

from services.gateway import validation
from vouch import wire
from vouch.errors import InvalidInput
from vouch.pb.v1 import generation_pb2 as pb
from vouch.types.generation import GenerationRequest
from vouch.types.guidance import METHODS, GuidanceChoice


def checked(*, stream: bool = False, **fields) -> GenerationRequest:
    return validation.checked(
        GenerationRequest(**{"prompt": "neutrophil", "seeds": (7,), "request_id": "r1", **fields}),
        stream=stream,
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"guidance_method": "much"}, "guidance_method is 'much'; choose one of cfg, cfg_pp"),
        ({"guidance_start": math.nan}, "guidance_start is nan; it must be a number from 0 to 1"),
        ({"guidance_stop": 1.1}, "guidance_stop is 1.1"),
        ({"adapter_start": -1.0}, "adapter_start is -1"),
        ({"guidance_start": 0.6, "guidance_stop": 0.4}, "guidance must start before it stops"),
        ({"guidance_method": "cfg_pp", "guidance": 2.0}, "guidance is 2; CFG.. interpolates"),
        ({"prompt": "  "}, "The prompt is empty"),
    ],
)
def test_a_value_that_no_generator_could_use_is_refused(changes, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        checked(**changes)


def test_what_is_left_out_is_an_id_a_limit_of_time_and_the_generators_defaults():
    request = checked(request_id="")
    assert (request.steps, request.guidance, request.timeout_s) == (None, None, 300.0)
    assert request.request_id
    assert checked(stream=True).timeout_s is None


def test_images_have_their_places_in_the_request():
    assert checked(seeds=(5, 6, 7)).indices == (0, 1, 2)


def test_seeds_count_up_and_wrap_at_the_end():
    assert validation.seeds("r1", 2**63 - 2, 3) == (2**63 - 2, 2**63 - 1, 0)


def test_a_repeated_request_id_draws_the_same_images_and_another_does_not():
    assert validation.seeds("r1", None, 2) == validation.seeds("r1", None, 2)
    assert validation.seeds("r1", None, 2) != validation.seeds("r2", None, 2)


def test_requests_without_an_id_draw_different_images():
    assert validation.seeds("", None, 2) != validation.seeds("", None, 2)


def test_a_scoring_message_holds_an_image():
    with pytest.raises(InvalidInput, match="send at least one"):
        validation.check_items(0)


def test_an_item_of_a_stream_needs_an_id():
    with pytest.raises(InvalidInput, match="item_id is empty"):
        validation.check_item_id("", needed=True)
    assert validation.check_item_id("", needed=False) == ""


def test_guidance_methods_are_the_words_of_the_contract():
    enum = pb.GuidanceMethod.DESCRIPTOR
    assert [wire.enum_word(enum, number) for number in range(len(METHODS) + 1)] == ["", *METHODS]
    assert len(enum.values) == len(METHODS) + 1


def test_what_a_request_says_of_guidance_is_its_choice_and_what_it_leaves_out_is_none():
    message = pb.GenerateImagesRequest(guidance_start=0.0, guidance_method="GUIDANCE_METHOD_CFG_PP")
    assert wire.to_value(message, GenerationRequest, seeds=(1,)).choice == GuidanceChoice(
        method="cfg_pp", start=0.0, negative_prompt=""
    )
    nothing_said = wire.to_value(pb.StreamImagesRequest(), GenerationRequest, seeds=(1,))
    assert nothing_said.choice == GuidanceChoice(
        negative_prompt=""
    )  # no words are no words, whatever the defaults


@pytest.mark.parametrize("kind", [pb.GenerateImagesRequest, pb.StreamImagesRequest])
def test_every_field_of_a_request_for_images_is_one_of_the_value(kind):
    fields = set(kind.DESCRIPTOR.fields_by_name) - {"count", "seed"}
    assert fields <= set(GenerationRequest.__dataclass_fields__)
