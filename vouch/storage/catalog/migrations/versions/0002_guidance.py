"""How an image was guided, beside the scale."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("images", sa.Column("guidance_method", sa.Text(), nullable=False, server_default=""))
    for name in ("guidance_start", "guidance_stop", "adapter_start"):
        op.add_column("images", sa.Column(name, sa.Float(precision=53), nullable=True))
    # Until now there was one way: cfg in every step, and an adapter in every step.
    op.execute(
        "UPDATE images SET guidance_method = 'cfg', guidance_start = 0, guidance_stop = 1, adapter_start = 0 "
        "WHERE source = 'generated'"
    )
