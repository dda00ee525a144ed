import json
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError

from vouch.errors import AlreadyExists, FailedPrecondition, InvalidInput, NotFound
from vouch.storage.catalog.database import Database
from vouch.types.rating import NewRating, Preference


@pytest.fixture
def images(catalog, make_image):
    made = [make_image(n, generator_version="a" * 64) for n in range(3)]
    catalog.images.add(made)
    return [image.digest for image in made]


def test_a_rating_comes_back_with_all_that_the_rater_said(catalog, domain, images):
    new = NewRating(
        request_id="q",
        image=images[0],
        rater="Ada Ψ",
        kind="human",
        verdict="implausible",
        answers={"granules": "fail", "cell_type": "unsure"},
        preference=Preference(other=images[1], preferred=images[1]),
        text="two lines\nand a 'quote' \U0001f9eb",
        duration_ms=5500,
        ui_version="0.1",
    )

    rating = catalog.ratings.record(new, domain)

    assert catalog.ratings.get(rating.id) == rating
    assert {name: getattr(rating, name) for name in vars(new)} == vars(new)
    assert (rating.domain, rating.generator_version) == ("blood_cells", "a" * 64)


def test_the_same_request_twice_is_one_rating(catalog, domain, images, make_rating):
    new = make_rating(images[0], answers={"granules": "pass", "chromatin": "fail"})
    first = catalog.ratings.record(new, domain)

    again = replace(new, answers=dict(reversed(list(new.answers.items()))))
    assert catalog.ratings.record(again, domain) == first
    assert catalog.ratings.count() == 1


@pytest.mark.parametrize(
    "changed", [{"verdict": "unsure"}, {"rater": "other"}, {"text": "x"}, {"answers": {"granules": "fail"}}]
)
def test_a_request_id_cannot_carry_another_content(changed, catalog, domain, images, make_rating):
    new = make_rating(images[0])
    first = catalog.ratings.record(new, domain)

    with pytest.raises(AlreadyExists, match=new.request_id):
        catalog.ratings.record(replace(new, **changed), domain)
    assert catalog.ratings.list().items == (first,)


def test_an_unknown_image_is_not_found_whatever_its_role(catalog, domain, images, make_rating):
    with pytest.raises(NotFound, match="0000"):
        catalog.ratings.record(make_rating("0" * 64), domain)
    with pytest.raises(NotFound):
        catalog.ratings.record(
            make_rating(images[0], preference=Preference(other="0" * 64, preferred=images[0])), domain
        )
    assert catalog.ratings.count() == 0


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"answers": {"colour": "pass"}}, "asks: cell_type, cell_size"),
        ({"answers": {"granules": "perhaps"}}, "pass, fail, unsure"),
        ({"verdict": "good"}, "plausible, implausible, unsure"),
        ({"kind": "robot"}, "human, simulated"),
        ({"request_id": ""}, "request_id is empty"),
        ({"rater": "  "}, "rater is empty"),
        ({"duration_ms": -1}, "duration_ms"),
        ({"duration_ms": 10**12}, "duration_ms"),
        ({"text": "x" * 10_001}, "at most 10000"),
        ({"text": "a\x00b"}, "NUL"),
        ({"text": "\ud800"}, "surrogate"),
    ],
)
def test_a_rating_out_of_range_is_refused_with_what_would_do(
    changed, what, catalog, domain, images, make_rating
):
    with pytest.raises(InvalidInput, match=what):
        catalog.ratings.record(make_rating(images[0], **changed), domain)
    assert catalog.ratings.count() == 0


def test_a_preference_is_between_two_images(catalog, domain, images, make_rating):
    for other, preferred in [(images[0], images[0]), (images[1], images[2])]:
        with pytest.raises(InvalidInput, match="prefers one of the two"):
            catalog.ratings.record(
                make_rating(images[0], preference=Preference(other=other, preferred=preferred)), domain
            )


