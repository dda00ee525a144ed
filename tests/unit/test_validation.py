from __future__ import annotations

import pytest

from services.gateway import validation
from vouch.errors import InvalidInput


def drawing(**changes) -> validation.Drawing:
    values = {
        "request_id": "r1", "prompt": "neutrophil", "count": None, "seed": None, "steps": None, "guidance": None,
        "version": "", "score": True, "reward_version": "", "timeout_s": None, "stream": False,
    }  # fmt: skip
    return validation.check_drawing(**{**values, **changes})


def test_a_prompt_that_says_nothing_is_refused():
    with pytest.raises(InvalidInput, match="The prompt is empty"):
        drawing(prompt="  ")


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
