"""Experts' verdicts: durable before acknowledged, never changed, never deleted."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any

import sqlalchemy as sa

from vouch.domains.criteria import Domain
from vouch.errors import AlreadyExists, FailedPrecondition, InvalidInput, NotFound, VouchError
from vouch.formats.csv_tables import bad_rows
from vouch.storage.catalog import pages, tables
from vouch.storage.catalog.database import Database, insert_once
from vouch.storage.catalog.images import get_image
from vouch.types.clock import now
from vouch.types.page import Page
from vouch.types.rating import (
    MAX_DURATION_MS,
    RATER_KINDS,
    VERDICTS,
    NewRating,
    Preference,
    RaterKind,
    Rating,
)

MAX_TEXT = 10_000
MAX_NAME = 200
_CHUNK = 500  # ids per query, below what every SQLite accepts as parameters


class Ratings:
    """All ratings of a catalog. A correction is a new rating that supersedes the old one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, new: NewRating, domain: Domain, *, by: str = "") -> Rating:
        """Store a verdict; when this returns, it is on the disk.

        `by` names the token that hands it in. The same `request_id` by the same token with the same content returns the
        first record.

        Raises:
            InvalidInput: an unknown criterion, answer, verdict or kind; a text or duration out of range.
            NotFound: an unknown image, or an unknown rating to supersede.
            AlreadyExists: the request_id was used for other content.
            FailedPrecondition: the rating to supersede is another image's or rater's, or is superseded already.
        """
        return self.record_many([new], domain, by=by)[0]

    def record_many(self, news: Iterable[NewRating], domain: Domain, *, by: str = "") -> tuple[Rating, ...]:
        """As `record`, all in one transaction: either every rating is stored or none."""
        news = list(news)
        for new in news:
            check_rating(new, domain)
        with self._database.write() as connection:
            return tuple(_record(connection, new, domain, by) for new in news)

    def restore(
        self, numbered: Iterable[tuple[int, Rating]], domain: Domain, *, by: str = ""
    ) -> tuple[int, int]:
        """Insert ratings with their own ids and times (import): all of them, or none.

        `numbered` pairs each rating with its row in the file. Answers (added, already there).

        Raises:
            InvalidInput: names every row that cannot be stored and why; nothing was.
        """
        problems: list[tuple[int, str]] = []
        added = already = 0
        with self._database.write() as connection:
            # A correction is younger than what it corrects, however the file is sorted.
            for number, rating in sorted(numbered, key=lambda pair: (pair[1].created_at, pair[0])):
                try:
                    new = _restore(connection, rating, domain, by)
                except VouchError as error:
                    problems.append((number, error.message))
                else:
                    added, already = added + new, already + (not new)
            if problems:
                raise bad_rows(problems)
        return added, already

    def get(self, rating_id: str) -> Rating:
        """Raises NotFound."""
        return self.get_many([rating_id])[0]

    def get_many(self, ids: Sequence[str]) -> tuple[Rating, ...]:
        """The ratings with these ids, in their order: what repeats a run from its lineage. Raises NotFound."""
        ratings: dict[str, Rating] = {}
        with self._database.read() as connection:
            for start in range(0, len(ids), _CHUNK):
                query = sa.select(tables.ratings).where(tables.ratings.c.id.in_(ids[start : start + _CHUNK]))
                ratings.update((row.id, _rating(row)) for row in connection.execute(query))
        missing = [rating_id for rating_id in ids if rating_id not in ratings]
        if missing:
            raise NotFound(f"There is no rating {missing[0]}.", "RATING_NOT_FOUND")
        return tuple(ratings[rating_id] for rating_id in ids)

    def list(
        self,
        *,
        image: str | None = None,
        rater: str | None = None,
        kinds: tuple[RaterKind, ...] | None = None,
        domain: str | None = None,
        generator_version: str | None = None,
        current_only: bool = False,
        page_size: int = pages.DEFAULT_PAGE_SIZE,
        page_token: str = "",
    ) -> Page[Rating]:
        """Newest first. `current_only` leaves out what a correction superseded."""
        filters = {
            "image": image,
            "rater": rater,
            "kind": kinds,
            "domain": domain,
            "generator_version": generator_version,
        }
        with self._database.read() as connection:
            return pages.read_page(
                connection,
                tables.ratings,
                filters,
                _rating,
                page_size=page_size,
                page_token=page_token,
                where=_current() if current_only else None,
            )

    def newest_seq(self) -> int:
        """The highest sequence number; 0 without ratings."""
        with self._database.read() as connection:
            return int(connection.execute(sa.select(sa.func.max(tables.ratings.c.seq))).scalar() or 0)

    def first_after(self, seq: int, *, generator_version: str, limit: int) -> tuple[Rating, ...]:
        """The first `limit` current ratings by people of a version's images after a sequence number, oldest first."""
        table = tables.ratings
        wanted = (table.c.seq > seq, table.c.kind == "human", table.c.generator_version == generator_version)
        query = sa.select(table).where(*wanted, _current()).order_by(table.c.seq).limit(limit)
        with self._database.read() as connection:
            return tuple(_rating(row) for row in connection.execute(query))

    def iterate(self) -> Iterator[Rating]:
        """Every rating, oldest first, as one consistent picture (export)."""
        with self._database.read() as connection:
            rows = connection.execution_options(yield_per=1000).execute(
                sa.select(tables.ratings).order_by(tables.ratings.c.seq)
            )
            for row in rows:
                yield _rating(row)

    def count(self, kinds: tuple[RaterKind, ...] | None = None) -> int:
        query = sa.select(sa.func.count()).select_from(tables.ratings)
        if kinds is not None:
            query = query.where(tables.ratings.c.kind.in_(kinds))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def rated_by(self, rater: str, images: Collection[str]) -> frozenset[str]:
        """Those of these images that the rater has rated."""
        table = tables.ratings
        query = sa.select(table.c.image).where(table.c.rater == rater, table.c.image.in_(images)).distinct()
        with self._database.read() as connection:
            return frozenset(connection.execute(query).scalars())

    def counts(self, images: Collection[str]) -> dict[str, int]:
        """The number of current ratings of each of these images that has one."""
        table = tables.ratings
        query = (
            sa.select(table.c.image, sa.func.count().label("ratings"))
            .where(table.c.image.in_(images), _current())
            .group_by(table.c.image)
        )
        with self._database.read() as connection:
            return {row.image: row.ratings for row in connection.execute(query)}

    def freeze(
        self, *, kinds: tuple[RaterKind, ...] = ("human",), domain: str | None = None
    ) -> tuple[tuple[Rating, ...], str]:
        """What a training run learns from: the current ratings, oldest first, and the digest that names this set.

        Simulated raters are left out unless `kinds` names them. Superseded ratings are left out.
        """
        for kind in kinds:
            _one_of("kind", kind, RATER_KINDS)
        query = sa.select(tables.ratings).where(tables.ratings.c.kind.in_(kinds), _current())
        if domain is not None:
            query = query.where(tables.ratings.c.domain == domain)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(tables.ratings.c.seq)).all()
        ratings = tuple(_rating(row) for row in rows)
        return ratings, ratings_digest(ratings)


