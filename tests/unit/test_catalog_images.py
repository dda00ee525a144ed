import re
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from vouch.errors import InvalidInput, NotFound
from vouch.storage.catalog.database import Database
from vouch.storage.catalog.images import Images
from vouch.types.clock import now
from vouch.types.score import Score


def score(image, version="r" * 64, **values):
    return Score(**{"image": image.digest, "version": version, "overall": 0.75, "std": 0.125, **values})


def test_an_image_comes_back_with_its_whole_provenance(catalog, make_image):
    image = make_image(
        1,
        seed=2**63 - 1,
        sampler="ddim",
        steps=20,
        guidance=2.5,
        generator_version="a" * 64,
        request_id="q",
        prompt="·\n'",
    )
    catalog.images.add([image], [score(image, criteria={"granules": 0.5})])

    assert catalog.images.get(image.digest) == image
    (stored,) = catalog.images.scores(image.digest)
    assert (stored.overall, stored.std, stored.criteria) == (0.75, 0.125, {"granules": 0.5})


def test_the_same_bytes_keep_their_first_provenance(catalog, make_image):
    first = make_image(1, prompt="first")
    catalog.images.add([first])
    catalog.images.add([replace(first, prompt="second"), make_image(2)])

    assert catalog.images.get(first.digest) == first
    assert len(catalog.images.list().items) == 2


def test_an_unknown_image_is_not_found(catalog):
    with pytest.raises(NotFound, match="0000"):
        catalog.images.get("0" * 64)
    with pytest.raises(NotFound):
        catalog.images.scores("0" * 64)


def test_a_score_of_an_unknown_image_takes_its_whole_batch_along(catalog, make_image):
    known, unknown = make_image(1), make_image(2)
    with pytest.raises(NotFound):
        catalog.images.add([known], [score(known), score(unknown)])
    with pytest.raises(NotFound):
        catalog.images.get(known.digest)


def test_each_version_scores_an_image_once(catalog, make_image):
    image = make_image(1)
    catalog.images.add([image], [score(image, "a" * 64, created_at=now() - timedelta(days=1))])
    catalog.images.add_scores([score(image, "b" * 64), score(image, "a" * 64, overall=0.0)])

    assert [(found.version[0], found.overall) for found in catalog.images.scores(image.digest)] == [
        ("b", 0.75),
        ("a", 0.75),
    ]


@pytest.mark.parametrize("values", [{"source": "found"}, {"seed": -1}, {"seed": 2**63}])
def test_an_image_out_of_range_is_refused(values, catalog, make_image):
    with pytest.raises(InvalidInput):
        catalog.images.add([make_image(1), make_image(2, **{"seed": 5, **values})])
    assert catalog.images.list().items == ()


def test_a_list_is_paged_newest_first_and_filtered(catalog, make_image):
    catalog.images.add([make_image(n, label="monocyte" if n % 2 else "neutrophil") for n in range(10)])

    seen, token = [], ""
    for _ in range(3):
        page = catalog.images.list(label="monocyte", page_size=2, page_token=token)
        seen += [image.seed for image in page.items]
        token = page.next_token
    assert seen == [9, 7, 5, 3, 1]
    assert token == ""


def test_new_images_do_not_disturb_a_list_that_is_being_read(catalog, make_image):
    catalog.images.add([make_image(n) for n in range(4)])
    page = catalog.images.list(page_size=2)
    catalog.images.add([make_image(n) for n in range(10, 15)])
    assert [image.seed for image in catalog.images.list(page_size=2, page_token=page.next_token).items] == [
        1,
        0,
    ]


@pytest.mark.parametrize("token", ["x", "!!!!", "bm90OmE6bnVtYmVy", "a" * 500, "é"])
def test_a_page_token_that_nobody_gave_is_refused(token, catalog):
    with pytest.raises(InvalidInput, match="page_token"):
        catalog.images.list(page_token=token)


def test_a_page_token_of_another_list_is_refused(catalog, make_image):
    catalog.images.add([make_image(n) for n in range(4)])
    token = catalog.images.list(page_size=2).next_token
    with pytest.raises(InvalidInput, match="another list"):
        catalog.images.list(page_size=2, page_token=token, label="neutrophil")


@pytest.mark.parametrize("size", [-1, 1001])
def test_a_page_size_out_of_range_is_refused(size, catalog):
    with pytest.raises(InvalidInput, match="page_size"):
        catalog.images.list(page_size=size)


