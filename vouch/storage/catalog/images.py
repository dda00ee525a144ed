"""Images, their provenance and their scores."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, replace
from typing import Any

import sqlalchemy as sa

from vouch.errors import InvalidInput, NotFound
from vouch.storage.catalog import pages, tables
from vouch.storage.catalog.database import Database, insert_once
from vouch.types.image import IMAGE_SOURCES, ImageRecord, ImageSource
from vouch.types.page import Page
from vouch.types.rating import RaterKind
from vouch.types.score import Score

MAX_REVIEW = 500


class Images:
    """What the catalog knows of images; the bytes themselves are in the blob store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, records: Iterable[ImageRecord], scores: Iterable[Score] = (), *, owner: str = "") -> int:
        """Store images and their scores in one transaction; answers how many of the images were new.

        A digest that is already known keeps its first provenance: the same bytes are the same image. `owner` names the
        token that asked for them; an image may have several owners.
        """
        added = 0
        with self._database.write() as connection:
            for record in records:
                _check(record)
                added += insert_once(connection, tables.images, asdict(record))
                if record.request_id:
                    asked = {"owner": owner, "request_id": record.request_id, "image": record.digest}
                    insert_once(connection, tables.image_requests, asked)
            _insert_scores(connection, scores)
        return added

    def get(self, digest: str, *, owner: str | None = None) -> ImageRecord:
        """The image; with `owner` only if it is theirs, under their own request id.

        Raises:
            NotFound: a digest that was never stored, or is another owner's. The two cannot be told apart.
        """
        with self._database.read() as connection:
            if owner is None:
                return get_image(connection, digest)
            own = _own_requests(connection, owner, [digest])
            if digest not in own:
                raise _unknown(digest)
            return replace(get_image(connection, digest), request_id=own[digest])

    def list(
        self,
        *,
        source: ImageSource | None = None,
        generator_version: str | None = None,
        label: str | None = None,
        request_id: str | None = None,
        owner: str | None = None,
        page_size: int = pages.DEFAULT_PAGE_SIZE,
        page_token: str = "",
    ) -> Page[ImageRecord]:
        """Newest first; each filter that is given must hold. With `owner`, request ids are theirs."""
        filters = {"source": source, "generator_version": generator_version, "label": label}
        with self._database.read() as connection:
            page = pages.read_page(
                connection,
                tables.images,
                filters,
                _image,
                page_size=page_size,
                page_token=page_token,
                where=_asked_for(owner, request_id),
                where_scope=(owner, request_id),
            )
            if owner is None:
                return page
            own = _own_requests(connection, owner, [image.digest for image in page.items], request_id)
            return replace(
                page, items=tuple(replace(image, request_id=own[image.digest]) for image in page.items)
            )

    def newest_generated(
        self, *, after: int, versions: Collection[str], limit: int
    ) -> tuple[tuple[int, ImageRecord], ...]:
        """The newest images of these versions with their sequence numbers, above `after`; oldest first."""
        table = tables.images
        query = (
            sa.select(table)
            .where(
                table.c.seq > after, table.c.generator_version.in_(list(versions)), table.c.seed.is_not(None)
            )
            .order_by(table.c.seq.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return tuple((row.seq, _image(row)) for row in reversed(connection.execute(query).all()))

    def newest_seq(self) -> int:
        """The highest sequence number; 0 without images."""
        with self._database.read() as connection:
            return int(connection.execute(sa.select(sa.func.max(tables.images.c.seq))).scalar() or 0)

    def add_scores(self, scores: Iterable[Score]) -> None:
        """Store scores of known images; a second score of one image by one version changes nothing.

        Raises:
            NotFound: an image that was never stored; nothing is written.
        """
        with self._database.write() as connection:
            _insert_scores(connection, scores)

    def scores(self, digest: str) -> tuple[Score, ...]:
        """What each reward version said of this image, newest first."""
        table = tables.scores
        query = (
            sa.select(table)
            .where(table.c.image == digest)
            .order_by(table.c.created_at.desc(), table.c.version)
        )
        with self._database.read() as connection:
            get_image(connection, digest)
            return tuple(Score(**row._mapping) for row in connection.execute(query))

    def scored_by(self, version: str) -> dict[str, float]:
        """The overall score of every image that this reward version scored, by digest."""
        table = tables.scores
        query = sa.select(table.c.image, table.c.overall).where(table.c.version == version)
        with self._database.read() as connection:
            return {row.image: row.overall for row in connection.execute(query)}

    def prompts(self, digests: Iterable[str]) -> dict[str, str]:
        """The prompt of each of these images."""
        table = tables.images
        query = sa.select(table.c.digest, table.c.prompt).where(table.c.digest.in_(set(digests)))
        with self._database.read() as connection:
            return {row.digest: row.prompt for row in connection.execute(query)}

    def first_scores(self, digests: Collection[str]) -> dict[str, Score]:
        """The oldest score of each of these images that has one."""
        return {score.image: score for score in reversed(self._scores(digests))}

    def latest_scores(self, digests: Collection[str]) -> dict[str, Score]:
        """The newest score of each of these images that has one."""
        return {score.image: score for score in self._scores(digests)}

    def _scores(self, digests: Collection[str]) -> tuple[Score, ...]:
        """Every score of these images, oldest first."""
        table = tables.scores
        query = (
            sa.select(table).where(table.c.image.in_(digests)).order_by(table.c.created_at, table.c.version)
        )
        with self._database.read() as connection:
            return tuple(Score(**row._mapping) for row in connection.execute(query))

    def rated_by(
        self,
        rater: str,
        *,
        kind: RaterKind = "human",
        label: str | None = None,
        generator_version: str | None = None,
        count: int = 1,
    ) -> tuple[ImageRecord, ...]:
        """Images that this rater has rated once, at random: to ask again."""
        ratings, images = tables.ratings, tables.images
        once = (
            sa.select(ratings.c.image)
            .where(ratings.c.rater == rater, ratings.c.kind == kind, ratings.c.supersedes.is_(None))
            .group_by(ratings.c.image)
            .having(sa.func.count() == 1)
        )
        query = sa.select(images).where(images.c.digest.in_(once)).order_by(sa.func.random()).limit(count)
        if label is not None:
            query = query.where(images.c.label == label)
        if generator_version is not None:
            query = query.where(images.c.generator_version == generator_version)
        with self._database.read() as connection:
            return tuple(_image(row) for row in connection.execute(query))

    def rated_last(self, *, kind: RaterKind = "human", count: int = 1) -> tuple[ImageRecord, ...]:
        """The generated images that the last `count` ratings of this kind are about, each once."""
        ratings, images = tables.ratings, tables.images
        last = (
            sa.select(ratings.c.image)
            .where(ratings.c.kind == kind)
            .order_by(ratings.c.seq.desc())
            .limit(count)
        )
        query = sa.select(images).where(images.c.digest.in_(last), images.c.source == "generated")
        with self._database.read() as connection:
            return tuple(_image(row) for row in connection.execute(query))

    def next_for_review(
        self,
        rater: str,
        *,
        count: int = 1,
        kind: RaterKind = "human",
        sources: tuple[ImageSource, ...] = ("generated",),
        label: str | None = None,
        generator_version: str | None = None,
    ) -> tuple[ImageRecord, ...]:
        """Images for this rater: the least rated first, at random among equals, none that this rater has rated.

        Only ratings of the same `kind` count, so that simulated raters never push an image out of people's queue.
        An empty answer means that nothing is left to rate.
        """
        if not 1 <= count <= MAX_REVIEW:
            raise InvalidInput(f"Ask for 1 to {MAX_REVIEW} images at once, not {count}.")
        query = _review_query(rater, kind).where(tables.images.c.source.in_(sources)).limit(count)
        if label is not None:
            query = query.where(tables.images.c.label == label)
        if generator_version is not None:
            query = query.where(tables.images.c.generator_version == generator_version)
        with self._database.read() as connection:
            return tuple(_image(row) for row in connection.execute(query))


def get_image(connection: sa.Connection, digest: str) -> ImageRecord:
    row = connection.execute(sa.select(tables.images).where(tables.images.c.digest == digest)).first()
    if row is None:
        raise _unknown(digest)
    return _image(row)


def _unknown(digest: str) -> NotFound:
    return NotFound(f"There is no image {digest}: only stored images can be named.", "IMAGE_NOT_FOUND")


def _asked_for(owner: str | None, request_id: str | None) -> sa.ColumnElement[bool] | None:
    """That an image was asked for by this owner, under this request id, or both; None where either is left open."""
    if owner is None and request_id is None:
        return None
    table = tables.image_requests
    if request_id is None:
        # Correlated: the newest images are looked at one by one until a page is full.
        return sa.exists().where(table.c.image == tables.images.c.digest, table.c.owner == owner)
    # Not correlated: a request has few images. SQLite would look at every image that there is.
    asked = sa.select(table.c.image).where(table.c.request_id == request_id)
    return tables.images.c.digest.in_(asked if owner is None else asked.where(table.c.owner == owner))


def _own_requests(
    connection: sa.Connection, owner: str, digests: Collection[str], request_id: str | None = None
) -> dict[str, str]:
    """The request id under which this owner asked for each of these images."""
    table = tables.image_requests
    query = sa.select(table).where(table.c.owner == owner, table.c.image.in_(digests))
    if request_id is not None:
        query = query.where(table.c.request_id == request_id)
    return {row.image: row.request_id for row in connection.execute(query.order_by(table.c.request_id))}


def _review_query(rater: str, kind: RaterKind) -> sa.Select[Any]:
    ratings, images = tables.ratings, tables.images
    # A correction is no further opinion, so only first ratings are counted.
    counts = (
        sa.select(ratings.c.image, sa.func.count().label("n"))
        .where(ratings.c.kind == kind, ratings.c.supersedes.is_(None))
        .group_by(ratings.c.image)
        .subquery()
    )
    mine = sa.select(ratings.c.image).where(ratings.c.rater == rater)
    return (
        sa.select(images)
        .outerjoin(counts, counts.c.image == images.c.digest)
        .where(images.c.digest.not_in(mine))
        .order_by(sa.func.coalesce(counts.c.n, 0), sa.func.random())
    )


def _check(record: ImageRecord) -> None:
    if record.source not in IMAGE_SOURCES:
        raise InvalidInput(f"{record.source!r} is no source of images: {', '.join(IMAGE_SOURCES)}.")
    if record.seed is not None and not 0 <= record.seed < 2**63:
        raise InvalidInput(f"seed must be 0 to 2^63-1, not {record.seed}.")


def _insert_scores(connection: sa.Connection, scores: Iterable[Score]) -> None:
    for score in scores:
        get_image(connection, score.image)
        insert_once(connection, tables.scores, {**asdict(score), "criteria": dict(score.criteria)})


def _image(row: Any) -> ImageRecord:
    return ImageRecord(**{name: value for name, value in row._mapping.items() if name != "seq"})
