"""Modules of vouch under the names that they had when field cases were written. Python imports this by itself in the
processes of `benchmarks.cases`, which put this folder on their path, and nowhere else."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

MOVED = {
    "vouch.captions": "vouch.models.captions",
    "vouch.catalog": "vouch.storage.catalog",
    "vouch.criteria": "vouch.domains.criteria",
    "vouch.filter": "vouch.datasets.filter",
    "vouch.images": "vouch.formats.images",
    "vouch.imagesets": "vouch.datasets.imagesets",
    "vouch.pipelines": "vouch.models.pipelines",
    "vouch.ratings": "vouch.datasets.ratings",
    "vouch.records": "vouch.types.rating",
    "vouch.sampling": "vouch.models.sampling",
}


class EarlierNames(MetaPathFinder, Loader):
    """Finds a module of an earlier name where it lies today."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(MOVED[spec.name])
        if spec.name == "vouch.pipelines":
            module.Generator.whole_because = property(lambda self: self.fallback_reason)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has run already."""


sys.meta_path.insert(0, EarlierNames())
