"""Named tokens, and request ids that belong to the token that sent them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_NO_CHANGE = "a rating is never changed or deleted: record a correction that supersedes it"
_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _create_tokens()
    _create_image_requests()
    _scope_requests("runs", "created_by")
    _scope_requests("rollout_events", "actor")
    if op.get_bind().dialect.name == "sqlite":
        _rebuild_ratings()
    else:
        _alter_ratings()


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("seq", _SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_tokens")),
        sa.UniqueConstraint("name", name=op.f("uq_tokens_name")),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
    )


def _create_image_requests() -> None:
    op.create_table(
        "image_requests",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("image", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["image"], ["images.digest"], name=op.f("fk_image_requests_image")),
        sa.PrimaryKeyConstraint("owner", "request_id", "image", name=op.f("pk_image_requests")),
    )
    op.create_index(op.f("ix_image_requests_image"), "image_requests", ["image"], unique=False)
    op.execute(
        "INSERT INTO image_requests (owner, request_id, image) "
        "SELECT '', request_id, digest FROM images WHERE request_id != ''"
    )


def _scope_requests(table: str, by: str) -> None:
    with op.batch_alter_table(table) as batch:
        batch.drop_constraint(op.f(f"uq_{table}_request_id"), type_="unique")
        batch.create_unique_constraint(op.f(f"uq_{table}_{by}_request_id"), [by, "request_id"])


def _alter_ratings() -> None:
    op.add_column("ratings", sa.Column("recorded_by", sa.Text(), nullable=False, server_default=""))
    op.alter_column("ratings", "recorded_by", server_default=None)
    op.drop_constraint(op.f("uq_ratings_request_id"), "ratings", type_="unique")
    op.create_unique_constraint(
        op.f("uq_ratings_recorded_by_request_id"), "ratings", ["recorded_by", "request_id"]
    )


def _rebuild_ratings() -> None:
    """SQLite cannot drop a constraint. The old table is renamed first: its rows then refer to one another under that
    name, and go together."""
    for action in ("update", "delete"):
        op.execute(f"DROP TRIGGER ratings_no_{action}")
    op.rename_table("ratings", "ratings_before")
    for column in ("image", "rater"):
        op.drop_index(f"ix_ratings_{column}", table_name="ratings_before")
    _create_ratings()
    columns = [column["name"] for column in sa.inspect(op.get_bind()).get_columns("ratings_before")]
    names = ", ".join(columns)
    op.execute(
        f"INSERT INTO ratings ({names}, recorded_by) SELECT {names}, '' FROM ratings_before ORDER BY seq"  # noqa: S608
    )
    op.drop_table("ratings_before")
    for column in ("image", "rater"):
        op.create_index(f"ix_ratings_{column}", "ratings", [column], unique=False)
    for action in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER ratings_no_{action.lower()} BEFORE {action} ON ratings "
            f"BEGIN SELECT RAISE(ABORT, '{_NO_CHANGE}'); END"
        )


def _create_ratings() -> None:
    op.create_table(
        "ratings",
        sa.Column("seq", _SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("image", sa.String(length=64), nullable=False),
        sa.Column("rater", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("answers", sa.JSON(), nullable=False),
        sa.Column("preference_other", sa.String(length=64), nullable=True),
        sa.Column("preference_preferred", sa.String(length=64), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
        sa.Column("ui_version", sa.Text(), nullable=False),
        sa.Column("supersedes", sa.String(length=32), nullable=True),
        sa.Column("generator_version", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["image"], ["images.digest"], name=op.f("fk_ratings_image")),
        sa.ForeignKeyConstraint(
            ["preference_other"], ["images.digest"], name=op.f("fk_ratings_preference_other")
        ),
        sa.ForeignKeyConstraint(["supersedes"], ["ratings.id"], name=op.f("fk_ratings_supersedes")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_ratings")),
        sa.UniqueConstraint("id", name=op.f("uq_ratings_id")),
        sa.UniqueConstraint("recorded_by", "request_id", name=op.f("uq_ratings_recorded_by_request_id")),
        sa.UniqueConstraint("supersedes", name=op.f("uq_ratings_supersedes")),
    )