def test_many_ratings_are_stored_together_or_not_at_all(catalog, domain, images, make_rating):
    with pytest.raises(NotFound):
        catalog.ratings.record_many([make_rating(images[0]), make_rating("0" * 64)], domain)
    assert catalog.ratings.count() == 0
    assert len(catalog.ratings.record_many([make_rating(image) for image in images], domain)) == 3


def test_a_correction_supersedes_and_both_stay(catalog, domain, images, make_rating):
    first = catalog.ratings.record(make_rating(images[0]), domain)
    second = catalog.ratings.record(
        make_rating(images[0], verdict="implausible", supersedes=first.id), domain
    )

    assert catalog.ratings.list().items == (second, first)
    assert catalog.ratings.list(current_only=True).items == (second,)
    assert catalog.ratings.freeze()[0] == (second,)
    assert catalog.ratings.get(first.id) == first


def test_only_ones_own_newest_rating_of_the_same_image_can_be_corrected(catalog, domain, images, make_rating):
    first = catalog.ratings.record(make_rating(images[0], rater="ada"), domain)
    for wrong in (
        make_rating(images[0], rater="bob", supersedes=first.id),
        make_rating(images[1], rater="ada", supersedes=first.id),
        make_rating(images[0], rater="ada", kind="simulated", supersedes=first.id),
    ):
        with pytest.raises(FailedPrecondition, match="same image by the same rater"):
            catalog.ratings.record(wrong, domain)
    with pytest.raises(NotFound, match="supersede"):
        catalog.ratings.record(make_rating(images[0], rater="ada", supersedes="0" * 32), domain)

    catalog.ratings.record(make_rating(images[0], rater="ada", supersedes=first.id), domain)
    with pytest.raises(FailedPrecondition, match="already superseded"):
        catalog.ratings.record(make_rating(images[0], rater="ada", supersedes=first.id), domain)


@pytest.mark.parametrize("statement", ["UPDATE ratings SET verdict = 'plausible'", "DELETE FROM ratings"])
def test_the_database_itself_refuses_to_change_or_delete_a_rating(
    statement, catalog, catalog_url, domain, images, make_rating
):
    rating = catalog.ratings.record(make_rating(images[0], verdict="implausible"), domain)
    database = Database(catalog_url)
    with pytest.raises(DBAPIError, match="never changed or deleted"), database.write() as connection:
        connection.execute(sa.text(statement))
    database.close()
    assert catalog.ratings.list().items == (rating,)


def test_simulated_ratings_are_learned_from_only_when_asked_for(catalog, domain, images, make_rating):
    human = catalog.ratings.record(make_rating(images[0]), domain)
    simulated = catalog.ratings.record(make_rating(images[0], kind="simulated", rater="sim"), domain)

    assert catalog.ratings.freeze()[0] == (human,)
    assert catalog.ratings.freeze(kinds=("simulated",))[0] == (simulated,)
    assert catalog.ratings.freeze(kinds=("human", "simulated"))[0] == (human, simulated)
    assert catalog.ratings.freeze(domain="skin")[0] == ()
    with pytest.raises(InvalidInput):
        catalog.ratings.freeze(kinds=("robot",))


def test_a_frozen_set_is_named_by_its_content(catalog, domain, images, make_rating):
    catalog.ratings.record(make_rating(images[0]), domain)
    ratings, digest = catalog.ratings.freeze()
    assert catalog.ratings.freeze() == (ratings, digest)

    catalog.ratings.record(make_rating(images[1]), domain)
    assert catalog.ratings.freeze()[1] != digest
    assert catalog.ratings.get_many([rating.id for rating in ratings]) == ratings


def test_ratings_are_found_by_id_in_any_number_and_in_the_order_asked(catalog, domain, images, make_rating):
    stored = catalog.ratings.record_many([make_rating(images[n % 3]) for n in range(1100)], domain)
    ids = [rating.id for rating in reversed(stored)]

    assert [rating.id for rating in catalog.ratings.get_many(ids)] == ids
    assert list(catalog.ratings.iterate()) == list(stored)
    with pytest.raises(NotFound, match="no rating nope"):
        catalog.ratings.get_many([*ids, "nope"])


