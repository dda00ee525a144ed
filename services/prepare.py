"""`python -m services.prepare`: prepares a cluster before its first start. Idempotent.

Creates the catalog's tables, publishes the initial models, and sets them as champions of empty slots. `vouch up` does
the same at its start.
"""

from __future__ import annotations

import os
import sys

from services.starter import check_models, publish_models
from vouch.errors import VouchError
from vouch.formats.escapes import visible_lines
from vouch.settings import load_settings
from vouch.storage.catalog import Catalog
from vouch.storage.state import PRIVATE


def main() -> int:
    os.umask(PRIVATE)
    try:
        settings = load_settings()
        settings.folder.create()
        check_models(settings)
        publish_models(settings)
        with Catalog(settings.resolved_catalog_url) as catalog:
            for slot in catalog.serving.list():
                version = catalog.versions.get(slot.champion)
                sys.stdout.write(f"{slot.slot} serves {version.name} ({version.digest[:12]})\n")
    except VouchError as error:
        sys.stderr.write(visible_lines(f"error: {error.message}\n"))
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
