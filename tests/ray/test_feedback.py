from __future__ import annotations

import dataclasses
import uuid

import numpy as np
import pytest

from vouch.client import Client, RealImage
from vouch.errors import AlreadyExists, InvalidInput, NotFound
from vouch.formats import images as codec
from vouch.storage.catalog import Catalog
from vouch.types.rating import NewRating

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def image(client: Client) -> str:
    return client.generate_images("neutrophil", seed=77).images[0].digest


def rating(digest: str, **changes) -> NewRating:
    values = {
        "request_id": uuid.uuid4().hex,
        "image": digest,
        "rater": "ada",
        "kind": "human",
        "verdict": "implausible",
        "answers": {"cell_size": "fail"},
        "text": "too large",
        "duration_ms": 1500,
        **changes,
    }
    return NewRating(**values)


def test_a_rating_is_stored_once_however_often_it_is_sent(client, image, first):
    new = rating(image)
    stored = client.record_rating(new)
    assert client.record_rating(new) == stored
    assert (stored.verdict, stored.answers, stored.text) == (
        "implausible",
        {"cell_size": "fail"},
        "too large",
    )
    assert (stored.generator_version, stored.domain) == (first.digest, "blood_cells")
    assert [
        one.id for one in client.list_ratings(image_digest=image) if one.request_id == new.request_id
    ] == [stored.id]


def test_the_same_request_id_with_another_verdict_is_refused(client, image):
    new = rating(image)
    client.record_rating(new)
    with pytest.raises(AlreadyExists, match="already used for another rating"):
        client.record_rating(dataclasses.replace(new, verdict="plausible"))


def test_a_correction_takes_the_place_of_the_first_verdict_and_both_are_kept(client, image):
    wrong = client.record_rating(rating(image, rater="grace"))
    right = client.record_rating(rating(image, rater="grace", verdict="plausible", supersedes=wrong.id))
    assert [one.id for one in client.list_ratings(rater="grace")] == [right.id]
    everything = client.list_ratings(rater="grace", include_superseded=True)
    assert {one.id for one in everything} == {wrong.id, right.id}


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"image": "0" * 64}, NotFound, "There is no image 0000"),
        ({"answers": {"colour": "pass"}}, InvalidInput, "Unknown criterion 'colour'"),
        ({"rater": ""}, InvalidInput, "rater is missing"),
        ({"supersedes": "nothing"}, NotFound, "no rating nothing to supersede"),
    ],
    ids=["unknown image", "unknown criterion", "no rater", "unknown rating"],
)
def test_a_rating_that_cannot_be_kept_is_refused_with_the_reason(client, image, changes, error, sentence):
    with pytest.raises(error, match=sentence):
        client.record_rating(rating(image, **changes))


def test_an_import_keeps_what_it_can_and_says_what_it_could_not(client, image):
    good = [rating(image, rater=f"import-{i}") for i in range(5)]
    bad = rating("f" * 64, rater="import-x")
    report = client.import_ratings([*good, bad])
    assert (report.recorded, report.already_recorded, report.failed) == (5, 0, 1)
    assert (report.failures[0].index, report.failures[0].request_id) == (5, bad.request_id)
    again = client.import_ratings(good)
    assert (again.recorded, again.already_recorded) == (0, 5)


def test_the_review_queue_hands_out_what_this_rater_has_not_rated_and_no_hint(system, client, image):
    items = client.next_for_review("newcomer", count=50)
    assert image in {item.digest for item in items}
    assert not {"score", "generator_version", "seed"} & {field.name for field in dataclasses.fields(items[0])}
    client.record_rating(rating(image, rater="newcomer"))
    client.next_for_review("newcomer", count=50)
    with Catalog(system.folder.catalog_url) as catalog:
        again = [one for one in catalog.reviews.of(image) if one.rater == "newcomer"][1:]
    assert all(one.stratum == "repeat" for one in again)  # some repeats show how reliable a rater is


def test_images_are_listed_by_who_drew_them(client, first):
    listed = list(client.list_images(generator_version="generator-first", limit=5))
    assert listed
    assert {image.generator_version for image in listed} == {first.digest}


def test_the_checklist_ships_with_the_domain(client):
    described = client.describe_criteria()
    assert described.domain == "blood_cells"
    assert "cell_size" in {criterion.criterion_id for criterion in described.criteria}


def test_real_images_are_kept_as_the_generator_draws_and_turn_up_in_a_review(client):
    """Of a class that no other test lists: they stay in the catalog."""
    drawn = client.generate_images("basophil", count=8, seed=500).images
    size = drawn[0].width
    pixels = np.random.default_rng(0).integers(0, 256, (20, 2 * size, 2 * size, 3), dtype=np.uint8)
    real = [RealImage(data=codec.encode_png(one), prompt="basophil") for one in pixels]
    report = client.import_real_images([*real, RealImage(data=real[0].data, prompt="unicorn")], batch=8)
    assert (report.stored, report.already_stored, report.failed) == (20, 0, 1)
    assert "unicorn" in report.failures[0].message
    assert client.import_real_images(real).already_stored == 20
    hidden = {image.digest for image in client.list_images() if image.source == "real"}
    found = [one for _ in range(20) for one in client.next_for_review("grace hopper", count=8)]
    assert hidden & {one.digest for one in found}
    assert {(one.width, one.height, one.media_type) for one in found} == {(size, size, "image/png")}
