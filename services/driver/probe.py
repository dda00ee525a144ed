"""What a node of a Ray cluster says of itself before vouch serves on it. Runs there, in a process of Ray's."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import vouch
from services.environment import guarding_catalog_url
from vouch.storage.state import PRIVATE, StateFolder


@dataclass(frozen=True)
class NodeReport:
    """The version of vouch, and the digest of the URL under which the node's door finds the tokens ("": nowhere)."""

    version: str
    catalog: str


def look(state: str) -> NodeReport:
    """Make the folders that the replicas of this node write to, and report."""
    os.umask(PRIVATE)
    folder = StateFolder(Path(state)).create()
    for path in (folder.metrics, folder.logs):
        path.mkdir(exist_ok=True)
    try:
        return NodeReport(vouch.__version__, catalog_digest(guarding_catalog_url()))
    except KeyError:
        return NodeReport(vouch.__version__, "")


def catalog_digest(url: str) -> str:
    """Tells whether two nodes mean the same catalog, and not what its password is."""
    return hashlib.sha256(url.encode()).hexdigest()
