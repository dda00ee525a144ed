from __future__ import annotations

import numpy as np
from PIL import Image

from services.reward.app import _decode_all, _outcome
from tests.image_files import encoded, png
from vouch.errors import InvalidInput
from vouch.types.score import ImageScore, ItemError


def test_what_one_image_does_to_the_decoder_is_its_own_outcome() -> None:
    sound = png(7)
    missing = encoded(Image.new("L", (4, 4)), "TIFF").replace(b"\x00\x01\x04\x00", b"\x00\x01\x00\x00", 1)
    first, *others, last = _decode_all([sound, missing, b"", b"\xff\xd8\xff", sound])
    assert isinstance(first, np.ndarray)
    assert np.array_equal(first, last)
    assert all(isinstance(other, ItemError) for other in others)


def test_whatever_scoring_raises_for_one_image_is_a_refusal_of_that_image() -> None:
    score = ImageScore(score=0.5, score_std=0.1)
    assert _outcome(score) is score
    assert _outcome(InvalidInput("No.", "NOT_AN_IMAGE")) == ItemError(reason="NOT_AN_IMAGE", message="No.")
    odd = _outcome(TypeError("bad operand"))
    assert isinstance(odd, ItemError)
    assert (odd.reason, "TypeError: bad operand" in odd.message) == ("INTERNAL", True)