def test_review_gives_the_least_rated_first_and_never_what_this_rater_has_rated(
    catalog, domain, make_image, make_rating
):
    images = [make_image(n) for n in range(5)]
    catalog.images.add(images)
    for number, raters in enumerate([["a", "b"], ["a"], ["b"], ["c", "d"], ["me"]]):
        for rater in raters:
            catalog.ratings.record(make_rating(images[number].digest, rater=rater), domain)

    found = [image.seed for image in catalog.images.next_for_review("me", count=10)]
    assert set(found[:2]) == {1, 2}
    assert set(found[2:]) == {0, 3}


def test_review_is_random_among_equals(catalog, make_image):
    catalog.images.add([make_image(n) for n in range(20)])
    assert len({catalog.images.next_for_review("me")[0].digest for _ in range(40)}) > 3


def test_simulated_ratings_and_corrections_push_nothing_out_of_the_queue_of_people(
    catalog, domain, make_image, make_rating
):
    simulated, corrected, twice = (make_image(n) for n in range(3))
    catalog.images.add([simulated, corrected, twice])
    for n in range(5):
        catalog.ratings.record(make_rating(simulated.digest, rater=f"s{n}", kind="simulated"), domain)
    first = catalog.ratings.record(make_rating(corrected.digest, rater="a"), domain)
    for _ in range(3):
        first = catalog.ratings.record(make_rating(corrected.digest, rater="a", supersedes=first.id), domain)
    for rater in "ab":
        catalog.ratings.record(make_rating(twice.digest, rater=rater), domain)

    assert [image.seed for image in catalog.images.next_for_review("me", count=3)] == [0, 1, 2]


def test_review_can_be_narrowed_and_ends_when_nothing_is_left(catalog, domain, make_image, make_rating):
    catalog.images.add(
        [
            make_image(1, label="monocyte", generator_version="a" * 64),
            make_image(2),
            make_image(3, source="real"),
        ]
    )
    assert [image.seed for image in catalog.images.next_for_review("me", count=9, label="monocyte")] == [1]
    assert [
        image.seed for image in catalog.images.next_for_review("me", count=9, generator_version="a" * 64)
    ] == [1]
    assert [image.seed for image in catalog.images.next_for_review("me", count=9, sources=("real",))] == [3]

    catalog.ratings.record_many([make_rating(make_image(n).digest, rater="me") for n in (1, 2)], domain)
    assert catalog.images.next_for_review("me") == ()


@pytest.mark.parametrize("count", [0, 501])
def test_review_of_none_or_too_many_is_refused(count, catalog):
    with pytest.raises(InvalidInput):
        catalog.images.next_for_review("me", count=count)


def test_the_images_rated_last_are_those_of_the_newest_ratings(catalog, domain, make_image, make_rating):
    catalog.images.add([*map(make_image, range(4)), make_image(4, source="real")])
    digests = [make_image(number).digest for number in range(5)]
    for number in (0, 1, 2, 4, 1):
        catalog.ratings.record(make_rating(digests[number], rater=f"rater-{number}"), domain)
    catalog.ratings.record(make_rating(digests[3], kind="simulated"), domain)
    assert {image.digest for image in catalog.images.rated_last(count=4)} == {digests[1], digests[2]}
    assert [image.digest for image in catalog.images.rated_last(kind="simulated", count=4)] == [digests[3]]


def test_adding_images_tells_how_many_are_new(catalog, make_image):
    assert catalog.images.add([make_image(1), make_image(2)]) == 2
    assert catalog.images.add([make_image(2), make_image(3)]) == 1


def test_the_images_of_a_request_are_found_without_a_look_at_every_image(catalog, catalog_url, make_image):
    """Every call asks so whether it is repeated: with a million images a scan took seconds on SQLite."""
    catalog.images.add([make_image(1, request_id="r-1")], owner="client")
    statements = []
    database = Database(catalog_url)
    sa.event.listen(
        database._engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, values, *_: statements.append((statement, values)),
    )
    assert len(Images(database).list(owner="client", request_id="r-1").items) == 1
    selects = [(text, values) for text, values in statements if text.startswith("SELECT")]
    assert selects
    with database.read() as connection:
        for text, values in selects:
            assert not re.search("scan (on )?images", plan(connection, text, values), re.IGNORECASE)
    database.close()


def plan(connection: sa.Connection, text: str, values: object) -> str:
    """How the database would find the rows. PostgreSQL looks at every row of a small table even where an index would
    find it; it is told not to where it can do without."""
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values).all()
        return "\n".join(row[3] for row in rows)
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    return "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {text}", values).all())
