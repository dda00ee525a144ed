"""Named tokens in the catalog, request ids that belong to them, and images that belong to who asked for them."""

from __future__ import annotations

import hashlib

import pytest
import sqlalchemy as sa

from vouch.errors import AlreadyExists, InvalidInput, NotFound
from vouch.storage.catalog import Catalog
from vouch.types.clock import now

# ---- tokens


def test_a_token_is_found_by_its_secret_which_the_catalog_does_not_hold(catalog, catalog_url):
    token, secret = catalog.tokens.create("alice", "rater", ["human"])
    assert (token.name, token.role, token.scopes, token.last_used_at) == ("alice", "rater", ("human",), None)
    assert catalog.tokens.valid() == {hashlib.sha256(secret.encode()).hexdigest(): token}
    with catalog._database.read() as connection:
        rows = connection.execute(sa.text("SELECT * FROM tokens")).all()
    assert secret not in str(rows)


def test_two_secrets_are_never_the_same(catalog):
    secrets = {catalog.tokens.create(f"client-{number}", "client")[1] for number in range(50)}
    assert len(secrets) == 50
    assert min(map(len, secrets)) >= 43  # 256 bits in base64


def test_a_revoked_token_opens_nothing_and_its_name_stays_taken(catalog):
    _, secret = catalog.tokens.create("alice", "rater", ["human"])
    revoked = catalog.tokens.revoke("alice")
    assert revoked.revoked_at is not None
    assert catalog.tokens.revoke("alice") == revoked
    assert catalog.tokens.valid() == {}
    assert catalog.tokens.list() == (revoked,)
    with pytest.raises(AlreadyExists, match=r"already a token alice.*another person needs another name"):
        catalog.tokens.create("alice", "rater", ["human"])
    assert secret


def test_a_rotated_token_keeps_its_name_and_gets_another_secret(catalog):
    _, old = catalog.tokens.create("alice", "rater", ["human"])
    catalog.tokens.revoke("alice")
    new = catalog.tokens.rotate("alice")
    (digest,) = catalog.tokens.valid()
    assert digest == hashlib.sha256(new.encode()).hexdigest() != hashlib.sha256(old.encode()).hexdigest()


def test_the_last_use_is_kept(catalog):
    catalog.tokens.create("alice", "rater", ["human"])
    moment = now()
    catalog.tokens.note_use({"alice": moment, "nobody": moment})
    assert catalog.tokens.get("alice").last_used_at == moment


