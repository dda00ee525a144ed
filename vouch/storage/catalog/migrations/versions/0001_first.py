"""The first form of the catalog."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NO_CHANGE = "a rating is never changed or deleted: record a correction that supersedes it"


def upgrade() -> None:
    _create_images()
    _create_replica_reports()
    _create_rollouts()
    _create_runs()
    _create_serving()
    _create_versions()
    _create_ratings()
    _create_rollout_events()
    _create_scores()
    _guard_ratings()


def _create_images() -> None:
    op.create_table(
        "images",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("width", sa.BigInteger(), nullable=False),
        sa.Column("height", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("sampler", sa.Text(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=True),
        sa.Column("guidance", sa.Float(precision=53), nullable=True),
        sa.Column("generator_version", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_images")),
        sa.UniqueConstraint("digest", name=op.f("uq_images_digest")),
    )
    op.create_index(op.f("ix_images_generator_version"), "images", ["generator_version"], unique=False)
    op.create_index(op.f("ix_images_label"), "images", ["label"], unique=False)
    op.create_index(op.f("ix_images_request_id"), "images", ["request_id"], unique=False)


def _create_replica_reports() -> None:
    op.create_table(
        "replica_reports",
        sa.Column("slot", sa.String(length=64), nullable=False),
        sa.Column("replica", sa.String(length=200), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("champion", sa.Text(), nullable=False),
        sa.Column("candidate", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("slot", "replica", name=op.f("pk_replica_reports")),
    )


def _create_rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("slot", sa.String(length=64), nullable=False),
        sa.Column("candidate", sa.Text(), nullable=False),
        sa.Column("champion", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_rollouts")),
    )
    op.create_index(op.f("ix_rollouts_slot"), "rollouts", ["slot"], unique=False)


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("total_steps", sa.BigInteger(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_runs")),
        sa.UniqueConstraint("request_id", name=op.f("uq_runs_request_id")),
    )
    op.create_index(op.f("ix_runs_state"), "runs", ["state"], unique=False)


def _create_serving() -> None:
    op.create_table(
        "serving",
        sa.Column("slot", sa.String(length=64), nullable=False),
        sa.Column("champion", sa.Text(), nullable=False),
        sa.Column("candidate", sa.Text(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("slot", name=op.f("pk_serving")),
    )


def _create_versions() -> None:
    op.create_table(
        "versions",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("lineage", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_versions")),
        sa.UniqueConstraint("digest", name=op.f("uq_versions_digest")),
        sa.UniqueConstraint("name", name=op.f("uq_versions_name")),
    )
    op.create_index(op.f("ix_versions_kind"), "versions", ["kind"], unique=False)
    op.create_index(op.f("ix_versions_run_id"), "versions", ["run_id"], unique=False)


def _create_ratings() -> None:
    op.create_table(
        "ratings",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
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
        sa.ForeignKeyConstraint(["image"], ["images.digest"], name=op.f("fk_ratings_image")),
        sa.ForeignKeyConstraint(
            ["preference_other"], ["images.digest"], name=op.f("fk_ratings_preference_other")
        ),
        sa.ForeignKeyConstraint(["supersedes"], ["ratings.id"], name=op.f("fk_ratings_supersedes")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_ratings")),
        sa.UniqueConstraint("id", name=op.f("uq_ratings_id")),
        sa.UniqueConstraint("request_id", name=op.f("uq_ratings_request_id")),
        sa.UniqueConstraint("supersedes", name=op.f("uq_ratings_supersedes")),
    )
    op.create_index(op.f("ix_ratings_image"), "ratings", ["image"], unique=False)
    op.create_index(op.f("ix_ratings_rater"), "ratings", ["rater"], unique=False)


def _create_rollout_events() -> None:
    op.create_table(
        "rollout_events",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("rollout", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("asked_percent", sa.Integer(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.seq"], name=op.f("fk_rollout_events_rollout")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_rollout_events")),
        sa.UniqueConstraint("request_id", name=op.f("uq_rollout_events_request_id")),
    )
    op.create_index(op.f("ix_rollout_events_rollout"), "rollout_events", ["rollout"], unique=False)


def _create_scores() -> None:
    op.create_table(
        "scores",
        sa.Column("image", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("overall", sa.Float(precision=53), nullable=False),
        sa.Column("std", sa.Float(precision=53), nullable=False),
        sa.Column("criteria", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["image"], ["images.digest"], name=op.f("fk_scores_image")),
        sa.PrimaryKeyConstraint("image", "version", name=op.f("pk_scores")),
    )


def _guard_ratings() -> None:
    """The promise of the product, kept by the database itself and not only by our code."""
    if op.get_bind().dialect.name == "sqlite":
        for action in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER ratings_no_{action.lower()} BEFORE {action} ON ratings "
                f"BEGIN SELECT RAISE(ABORT, '{_NO_CHANGE}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION ratings_no_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_NO_CHANGE}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER ratings_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON ratings "
        "FOR EACH STATEMENT EXECUTE FUNCTION ratings_no_change()"
    )
