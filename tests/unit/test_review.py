"""The review queue: new images that teach, and hidden between them some that show how reliable a rater is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from services.feedback.review import Review
from vouch.blobs import BlobStore
from vouch.catalog import Catalog
from vouch.registry import Registry
from vouch.settings import ReviewSettings


@pytest.fixture
def place(catalog: Catalog, tmp_path: Path, make_image, make_rating, domain):
    """A catalog with 30 new images, 10 real ones, and 5 that the rater has rated."""
    blobs = BlobStore(tmp_path / "blobs")
    kinds = ["generated"] * 35 + ["real"] * 10
    for number, source in enumerate(kinds):
        data = f"image {number}".encode()
        record = make_image(number, digest=blobs.put(data), size_bytes=len(data), source=source)
        catalog.images.add([record])
    listed = catalog.images.list(page_size=100).items
    generated = [image for image in listed if image.source == "generated"]
    for image in generated[:5]:
        catalog.ratings.record(make_rating(image.digest, rater="me"), domain)
    return catalog, blobs, {image.digest for image in generated[:5]}


def sources(place, tmp_path: Path, **shares) -> list[str]:
    """Of 60 calls for one image each: "new", "real" or "seen"."""
    catalog, blobs, seen = place
    registry = Registry(catalog, tmp_path / "models")
    review = Review(catalog, blobs, registry, ReviewSettings(**shares), random.Random(0))
    asked = [review.next("me", 1, kind="human", label=None, generator=None) for _ in range(60)]
    records = [record for found in asked for record, _ in found]
    return ["real" if r.source == "real" else "seen" if r.digest in seen else "new" for r in records]


def test_some_are_real_and_some_were_seen_before(place, tmp_path):
    found = sources(place, tmp_path, real_share=0.2, repeat_share=0.2)
    assert 4 <= found.count("real") <= 24
    assert 4 <= found.count("seen") <= 24
    assert len(found) == 60


def test_without_such_shares_all_are_new(place, tmp_path):
    assert set(sources(place, tmp_path, real_share=0.0, repeat_share=0.0)) == {"new"}


def test_when_nothing_new_is_left_nobody_is_asked_again(place, tmp_path, make_rating, domain):
    catalog, _, _ = place
    for image in catalog.images.next_for_review("me", count=100):
        catalog.ratings.record(make_rating(image.digest, rater="me"), domain)
    assert sources(place, tmp_path, real_share=0.5, repeat_share=0.5) == []
