"""Run by Alembic: migrates the connection that `vouch.storage.catalog.migrate` hands in, inside its transaction.

For developers, `alembic revision --autogenerate` reads the URL from `-x url=...`.
"""

import sqlalchemy as sa
from alembic import context

from vouch.storage.catalog.tables import metadata


def run(connection: sa.Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=False)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    engine = sa.create_engine(context.get_x_argument(as_dictionary=True)["url"])
    with engine.begin() as connection:
        run(connection)
