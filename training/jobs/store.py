"""The state folder as a training run sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vouch.domains.criteria import Domain, load_domain
from vouch.errors import NotFound
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.storage.state import StateFolder
from vouch.types.records import Version


@dataclass(frozen=True)
class Store:
    """What a run finds in its state folder."""

    folder: StateFolder
    catalog: Catalog
    blobs: BlobStore
    registry: Registry
    domain: Domain = field(default_factory=load_domain)

    @classmethod
    def open(cls, state: Path, domain: str = "blood_cells") -> Store:
        """domain: a shipped one, or the path of a file. Raises NotFound, InvalidInput."""
        folder = StateFolder(state)
        catalog = Catalog(folder.catalog_url)
        registry = Registry(catalog, folder.models)
        return cls(folder, catalog, BlobStore(folder.blobs), registry, load_domain(domain))

    def serving(self, slot: str, ref: str) -> Version:
        """The version named, or the slot's champion."""
        return self.registry.get(ref or self.catalog.serving.get(slot).champion)

    def base(self, version: Version) -> Version:
        """The diffusers model that a generator version is or builds upon. Raises NotFound."""
        for ancestor in self.registry.lineage(version.digest):
            if ancestor.format == "diffusers":
                return ancestor
        raise NotFound(
            f"The diffusers model that {version.name} builds upon is not in the registry.", "UNKNOWN_VERSION"
        )