def test_a_list_is_filtered_by_each_noun(catalog, domain, images, make_rating):
    catalog.ratings.record(make_rating(images[0], rater="ada"), domain)
    catalog.ratings.record(make_rating(images[1], rater="sim", kind="simulated"), domain)

    assert [rating.image for rating in catalog.ratings.list(image=images[0]).items] == [images[0]]
    assert [rating.rater for rating in catalog.ratings.list(rater="sim").items] == ["sim"]
    assert [rating.rater for rating in catalog.ratings.list(kinds=("human",)).items] == ["ada"]
    assert catalog.ratings.list(domain="skin").items == ()
    assert catalog.ratings.count(("simulated",)) == 1


RATE = """
import json, sys
from vouch.storage.catalog import Catalog
from vouch.domains.criteria import load_domain
from vouch.types.rating import NewRating
url, rater, image = sys.argv[1:]
domain, ids = load_domain(), []
with Catalog(url) as catalog:
    for number in range(25):
        for request_id in (f"{rater}-{number}", f"shared-{number}"):
            name = rater if request_id.startswith(rater) else "everybody"
            new = NewRating(request_id=request_id, image=image, rater=name, kind="human", verdict="plausible")
            ids.append(catalog.ratings.record(new, domain).id)
print(json.dumps(ids))
"""


def test_raters_in_several_processes_lose_nothing_and_a_shared_request_is_one_rating(
    catalog, catalog_url, images
):
    raters = [
        subprocess.Popen(
            [sys.executable, "-c", RATE, catalog_url, f"rater{n}", images[0]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    answers = [rater.communicate(timeout=200) for rater in raters]
    assert [rater.returncode for rater in raters] == [0] * 4, answers
    acknowledged = [set(json.loads(out)) for out, _ in answers]

    stored = {rating.id for rating in catalog.ratings.iterate()}
    assert stored == set.union(*acknowledged)
    assert len(stored) == 4 * 25 + 25
    assert len(set.intersection(*acknowledged)) == 25


KILLED = """
import os, signal, sys
from vouch.storage.catalog import Catalog
from vouch.domains.criteria import load_domain
from vouch.types.rating import NewRating
url, image = sys.argv[1:]
catalog, domain = Catalog(url), load_domain()
for number in range(1000):
    new = NewRating(request_id=f"q{number}", image=image, rater="r", kind="human", verdict="plausible")
    print(catalog.ratings.record(new, domain).id, flush=True)
"""


def test_an_acknowledged_rating_survives_the_death_of_its_process(catalog, catalog_url, images):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, catalog_url, images[0]], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(20)]
    process.kill()
    acknowledged += process.communicate()[0].split()

    stored = [rating.id for rating in catalog.ratings.iterate()]
    complete = [rating_id for rating_id in acknowledged if len(rating_id) == 32]
    assert stored[: len(complete)] == complete


def test_one_correction_wins_when_two_are_made_at_once(catalog, domain, images, make_rating):
    first = catalog.ratings.record(make_rating(images[0]), domain)
    outcomes = []

    def correct():
        try:
            catalog.ratings.record(make_rating(images[0], supersedes=first.id), domain)
            outcomes.append("stored")
        except FailedPrecondition:
            outcomes.append("refused")

    threads = [threading.Thread(target=correct) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 7 + ["stored"]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    deadline=None,
    max_examples=20,
)
@given(
    text=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=200),
    rater=st.text(st.characters(whitelist_categories=["L", "N"]), min_size=1, max_size=20),
    answers=st.dictionaries(
        st.sampled_from(["granules", "chromatin"]), st.sampled_from(["pass", "fail", "unsure"])
    ),
    duration=st.integers(0, 24 * 3600 * 1000),
)
def test_whatever_a_rater_writes_comes_back(
    catalog, domain, images, make_rating, text, rater, answers, duration
):
    new = make_rating(images[0], text=text, rater=rater, answers=answers, duration_ms=duration)
    stored = catalog.ratings.record(new, domain)
    assert catalog.ratings.get(stored.id) == stored
    assert (stored.text, stored.rater, stored.answers) == (text, rater, answers)
