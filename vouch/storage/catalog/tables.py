"""The tables. A change here needs a migration beside it; a test compares the two."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
Digest = sa.String(64)
Sequence = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite counts INTEGER keys only


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware datetime, kept as microseconds since 1970: exact and equal on every database."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else _EPOCH + timedelta(microseconds=int(value))


def _text(name: str, *arguments: Any, **options: Any) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), *arguments, nullable=False, **options)


def _digest(name: str, *arguments: Any, **options: Any) -> sa.Column[str]:
    return sa.Column(name, Digest, *arguments, nullable=False, **options)


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON(), nullable=False)


def _moment(name: str) -> sa.Column[datetime]:
    return sa.Column(name, UtcDateTime(), nullable=False)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _sequence() -> sa.Column[int]:
    return sa.Column("seq", Sequence, primary_key=True, autoincrement=True)


images = sa.Table(
    "images",
    metadata,
    _sequence(),
    _digest("digest", unique=True),
    _text("media_type"),
    _count("width"),
    _count("height"),
    _count("size_bytes"),
    _text("source"),
    _text("prompt"),
    _text("label", index=True),
    sa.Column("seed", sa.BigInteger()),
    _text("sampler"),
    sa.Column("steps", sa.Integer()),
    sa.Column("guidance", sa.Float(53)),
    _text("guidance_method", server_default=""),
    sa.Column("guidance_start", sa.Float(53)),
    sa.Column("guidance_stop", sa.Float(53)),
    sa.Column("adapter_start", sa.Float(53)),
    _text("negative_prompt", server_default=""),
    _text("generator_version", index=True),
    _text("request_id", index=True),
    _moment("created_at"),
)

image_requests = sa.Table(
    "image_requests",
    metadata,
    # The token that asked; "" where authentication is off, and for what was drawn before tokens had names.
    _text("owner", primary_key=True),
    _text("request_id", primary_key=True),
    _digest("image", sa.ForeignKey("images.digest"), primary_key=True, index=True),
)

scores = sa.Table(
    "scores",
    metadata,
    _digest("image", sa.ForeignKey("images.digest"), primary_key=True),
    _digest("version", primary_key=True),
    sa.Column("overall", sa.Float(53), nullable=False),
    sa.Column("std", sa.Float(53), nullable=False),
    _json("criteria"),
    _moment("created_at"),
)

ratings = sa.Table(
    "ratings",
    metadata,
    _sequence(),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    _text("request_id"),
    _digest("image", sa.ForeignKey("images.digest"), index=True),
    _text("rater", index=True),
    _text("kind"),
    _text("domain"),
    _text("verdict"),
    _json("answers"),
    sa.Column("preference_other", Digest, sa.ForeignKey("images.digest")),
    sa.Column("preference_preferred", Digest),
    _text("text"),
    _count("duration_ms"),
    _text("ui_version"),
    # NULL for a first rating: unique lets a rating be corrected once, the correction again, and so on.
    sa.Column("supersedes", sa.String(32), sa.ForeignKey("ratings.id"), unique=True),
    _text("generator_version"),
    _moment("created_at"),
    _text("recorded_by"),  # the name of a token, to which request_id belongs
    sa.UniqueConstraint("recorded_by", "request_id"),
)

reviews = sa.Table(
    "reviews",
    metadata,
    _sequence(),
    _digest("image", sa.ForeignKey("images.digest"), index=True),
    _text("rater"),
    _text("kind"),
    _text("stratum"),
    sa.Column("propensity", sa.Float(53)),
    _moment("created_at"),
)

versions = sa.Table(
    "versions",
    metadata,
    _sequence(),
    _digest("digest", unique=True),
    _text("name", unique=True),
    _text("kind", index=True),
    _text("format"),
    _text("parent"),
    _text("run_id", index=True),
    _json("files"),
    _json("lineage"),
    _moment("created_at"),
)

serving = sa.Table(
    "serving",
    metadata,
    sa.Column("slot", sa.String(64), primary_key=True),
    _text("champion"),
    _text("candidate"),
    sa.Column("percent", sa.Integer(), nullable=False),
    _text("previous"),
    sa.Column("sticky", sa.Boolean(), nullable=False, server_default=sa.false()),
    _count("revision"),
    _moment("updated_at"),
)

rollouts = sa.Table(
    "rollouts",
    metadata,
    _sequence(),
    sa.Column("slot", sa.String(64), nullable=False, index=True),
    _text("candidate"),
    _text("champion"),
    _text("state"),
    sa.Column("percent", sa.Integer(), nullable=False),
    _moment("created_at"),
    _moment("updated_at"),
)

rollout_events = sa.Table(
    "rollout_events",
    metadata,
    _sequence(),
    sa.Column("rollout", Sequence, sa.ForeignKey("rollouts.seq"), nullable=False, index=True),
    _text("action"),
    sa.Column("percent", sa.Integer(), nullable=False),
    sa.Column("asked_percent", sa.Integer()),
    _text("actor"),
    _text("reason"),
    _text("request_id"),
    _moment("at"),
    sa.UniqueConstraint("actor", "request_id"),
)

rollout_plans = sa.Table(
    "rollout_plans",
    metadata,
    sa.Column("rollout", Sequence, sa.ForeignKey("rollouts.seq"), primary_key=True, autoincrement=False),
    _json("steps"),
    sa.Column("hold_s", sa.Float(53), nullable=False),
    sa.Column("shadow", sa.Boolean(), nullable=False),
    sa.Column("sticky", sa.Boolean(), nullable=False),
    _json("gate"),
    _text("forced"),
    _text("system"),
    sa.Column("automatic", sa.Boolean(), nullable=False),
    sa.Column("paused", sa.Boolean(), nullable=False),
    sa.Column("held_percent", sa.Integer(), nullable=False),
    sa.Column("held_s", sa.Float(53), nullable=False),
    _json("evidence"),
)

controllers = sa.Table(
    "controllers",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    _count("fence"),  # grows with each controller that takes over; a write with an older number is refused
    _moment("taken_at"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("number", Sequence, primary_key=True, autoincrement=False),
    _moment("at"),
    _text("actor"),
    _text("action"),
    _text("subject"),
    _json("details"),
    _text("previous"),
    _digest("digest", unique=True),
)

runs = sa.Table(
    "runs",
    metadata,
    _sequence(),
    _text("kind"),
    _text("state", index=True),
    _json("config"),
    _text("request_id"),
    _text("created_by"),
    sa.Column("attempt", sa.Integer(), nullable=False),
    _count("step"),
    _count("total_steps"),
    _text("message"),
    _json("metrics"),
    _json("inputs"),
    _text("version"),
    _text("error"),
    sa.Column("cancel_requested", sa.Boolean(), nullable=False),
    _moment("created_at"),
    _moment("updated_at"),
    sa.Column("started_at", UtcDateTime()),
    sa.Column("ended_at", UtcDateTime()),
    sa.UniqueConstraint("created_by", "request_id"),
)

replica_reports = sa.Table(
    "replica_reports",
    metadata,
    sa.Column("slot", sa.String(64), primary_key=True),
    sa.Column("replica", sa.String(200), primary_key=True),
    _count("revision"),
    sa.Column("ok", sa.Boolean(), nullable=False),
    _text("reason"),
    _text("champion"),
    _text("candidate"),
    _moment("updated_at"),
)

tokens = sa.Table(
    "tokens",
    metadata,
    _sequence(),
    _text("name", unique=True),
    _text("role"),
    _json("scopes"),
    _digest("digest", unique=True),  # SHA-256 of the secret
    _moment("created_at"),
    sa.Column("last_used_at", UtcDateTime()),
    sa.Column("revoked_at", UtcDateTime()),
)
