"""Words that generators have learned and reward models have not."""

from __future__ import annotations

from vouch.storage.catalog import Catalog


def learned_concepts(catalog: Catalog) -> dict[str, str]:
    """The sub-types that generators here have learned, each with what it is a kind of. A reward model knows none of
    them: it learns of such an image as one of the class."""
    concepts: dict[str, str] = {}
    token = ""
    while True:
        page = catalog.versions.list("generator", page_size=1000, page_token=token)
        for version in page.items:
            concepts |= version.lineage.get("concept", {})
        token = page.next_token
        if not token:
            return concepts
