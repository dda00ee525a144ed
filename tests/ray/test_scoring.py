from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vouch.errors import InvalidInput, NotFound
from vouch.formats import images
from vouch.types.score import ScoreItem

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def png(seed: int = 0, size: int = 32) -> bytes:
    return images.encode_png(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def bomb() -> bytes:
    """A small PNG whose header promises 100 megapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png(seed, 48))).save(buffer, "JPEG")
    return buffer.getvalue()


def test_scores_come_in_the_order_of_the_images_whatever_their_form(client):
    items = [
        ScoreItem(item_id="a", data=png(1), prompt="neutrophil"),
        ScoreItem(item_id="b", data=jpeg(2), prompt="monocyte, cell size big"),
    ]
    scores = client.score_images(items)
    assert [score.item_id for score in scores] == ["a", "b"]
    assert scores[0].digest == images.digest(items[0].data)
    assert set(scores[0].criterion_scores) == {"cell_size", "nucleus_shape"}
    assert all(0 <= score.score <= 1 for score in scores)


def test_an_image_scores_the_same_alone_and_among_others(client):
    item = ScoreItem(data=png(3), prompt="neutrophil")
    alone = client.score_images([item])[0]
    among = client.score_images([ScoreItem(data=png(i), prompt="basophil") for i in range(9)] + [item])[-1]
    assert alone.score == pytest.approx(among.score, abs=1e-5)


def test_a_stored_image_is_scored_by_its_digest_and_its_own_prompt(client):
    drawn = client.generate_images("eosinophil").images[0]
    score = client.score_images([ScoreItem(digest=drawn.digest)])[0]
    assert score.score == pytest.approx(drawn.score, abs=1e-5)


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        (
            ScoreItem(item_id="x", data=b"not an image", prompt="neutrophil"),
            r"Image 0 \(x\): .* not an image",
        ),
        (ScoreItem(data=bomb(), prompt="neutrophil"), "16 megapixels"),
        (ScoreItem(data=png()[:200], prompt="neutrophil"), "damaged or truncated"),
        (ScoreItem(data=png(), prompt="dog"), "never learned"),
        (ScoreItem(data=png()), "prompt is empty"),
        (ScoreItem(digest="abc"), "is not a digest"),
        (ScoreItem(prompt="neutrophil"), "has no image"),
    ],
    ids=["text", "bomb", "truncated", "prompt", "no prompt", "digest", "nothing"],
)
def test_a_bad_image_fails_the_call_and_is_named(client, item, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        client.score_images([item])


def test_an_image_that_is_not_stored_is_not_found(client):
    with pytest.raises(NotFound, match="There is no image 0000"):
        client.score_images([ScoreItem(digest="0" * 64)])


def test_a_stream_scores_everything_and_gives_a_bad_item_its_own_error(client):
    items = [ScoreItem(item_id=str(i), data=png(i), prompt="lymphocyte") for i in range(150)]
    items[7] = ScoreItem(item_id="7", data=bomb(), prompt="lymphocyte")
    items[90] = ScoreItem(item_id="90", data=png(90), prompt="unicorn")
    results = {result.item_id: result for result in client.score_stream(items, batch=16)}
    assert set(results) == {str(i) for i in range(150)}
    bad = {item_id: result.error for item_id, result in results.items() if result.error}
    assert set(bad) == {"7", "90"}
    assert (bad["7"].reason, bad["90"].reason) == ("IMAGE_TOO_LARGE", "UNKNOWN_LABEL")
    alone = client.score_images([items[149]])[0]
    assert results["149"].score.score == pytest.approx(alone.score, abs=1e-5)


def test_an_empty_stream_ends_at_once(client):
    assert list(client.score_stream([])) == []
