"""The catalog: images, ratings, versions, serving, rollouts and runs as one consistent record.

    catalog = Catalog("sqlite:///state/catalog.db")            # or postgresql://user@host/vouch
    rating = catalog.ratings.record(new_rating, domain)

SQLite in the state folder of one machine, PostgreSQL in a cluster; the same code and the same tests on both.
"""

from vouch.storage.catalog.catalog import Catalog

__all__ = ["Catalog"]
