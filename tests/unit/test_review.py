"""The review queue: new images that teach, and hidden between them some that show how reliable a rater is."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from services.feedback.review import Review
from services.feedback.selection import is_reserved
from training.inputs.rated import RATINGS_FILE
from training.inputs.snapshot import freeze
from vouch.errors import NotFound
from vouch.settings import ReviewSettings
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.types.review import HandedOut


@pytest.fixture
def place(catalog: Catalog, blobs: BlobStore, make_image, make_rating, domain):
    """A catalog with 30 new images, 10 real ones, and 5 that the rater has rated."""
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
    review = Review(catalog, blobs, ReviewSettings(**shares), random.Random(0))
    asked = [review.next("me", 1, kind="human", label=None, generator=None) for _ in range(60)]
    records = [record for found in asked for record, _ in found]
    return ["real" if r.source == "real" else "seen" if r.digest in seen else "new" for r in records]


def test_some_are_real_and_some_were_seen_before(place, tmp_path):
    found = sources(place, tmp_path, real_share=0.2, repeat_share=0.2)
    assert 4 <= found.count("real") <= 24
    assert 4 <= found.count("seen") <= 24
    assert len(found) == 60


def test_a_real_image_takes_the_place_of_one_that_is_worded_as_it_is(place, tmp_path, make_image):
    """Else its prompt would tell: all drawn images here name the class alone."""
    catalog, blobs, _ = place
    for number, prompt in enumerate(("neutrophil, cell size big", "monocyte") * 5):
        data = f"more {number}".encode()
        real = make_image(
            200 + number, digest=blobs.put(data), source="real", prompt=prompt, label=prompt.split(",")[0]
        )
        catalog.images.add([real])
    review = Review(
        catalog,
        blobs,
        ReviewSettings(real_share=0.5),
        random.Random(0),
    )
    found = review.next("me", 15, kind="human", label=None, generator=None)
    assert {record.source for record, _ in found} == {"generated", "real"}
    assert {record.prompt for record, _ in found} == {"neutrophil"}


def test_how_each_image_was_chosen_is_logged_with_its_chance(place, tmp_path):
    catalog, blobs, _ = place
    settings = ReviewSettings(real_share=0.2, repeat_share=0.2, uniform_share=0.3)
    review = Review(catalog, blobs, settings, random.Random(0))
    for _ in range(40):
        for record, _data in review.next("me", 2, kind="human", label=None, generator=None):
            logged = catalog.reviews.of(record.digest)[-1]
            assert (logged.rater, logged.kind) == ("me", "human")
            assert (logged.stratum == "real") == (record.source == "real")
            drawn = logged.stratum in ("uniform", "queue")
            assert (
                (logged.propensity is not None and 0 < logged.propensity <= 1)
                if drawn
                else not logged.propensity
            )
    strata = [
        one.stratum
        for image in catalog.images.list(page_size=100).items
        for one in catalog.reviews.of(image.digest)
    ]
    assert len(strata) == 80 and set(strata) == {"uniform", "queue", "real", "repeat"}


def test_ratings_of_what_was_drawn_uniformly_are_frozen_as_such(place, tmp_path, make_rating, domain):
    catalog, blobs, _ = place
    settings = ReviewSettings(real_share=0.0, repeat_share=0.0, uniform_share=0.3)
    review = Review(catalog, blobs, settings, random.Random(0))
    for record, _ in review.next("me", 30, kind="human", label=None, generator=None):
        catalog.ratings.record(make_rating(record.digest, rater="me"), domain)
    freeze(catalog, blobs, tmp_path / "run", kinds=("human",), domain=None)
    rows = pq.read_table(tmp_path / "run" / RATINGS_FILE).to_pylist()
    uniform = {row["digest"] for row in rows if row["uniform"]}
    assert uniform == catalog.reviews.uniform() == {d for d in uniform if is_reserved(d, 0.3)}
    assert 0 < len(uniform) < 30


def test_an_image_that_its_score_chose_first_is_no_fair_sample(catalog, make_image):
    image = make_image(1)
    catalog.images.add([image])
    by_score = HandedOut(image=image.digest, rater="ada", kind="human", stratum="queue", propensity=0.1)
    by_chance = HandedOut(image=image.digest, rater="eve", kind="human", stratum="uniform", propensity=0.1)
    catalog.reviews.add([by_score, by_chance])
    assert catalog.reviews.of(image.digest) == (by_score, by_chance)
    assert not catalog.reviews.uniform()
    with pytest.raises(NotFound):
        catalog.reviews.add([HandedOut(image="0" * 64, rater="ada", kind="human", stratum="queue")])


def test_without_such_shares_all_are_new(place, tmp_path):
    assert set(sources(place, tmp_path, real_share=0.0, repeat_share=0.0)) == {"new"}


def test_when_nothing_new_is_left_nobody_is_asked_again(place, tmp_path, make_rating, domain):
    catalog, _, _ = place
    for image in catalog.images.next_for_review("me", count=100):
        catalog.ratings.record(make_rating(image.digest, rater="me"), domain)
    assert sources(place, tmp_path, real_share=0.5, repeat_share=0.5) == []


def test_repeats_come_from_the_generator_that_was_asked_for(place, tmp_path, make_rating, make_image, domain):
    catalog, blobs, _ = place
    for number, generator in enumerate(("a" * 64,) * 8 + ("b" * 64,) * 8):
        data = f"drawn {number}".encode()
        drawn = make_image(100 + number, digest=blobs.put(data), generator_version=generator)
        catalog.images.add([drawn])
        if number % 8 < 4:
            catalog.ratings.record(make_rating(drawn.digest, rater="me"), domain)
    settings = ReviewSettings(real_share=0.0, repeat_share=0.5)
    review = Review(catalog, blobs, settings, random.Random(0))
    asked = [review.next("me", 4, kind="human", label=None, generator="a" * 64) for _ in range(10)]
    records = [record for found in asked for record, _ in found]
    assert {record.generator_version for record in records} == {"a" * 64}
    assert any(
        record.digest in {r.digest for r in catalog.images.rated_by("me", count=50)} for record in records
    )


def test_a_repeat_is_rated_again_and_both_ratings_count(place, tmp_path, make_rating, domain):
    """Only so can it show how often a rater says the same of the same image; it is asked no third time."""
    catalog, blobs, seen = place
    (image,) = catalog.images.rated_by("me", count=1)
    assert image.digest in seen
    catalog.ratings.record(make_rating(image.digest, rater="me", verdict="implausible"), domain)
    kept = catalog.ratings.list(image=image.digest, rater="me", current_only=True).items
    assert sorted(rating.verdict for rating in kept) == ["implausible", "plausible"]
    assert image.digest not in {again.digest for again in catalog.images.rated_by("me", count=50)}
    freeze(catalog, blobs, tmp_path / "run", kinds=("human",), domain=None)
    assert json.loads(_row(tmp_path / "run", image.digest)["ratings"]) == sorted(r.id for r in kept)
    assert _row(tmp_path / "run", image.digest)["overall"] == 0.5


def _row(folder: Path, digest: str) -> dict[str, Any]:
    rows = pq.read_table(folder / RATINGS_FILE).to_pylist()
    return next(row for row in rows if row["digest"] == digest)
