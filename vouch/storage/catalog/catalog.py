"""The one object that processes hold: an open database and a small store per noun."""

from __future__ import annotations

from types import TracebackType

from vouch.storage.catalog.audit import AuditLog
from vouch.storage.catalog.controllers import Controllers
from vouch.storage.catalog.database import Database
from vouch.storage.catalog.images import Images
from vouch.storage.catalog.migrate import migrate
from vouch.storage.catalog.ratings import Ratings
from vouch.storage.catalog.reports import Reports
from vouch.storage.catalog.reviews import Reviews
from vouch.storage.catalog.rollouts import Rollouts
from vouch.storage.catalog.runs import Runs
from vouch.storage.catalog.serving import ServingSlots
from vouch.storage.catalog.tokens import Tokens
from vouch.storage.catalog.unused import UnusedImages
from vouch.storage.catalog.versions import Versions


class Catalog:
    """Opens (and, where needed, migrates) the database at `url`.

    Every method of the stores is one transaction: when it returns, what it wrote is durable; when it raises,
    nothing was written. Safe to use from several threads and, opened in each, from several processes.

    Raises:
        InvalidInput: the URL is not one, or names a database that vouch does not speak.
        FailedPrecondition: the place may not be written, or a newer vouch made this catalog.
        Unavailable: the server does not answer.
        DataLoss: the file is not a database.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._database = Database(url)
        migrate(self._database)
        self.images = Images(self._database)
        self.unused = UnusedImages(self._database)
        self.ratings = Ratings(self._database)
        self.reviews = Reviews(self._database)
        self.versions = Versions(self._database)
        self.serving = ServingSlots(self._database)
        self.rollouts = Rollouts(self._database)
        self.runs = Runs(self._database)
        self.reports = Reports(self._database)
        self.tokens = Tokens(self._database)
        self.controllers = Controllers(self._database)
        self.audit = AuditLog(self._database)

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Catalog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Catalog], tuple[str]]:
        # Connections do not travel between processes; the address does.
        return Catalog, (self.url,)
