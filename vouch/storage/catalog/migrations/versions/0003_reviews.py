"""What the review queue handed out, and how it was chosen."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "reviews",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("image", sa.String(length=64), nullable=False),
        sa.Column("rater", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("stratum", sa.Text(), nullable=False),
        sa.Column("propensity", sa.Float(precision=53), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["image"], ["images.digest"], name=op.f("fk_reviews_image")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_reviews")),
    )
    op.create_index(op.f("ix_reviews_image"), "reviews", ["image"], unique=False)
