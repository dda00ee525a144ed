from __future__ import annotations

import math

import pytest

from services.gateway import guidance, validation
from vouch.errors import InvalidInput
from vouch.pb.v1 import generation_pb2
from vouch.types.guidance import METHODS, GuidanceChoice, GuidanceOptions


def drawing(**changes) -> validation.Drawing:
    values = {
        "request_id": "r1", "prompt": "neutrophil", "count": None, "seed": None, "steps": None, "guidance": None,
        "version": "", "score": True, "reward_version": "", "timeout_s": None, "stream": False,
    }  # fmt: skip
    return validation.check_drawing(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"choice": GuidanceChoice(method="much")}, "guidance_method is 'much'; choose one of cfg, cfg_pp"),
        (
            {"choice": GuidanceChoice(start=math.nan)},
            "guidance_start is nan; it must be a number from 0 to 1",
        ),
        ({"choice": GuidanceChoice(stop=1.1)}, "guidance_stop is 1.1"),
        ({"choice": GuidanceChoice(adapter_start=-1.0)}, "adapter_start is -1"),
        ({"choice": GuidanceChoice(start=0.6, stop=0.4)}, "guidance must start before it stops"),
        ({"choice": GuidanceChoice(method="cfg_pp"), "guidance": 2.0}, "guidance is 2; CFG.. interpolates"),
        ({"prompt": "  "}, "The prompt is empty"),
    ],
)
def test_a_value_that_no_generator_could_use_is_refused(changes, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        drawing(**changes)


def test_what_is_left_out_becomes_one_image_with_the_generators_defaults():
    checked = drawing(request_id="")
    assert len(checked.seeds) == 1
    assert (checked.steps, checked.guidance, checked.timeout_s) == (None, None, 300.0)
    assert checked.request_id


def test_seeds_count_up_and_wrap_at_the_end():
    assert drawing(count=3, seed=2**63 - 2).seeds == (2**63 - 2, 2**63 - 1, 0)


def test_a_repeated_request_id_draws_the_same_images_and_another_does_not():
    assert drawing(count=2).seeds == drawing(count=2).seeds
    assert drawing(count=2).seeds != drawing(count=2, request_id="r2").seeds


def test_requests_without_an_id_draw_different_images():
    assert drawing(request_id="").seeds != drawing(request_id="").seeds


def test_a_scoring_message_holds_an_image():
    with pytest.raises(InvalidInput, match="send at least one"):
        validation.check_items(0)


def test_an_item_of_a_stream_needs_an_id():
    with pytest.raises(InvalidInput, match="item_id is empty"):
        validation.check_item_id("", needed=True)
    assert validation.check_item_id("", needed=False) == ""


def test_guidance_methods_have_the_numbers_of_the_contract():
    for number, name in enumerate(["", *METHODS]):
        assert guidance.method_of(number) == name
        assert (
            generation_pb2.GuidanceMethod.Name(number) == f"GUIDANCE_METHOD_{name.upper() or 'UNSPECIFIED'}"
        )
    assert len(generation_pb2.GuidanceMethod.items()) == len(METHODS) + 1
    assert [guidance.method_of(guidance.number_of(method)) for method in METHODS] == list(METHODS)
    with pytest.raises(InvalidInput, match="guidance_method is 9; choose one of cfg, cfg_pp, autoguidance"):
        guidance.method_of(9)


def test_what_a_request_says_of_guidance_is_its_choice_and_what_it_leaves_out_is_none():
    request = generation_pb2.GenerateImagesRequest(
        guidance_start=0.0, guidance_method="GUIDANCE_METHOD_CFG_PP"
    )
    assert guidance.choice_of(request) == GuidanceChoice(method="cfg_pp", start=0.0)
    assert guidance.choice_of(generation_pb2.StreamImagesRequest()) == GuidanceChoice()


def test_how_images_are_guided_fits_the_messages_that_tell_of_it():
    options = GuidanceOptions(method="autoguidance", start=0.25, stop=0.75, adapter_start=0.5)
    image = generation_pb2.GeneratedImage(**guidance.fields_of(options))
    told = generation_pb2.DescribeGeneratorResponse(**guidance.fields_of(options, "default_"))
    assert (image.guidance_method, image.guidance_start) == (
        generation_pb2.GUIDANCE_METHOD_AUTOGUIDANCE,
        0.25,
    )
    assert (told.default_guidance_stop, told.default_adapter_start) == (0.75, 0.5)