@pytest.mark.parametrize(
    ("name", "role", "scopes", "sentence"),
    [
        ("", "rater", ["human"], "cannot name a token"),
        ("Dr. Alice", "rater", ["human"], "cannot name a token"),
        ("a/b", "rater", ["human"], "cannot name a token"),
        ("a\x1b[2J", "rater", ["human"], "cannot name a token"),
        ("system", "operator", [], "not 'system'"),
        ("x" * 65, "client", [], "at most 64"),
        ("alice", "king", [], "no role 'king'"),
        ("alice", "rater", ["robot"], "no scope 'robot'"),
        ("alice", "rater", [], "needs a scope that says what its ratings are"),
        ("alice", "rater", ["any-rater"], "needs a scope that says what its ratings are"),
        ("alice", "client", ["human"], "A client does not rate"),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(catalog, name, role, scopes, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        catalog.tokens.create(name, role, scopes)
    assert catalog.tokens.list() == ()


@pytest.mark.parametrize("act", ["revoke", "rotate", "get"])
def test_a_token_that_is_not_there_is_not_found(catalog, act):
    with pytest.raises(NotFound, match="no token 'bob'"):
        getattr(catalog.tokens, act)("bob")


# ---- request ids


def test_two_callers_may_use_the_same_request_id_for_different_ratings(
    catalog, domain, make_image, make_rating
):
    image = make_image(1)
    catalog.images.add([image])
    mine = make_rating(image.digest, rater="alice", request_id="1")
    theirs = make_rating(image.digest, rater="bob", request_id="1", verdict="implausible")
    first = catalog.ratings.record(mine, domain, by="alice")
    second = catalog.ratings.record(theirs, domain, by="bob")
    assert first.id != second.id
    assert catalog.ratings.record(mine, domain, by="alice") == first
    with pytest.raises(AlreadyExists):
        catalog.ratings.record(theirs, domain, by="alice")


def test_an_import_knows_the_ratings_of_other_tokens_by_their_id(catalog, domain, make_image, make_rating):
    image = make_image(1)
    catalog.images.add([image])
    rating = catalog.ratings.record(make_rating(image.digest), domain, by="alice")
    assert catalog.ratings.restore([(1, rating)], domain, by="operator") == (0, 1)


def test_two_callers_may_use_the_same_request_id_for_different_runs(catalog):
    one = catalog.runs.create("reward", {"seed": 1}, request_id="1", created_by="alice")
    other = catalog.runs.create("reward", {"seed": 2}, request_id="1", created_by="bob")
    assert one.run_id != other.run_id
    assert catalog.runs.create("reward", {"seed": 1}, request_id="1", created_by="alice") == one


def test_nobody_can_take_the_request_id_of_an_automatic_roll_back(catalog):
    for slot in ("generator", "reward"):
        catalog.serving.ensure(slot, "a" * 64)
    first = catalog.rollouts.start("generator", "b" * 64, percent=5, actor="alice", request_id="auto-1")
    second = catalog.rollouts.start("reward", "c" * 64, percent=5, actor="system", request_id="auto-1")
    assert first.rollout_id != second.rollout_id


# ---- images


def test_an_image_belongs_to_everybody_who_asked_for_it_under_their_own_request_id(catalog, make_image):
    image = make_image(1, request_id="a-1")
    catalog.images.add([image], owner="alice")
    catalog.images.add([make_image(1, request_id="b-1")], owner="bob")
    assert catalog.images.get(image.digest, owner="alice").request_id == "a-1"
    assert catalog.images.get(image.digest, owner="bob").request_id == "b-1"


def test_an_image_of_another_owner_is_as_unknown_as_one_that_never_was(catalog, make_image):
    catalog.images.add([make_image(1, request_id="1")], owner="alice")
    said = []
    for digest in (make_image(1).digest, "0" * 64):
        with pytest.raises(NotFound) as caught:
            catalog.images.get(digest, owner="bob")
        said.append(str(caught.value).replace(digest, "DIGEST"))
    assert said[0] == said[1]


def test_an_owner_lists_their_own_images_page_by_page(catalog, make_image):
    catalog.images.add([make_image(n, request_id="same") for n in range(5)], owner="alice")
    catalog.images.add([make_image(n, request_id="same") for n in range(5, 8)], owner="bob")
    first = catalog.images.list(owner="alice", page_size=3)
    rest = catalog.images.list(owner="alice", page_size=3, page_token=first.next_token)
    assert [image.seed for image in (*first.items, *rest.items)] == [4, 3, 2, 1, 0]
    assert [image.seed for image in catalog.images.list(owner="bob", request_id="same").items] == [7, 6, 5]
    assert catalog.images.list(owner="bob", request_id="other").items == ()
    assert len(catalog.images.list(request_id="same").items) == 8
    with pytest.raises(InvalidInput, match="belongs to another list"):
        catalog.images.list(owner="bob", page_size=3, page_token=first.next_token)


# ---- catalogs of before


OLD = {
    "images": [{"digest": digest * 64, "request_id": request} for digest, request in (("a", "q"), ("b", ""))],
    "ratings": [
        {"id": "first", "request_id": "r1", "supersedes": None},
        {"id": "second", "request_id": "r2", "supersedes": "first"},
    ],
    "runs": [{"kind": "reward", "state": "SUCCEEDED", "request_id": "run", "created_by": "operator"}],
    "rollouts": [{"slot": "generator", "candidate": "b" * 64, "champion": "a" * 64, "state": "ACTIVE"}],
    "rollout_events": [{"rollout": 1, "action": "start", "request_id": "go", "actor": "operator"}],
}
COMMON = {
    "images": {"media_type": "image/png", "width": 1, "height": 1, "size_bytes": 1, "source": "generated",
               "prompt": "", "label": "", "sampler": "", "generator_version": "", "created_at": 1},
    "ratings": {"image": "a" * 64, "rater": "ada", "kind": "human", "domain": "blood_cells", "verdict": "unsure",
                "answers": "{}", "text": "", "duration_ms": 0, "ui_version": "", "generator_version": "",
                "created_at": 1},
    "runs": {"config": "{}", "attempt": 1, "step": 1, "total_steps": 1, "message": "", "metrics": "{}",
             "inputs": "{}", "version": "", "error": "", "cancel_requested": False, "created_at": 1, "updated_at": 1},
    "rollouts": {"percent": 5, "created_at": 1, "updated_at": 1},
    "rollout_events": {"percent": 5, "reason": "", "at": 1},
}  # fmt: skip


def fill_first_form(url: str) -> None:
    """A catalog as the first migration made it, with a row of everything that the second one changes."""
    from alembic import command
    from alembic.config import Config

    from vouch.storage.catalog.database import Database

    database = Database(url)
    with database.write() as connection:
        config = Config()
        config.set_main_option("script_location", "vouch:storage/catalog/migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for table, rows in OLD.items():
            for row in rows:
                values = {**COMMON[table], **row}
                names, places = ", ".join(values), ", ".join(f":{name}" for name in values)
                connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({places})"), values)
    database.close()


def test_a_catalog_of_before_there_were_names_keeps_all_that_it_held(catalog_url, domain, make_rating):
    fill_first_form(catalog_url)
    with Catalog(catalog_url) as catalog:
        assert catalog.images.list(request_id="q").items[0].digest == "a" * 64
        assert catalog.images.list(owner="client").items == ()
        newest, oldest = catalog.ratings.list().items
        assert (newest.id, newest.supersedes, oldest.id) == ("second", "first", "first")
        assert catalog.runs.get("reward-1").request_id == "run"
        assert catalog.rollouts.get("rollout-1").events[0].request_id == "go"
        new = make_rating("a" * 64, request_id="r1", rater="alice")
        assert catalog.ratings.record(new, domain, by="alice").id not in ("first", "second")


@pytest.mark.parametrize("change", ["UPDATE ratings SET rater = 'eve'", "DELETE FROM ratings"])
def test_ratings_of_a_migrated_catalog_can_still_not_be_changed(catalog_url, change):
    fill_first_form(catalog_url)
    with Catalog(catalog_url) as catalog:
        with (
            pytest.raises(sa.exc.DBAPIError, match="never changed or deleted"),
            catalog._database.write() as connection,
        ):
            connection.execute(sa.text(change))
        assert {rating.rater for rating in catalog.ratings.list().items} == {"ada"}
