"""The foundation model of an adaptation: a version, or a folder that becomes one."""

from __future__ import annotations

import re
from pathlib import Path

from training.data.digest import digest_of
from vouch.errors import AlreadyExists
from vouch.models.folders import check_base_folder
from vouch.storage.registry import Registry
from vouch.types.version import Version


def published_base(registry: Registry, folder: Path) -> Version:
    """The folder as a version, so that what is learned upon it can be served and traced. The same files give the
    version that is already there.

    Raises:
        InvalidInput: no such folder, or none that can be drawn with.
    """
    path = check_base_folder(folder)
    label = re.sub(r"[^a-z0-9]+", "-", path.name.lower()).strip("-")[:40] or "base"
    lineage = {"command": f"vouch adapt --base {path.name}"}

    def publish(name: str) -> Version:
        return registry.publish(path, kind="generator", format="diffusers", name=name, lineage=lineage)

    try:
        return publish(f"generator-{label}")
    except AlreadyExists:  # another folder of that name
        return publish(f"generator-{label}-{digest_of(path)[:8]}")