def ratings_digest(ratings: Iterable[Rating]) -> str:
    """The digest of a set of ratings, whatever their order."""
    hashed = hashlib.sha256()
    for rating in sorted(ratings, key=lambda rating: rating.id):
        plain = {**asdict(rating), "created_at": rating.created_at.isoformat()}
        hashed.update(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    return hashed.hexdigest()


def check_rating(new: NewRating, domain: Domain) -> None:
    """What can be said of a rating without looking anything up. Raises InvalidInput."""
    _one_of("kind", new.kind, RATER_KINDS)
    _one_of("verdict", new.verdict, VERDICTS)
    domain.check(new.answers)
    for name in ("request_id", "rater"):
        if not getattr(new, name).strip():
            raise InvalidInput(f"{name} is empty: it is needed.")
    for name, limit in (
        ("request_id", MAX_NAME),
        ("rater", MAX_NAME),
        ("ui_version", MAX_NAME),
        ("text", MAX_TEXT),
    ):
        _check_text(name, getattr(new, name), limit)
    if not 0 <= new.duration_ms <= MAX_DURATION_MS:
        raise InvalidInput(f"duration_ms must be 0 to one day, not {new.duration_ms}.")
    if new.preference and (
        new.preference.other == new.image or new.preference.preferred not in (new.image, new.preference.other)
    ):
        raise InvalidInput("A preference names another image, and prefers one of the two.")


def _check_text(name: str, value: str, limit: int) -> None:
    if len(value) > limit:
        raise InvalidInput(f"{name} has {len(value)} characters; at most {limit} are kept.")
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidInput(f"{name} holds characters that are no text (NUL or half a surrogate pair).")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidInput(f"{value!r} is not a {name}: choose {', '.join(known)}.")


def _record(connection: sa.Connection, new: NewRating, domain: Domain, by: str) -> Rating:
    image = get_image(connection, new.image)
    rating = Rating(
        **{field.name: getattr(new, field.name) for field in fields(NewRating)},
        id=uuid.uuid4().hex,
        domain=domain.name,
        generator_version=image.generator_version,
        created_at=now(),
    )
    stored = _store(connection, rating, by)
    if content(stored) != content(new) or stored.domain != domain.name:
        raise AlreadyExists(
            f"request_id {new.request_id!r} was already used for another rating. Use a fresh one.",
            "REQUEST_ID_REUSED",
        )
    return stored


def _restore(connection: sa.Connection, rating: Rating, domain: Domain, by: str) -> bool:
    check_rating(rating, domain)
    if rating.domain != domain.name:
        raise InvalidInput(f"The rating belongs to domain {rating.domain!r}, not to {domain.name}.")
    # An export holds ratings of many tokens; here they are known by their id.
    stored = _by_id(connection, rating.id) or _store(connection, rating, by)
    if stored != rating:
        raise AlreadyExists(f"request_id {rating.request_id!r} is already another rating in this catalog.")
    return stored is rating


def _store(connection: sa.Connection, rating: Rating, by: str) -> Rating:
    """Insert; or the rating that the same token has already stored under this request_id."""
    existing = _by_request(connection, by, rating.request_id)
    if existing is not None:
        return existing
    _check_references(connection, rating)
    if insert_once(connection, tables.ratings, {**_row(rating), "recorded_by": by}):
        return rating
    existing = _by_request(connection, by, rating.request_id)  # another process was quicker
    if existing is not None:
        return existing
    if rating.supersedes:
        raise _superseded(rating.supersedes)
    raise AlreadyExists(f"There is already another rating with the id {rating.id}.")


def _check_references(connection: sa.Connection, rating: Rating) -> None:
    get_image(connection, rating.image)
    if rating.preference:
        get_image(connection, rating.preference.other)
    if not rating.supersedes:
        return
    table = tables.ratings
    old = connection.execute(sa.select(table).where(table.c.id == rating.supersedes)).first()
    if old is None:
        raise NotFound(f"There is no rating {rating.supersedes} to supersede.", "RATING_NOT_FOUND")
    if (old.image, old.rater, old.kind) != (rating.image, rating.rater, rating.kind):
        raise FailedPrecondition("A correction supersedes a rating of the same image by the same rater.")
    if connection.execute(sa.select(table.c.id).where(table.c.supersedes == rating.supersedes)).first():
        raise _superseded(rating.supersedes)


def _superseded(rating_id: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"Rating {rating_id} is already superseded: correct the newest one instead.", "ALREADY_SUPERSEDED"
    )


def _by_request(connection: sa.Connection, by: str, request_id: str) -> Rating | None:
    table = tables.ratings
    return _first(connection, table.c.recorded_by == by, table.c.request_id == request_id)


def _by_id(connection: sa.Connection, rating_id: str) -> Rating | None:
    return _first(connection, tables.ratings.c.id == rating_id)


def _first(connection: sa.Connection, *where: sa.ColumnElement[bool]) -> Rating | None:
    row = connection.execute(sa.select(tables.ratings).where(*where)).first()
    return None if row is None else _rating(row)


def _current() -> sa.ColumnElement[bool]:
    newer = tables.ratings.alias("newer")
    return ~sa.exists().where(newer.c.supersedes == tables.ratings.c.id)


def content(rating: NewRating) -> dict[str, Any]:
    """What the rater said, without what the catalog added: the part that idempotency compares."""
    return {
        field.name: dict(rating.answers) if field.name == "answers" else getattr(rating, field.name)
        for field in fields(NewRating)
    }


def _row(rating: Rating) -> dict[str, Any]:
    row = {field.name: getattr(rating, field.name) for field in fields(Rating) if field.name != "preference"}
    row["answers"] = dict(rating.answers)
    row["supersedes"] = rating.supersedes or None
    row["preference_other"] = rating.preference.other if rating.preference else None
    row["preference_preferred"] = rating.preference.preferred if rating.preference else None
    return row


def _rating(row: Any) -> Rating:
    values = dict(row._mapping)
    del values["seq"], values["recorded_by"]
    other, preferred = values.pop("preference_other"), values.pop("preference_preferred")
    values["preference"] = Preference(other=other, preferred=preferred) if other else None
    values["supersedes"] = values["supersedes"] or ""
    return Rating(**values)
