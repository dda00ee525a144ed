"""What an image was guided away from, in words."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("images", sa.Column("negative_prompt", sa.Text(), nullable=False, server_default=""))
