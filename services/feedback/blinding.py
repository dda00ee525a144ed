"""What a rater is told of images that it is still to rate: what NextForReview tells, and nothing else.

An image is still to rate until the caller's own name has rated it once. A token that rates for others has no name of
its own, so every image is still to rate for it. Clients see their own images in full, operators all.
"""

from __future__ import annotations

from collections.abc import Collection

from services.identity import Identity
from vouch.errors import PermissionDenied
from vouch.storage.catalog import Catalog


class Blinding:
    """Decides for one caller at a time. Reads the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def hidden(self, images: Collection[str], caller: Identity) -> frozenset[str]:
        """Those of the images, by their digests, whose origin and scores this caller must not know."""
        if not caller.is_blinded:
            return frozenset()
        if caller.rates_for_others:
            return frozenset(images)
        return frozenset(images) - self._catalog.ratings.rated_by(caller.name, images)

    def check_filter(self, name: str, value: str, caller: Identity) -> None:
        """Refuse a filter that tells a rater the origin of the images in its list.

        Raises:
            PermissionDenied: the caller is blinded and gives this filter a value.
        """
        if value and caller.is_blinded:
            raise PermissionDenied(
                f"{name} would tell a rater where images come from before they are rated. Leave it out, or use a token "
                "of the role operator.",
                "BLINDED",
            )
