"""Model versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

VersionKind = Literal["generator", "reward", "rater", "judge"]
VERSION_KINDS: tuple[str, ...] = get_args(VersionKind)


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of a version in its manifest."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Version:
    """An immutable model version, from its manifest. `digest` is the SHA-256 of its canonical manifest."""

    digest: str
    name: str
    kind: VersionKind
    format: str  # "diffusers" | "lora" | "reward" ...
    parent: str  # digest, "" for a root
    files: Mapping[str, FileEntry]
    lineage: Mapping[str, Any]
    created_at: datetime

    @property
    def size_bytes(self) -> int:
        """Total size of all files."""
        return sum(entry.bytes for entry in self.files.values())


@dataclass(frozen=True, kw_only=True)
class VersionFile:
    """One file of a version."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class VersionLineage:
    """How a version was made. notes: the remaining fields of the manifest."""

    command: str
    run_id: str
    data: Mapping[str, str]
    rating_count: int
    rating_ids: tuple[str, ...]
    metrics: Mapping[str, float]
    notes: Mapping[str, Any]

    @classmethod
    def of(cls, manifest: Mapping[str, Any], *, ratings: bool = True) -> VersionLineage:
        """The lineage of a manifest. ratings: whether to list the rating ids, or only their count."""
        notes = dict(manifest)
        ids = tuple(str(item) for item in notes.pop("ratings", ()))
        return cls(
            command=str(notes.pop("command", "")),
            run_id=str(notes.pop("run_id", "")),
            data={str(key): str(value) for key, value in dict(notes.pop("data", None) or {}).items()},
            rating_count=len(ids),
            rating_ids=ids if ratings else (),
            metrics=numbers(notes.pop("metrics", None)),
            notes=notes,
        )


@dataclass(frozen=True, kw_only=True)
class VersionDetails:
    """A version for callers: its manifest, its parent's name, and its latest evaluation."""

    digest: str
    name: str
    kind: str
    format: str
    parent: str
    parent_name: str
    created_at: datetime | None
    size_bytes: int
    files: tuple[VersionFile, ...]
    lineage: VersionLineage | None
    evidence: Mapping[str, Any] = field(default_factory=dict)


def numbers(values: Mapping[str, Any] | None) -> dict[str, float]:
    """The entries of a mapping that are numbers."""
    items = dict(values or {}).items()
    return {str(key): float(value) for key, value in items if isinstance(value, (int, float))}
