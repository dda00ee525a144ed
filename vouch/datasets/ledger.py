"""The ledger of a filter run: every score in Parquet parts that appear whole, and the accepted images.

Order of writing makes an interruption harmless: an accepted image is on disk before the part that names it,
and a part is complete before its name appears. What is not named in a part is scored again and written over.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

from vouch.datasets.imagesets import METADATA
from vouch.errors import FailedPrecondition
from vouch.formats.images import digest
from vouch.formats.texts import escaped
from vouch.storage.atomic import storage_errors, write_whole
from vouch.storage.locks import take_lock

PART_ROWS = 2000
PART_SECONDS = 5.0
HISTOGRAM_BINS = 20
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 2000
"""Of one name, as every usual file system allows; of a path, well below what the kernel allows with the folder."""
EXAMPLES = 3
PLACE_TAKEN = "PLACE_TAKEN"
_IMAGES = Path("images")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One image of the ledger."""

    key: str
    digest: str
    """SHA-256 of the encoded image; "" if it could not be read."""
    prompt: str
    label: str
    status: str
    """accepted, rejected, failed (no score), or skipped (not read at all); `error` says why of the last two."""
    score: float | None
    score_std: float | None
    criterion_scores: Mapping[str, float] = field(default_factory=dict)
    reward_version: str = ""
    file: str = ""
    """Relative path of an accepted image, "" otherwise."""
    error: str = ""
    prompt_source: str = ""
    """own, given (it had none), overridden (the given one took its place), or "" without a prompt."""
    note: str = ""
    """What else is to be known: an image that uses a small part of its grey values."""
    warning: str = ""
    """What a person should look at: text that may be burned into a DICOM image."""


@dataclass
class Tally:
    """What a summary counts over the rows of the whole run."""

    histogram: list[int] = field(default_factory=lambda: [0] * HISTOGRAM_BINS)
    total: float = 0.0
    prompts: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, list[str]] = field(default_factory=dict)
    skipped_by: Counter[str] = field(default_factory=Counter)
    small_range: int = 0
    warned: Counter[str] = field(default_factory=Counter)

    def add(self, row: Mapping[str, Any]) -> None:
        if row["score"] is not None:
            self.total += row["score"]
            self.histogram[min(HISTOGRAM_BINS - 1, int(row["score"] * HISTOGRAM_BINS))] += 1
        self.prompts[row.get("prompt_source") or ""] += 1
        self.small_range += bool(row.get("note"))
        if warning := row.get("warning"):
            self.warned[warning] += 1
        if row["status"] == "skipped":
            self.skipped_by[row["error"]] += 1
            examples = self.skipped.setdefault(row["error"], [])
            if len(examples) < EXAMPLES:
                examples.append(row["key"])

    def as_json(self) -> dict[str, Any]:
        scored = sum(self.histogram)
        reasons = [
            {"reason": reason, "count": self.skipped_by[reason], "examples": examples}
            for reason, examples in self.skipped.items()
        ]
        return {
            "skipped_why": reasons,
            "prompts_filled": self.prompts["given"],
            "prompts_overridden": self.prompts["overridden"],
            "small_range": self.small_range,
            "warnings": dict(self.warned),
            "mean_score": self.total / scored if scored else None,
            "score_histogram": self.histogram,
        }


class Ledger:
    """Rows known and rows to be written. Thread-safe: images are read in one thread and scored in another."""

    @classmethod
    @contextlib.contextmanager
    def open(cls, out: Path) -> Iterator[Ledger]:
        """The ledger of the folder `out`, locked. Raises `FailedPrecondition` if it is in use or foreign."""
        if out.exists() and not out.is_dir():
            raise FailedPrecondition(f"{out} is a file. Give a folder for the accepted images.")
        if out.is_dir() and any(out.iterdir()) and not (out / ".filter").is_dir():
            raise FailedPrecondition(f"{out} is not empty and holds no filter run. Give a new folder.")
        with storage_errors(str(out)):
            (out / ".filter").mkdir(parents=True, exist_ok=True)
        with (out / ".filter" / "lock").open("w") as lock:
            try:
                take_lock(lock.fileno())
            except BlockingIOError as error:
                raise FailedPrecondition(
                    f"Another filter run is writing to {out}. Wait for it, or stop it."
                ) from error
            yield cls(out)

    def __init__(self, out: Path) -> None:
        self.out = out
        self._work = out / ".filter"
        self._lock = threading.Lock()
        self._pending: list[Row] = []
        self._keys: set[str] = set()
        self._files: set[str] = set()
        self._folders: set[Path] = set()
        self._counts: Counter[str] = Counter()
        self._flushed_at = time.monotonic()
        self._started_at = time.monotonic()
        self._new = 0
        self._settings = self._read_settings()
        for row in self._stored_rows():
            if self._is_whole(row):
                self._count(row["key"], row["status"])
                if row["file"]:
                    self._files.add(row["file"])

    def has(self, key: str) -> bool:
        """Whether the image of this key has its row."""
        return key in self._keys

    def counts(self) -> Counter[str]:
        """Images by status."""
        return self._counts

    def settings(self) -> dict[str, Any] | None:
        """What the run was begun with; None in a new folder."""
        return self._settings

    def reward_version(self) -> str:
        """Digest of the reward model of this run; "" before the first score."""
        return str((self._settings or {}).get("reward_version", ""))

    def write_settings(self, settings: dict[str, Any]) -> None:
        write_whole(self._work / "settings.json", _json(settings))
        self._settings = settings

    def pin(self, reward_version: str) -> None:
        """Binds the rest of the run, and of every resumed one, to this reward model."""
        self.write_settings({**(self._settings or {}), "reward_version": reward_version})

    def add(self, row: Row, data: bytes) -> None:
        """Keeps a row and, if accepted, its image. Durable with the next part."""
        if row.status == "accepted":
            row = self._store_image(row, data)
        with self._lock:
            self._pending.append(row)
            self._count(row.key, row.status)
            self._new += 1
            due = len(self._pending) >= PART_ROWS or time.monotonic() - self._flushed_at >= PART_SECONDS
        if due:
            self.flush()

    def flush(self) -> None:
        """Writes the pending rows as one part."""
        with self._lock:
            self._flushed_at = time.monotonic()
            if self._pending:
                _write_parquet(self._next_part(), [self._pending])
                self._pending = []

    def finish(self, settings: dict[str, Any], counts: dict[str, Any]) -> dict[str, Any]:
        """Joins the parts into one ledger, writes metadata and summary, and returns the summary.

        `found` is what else the summary says.
        """
        self.flush()
        seconds = time.monotonic() - self._started_at
        self._merge()
        tally = self._write_metadata()
        summary = self._summary({**settings, **counts}, tally, seconds)
        write_whole(self.out / "summary.json", _json(summary))
        return summary

    def _write_metadata(self) -> Tally:
        """One line for each accepted image, where `datasets` and `FolderSet` look."""
        tally = Tally()
        images = self.out / "images"
        temporary = images / ".metadata.jsonl.tmp"
        with storage_errors(str(images)):
            images.mkdir(exist_ok=True)
            with temporary.open("w", encoding="utf-8") as file:
                for row in self._stored_rows():
                    tally.add(row)
                    if row["status"] == "accepted":
                        file.write(_metadata_line(row))
            temporary.replace(images / METADATA)
        return tally

    def _summary(self, settings: dict[str, Any], tally: Tally, seconds: float) -> dict[str, Any]:
        images = sum(self._counts[status] for status in ("accepted", "rejected", "failed"))
        return {
            **settings,
            "reward_version": self.reward_version(),
            "seen": sum(self._counts.values()),
            "images": images,
            "accepted": self._counts["accepted"],
            "rejected": self._counts["rejected"],
            "failed": self._counts["failed"],
            "skipped": self._counts["skipped"],
            **tally.as_json(),
            "images_this_run": self._new,
            "seconds_this_run": round(seconds, 3),
            "images_per_s": round(self._new / seconds, 1) if self._new else None,
        }

    def _store_image(self, row: Row, data: bytes) -> Row:
        name = _IMAGES / _safe_path(row.key, data)
        other = _IMAGES / f"{digest(row.key.encode())}{name.suffix}"
        if name.as_posix() in self._files:  # two keys may mean one path: a.png and ../a.png
            name = other
        try:
            self._write_image(name, data)
        except FailedPrecondition as error:
            if error.reason != PLACE_TAKEN:
                raise
            name = other  # a key that is another's folder: a.png and a.png/b.png
            self._write_image(name, data)
        self._files.add(name.as_posix())
        return replace(row, file=name.as_posix())

    def _write_image(self, name: Path, data: bytes) -> None:
        file = self.out / name
        with storage_errors(str(file)):
            if file.parent not in self._folders:
                file.parent.mkdir(parents=True, exist_ok=True)
                self._folders.add(file.parent)
            _write_renamed(file, data)

    def _count(self, key: str, status: str) -> None:
        self._keys.add(key)
        self._counts[status] += 1

    def _is_whole(self, row: dict[str, Any]) -> bool:
        # Parts are synced and images are not: what a power cut took is made again.
        file = self.out / row["file"]
        return row["status"] != "accepted" or (file.is_file() and file.stat().st_size > 0)

    def _read_settings(self) -> dict[str, Any] | None:
        path = self._work / "settings.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else None

    def _parts(self) -> list[Path]:
        return sorted(self._work.glob("part-*.parquet"))

    def _next_part(self) -> Path:
        parts = self._parts()
        number = int(parts[-1].stem.partition("-")[2]) + 1 if parts else 1
        return self._work / f"part-{number:06d}.parquet"

    def _stored_rows(self) -> Iterator[dict[str, Any]]:
        """Every row on disk once, the joined ledger's first: a run may end between joining and tidying up."""
        import pyarrow.parquet as pq

        seen: set[str] = set()
        for path in [p for p in (self.out / "ledger.parquet",) if p.exists()] + self._parts():
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=4096):
                    for row in batch.to_pylist():
                        if row["key"] not in seen:
                            seen.add(row["key"])
                            yield row

    def _merge(self) -> None:
        if not self._parts():
            return
        rows = (
            Row(**{**row, "criterion_scores": dict(row["criterion_scores"])}) for row in self._stored_rows()
        )
        _write_parquet(self.out / "ledger.parquet", _chunks(rows, PART_ROWS))
        for part in self._parts():
            part.unlink()


def _metadata_line(row: dict[str, Any]) -> str:
    line = {
        "file_name": row["file"].partition("/")[2],
        **{key: row[key] for key in ("prompt", "score", "digest")},
    }
    return json.dumps(line, ensure_ascii=False) + "\n"


def _chunks(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    yield chunk


def _write_parquet(path: Path, chunks: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema()
    temporary = path.with_name(f".{path.name}.tmp")
    with storage_errors(str(path)):
        try:
            with pq.ParquetWriter(temporary, schema) as writer:
                for rows in chunks:
                    writer.write_table(pa.Table.from_pylist([_flat(row) for row in rows], schema=schema))
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _schema() -> Any:
    import pyarrow as pa

    special = {
        "score": pa.float64(),
        "score_std": pa.float64(),
        "criterion_scores": pa.map_(pa.string(), pa.float64()),
    }
    return pa.schema([(f.name, special.get(f.name, pa.string())) for f in fields(Row)])


def _flat(row: Row) -> dict[str, Any]:
    values = {f.name: getattr(row, f.name) for f in fields(row)}
    # Half a surrogate pair in one row would keep all rows of its part from being written.
    return {name: escaped(value) if isinstance(value, str) else value for name, value in values.items()}


def _safe_path(key: str, data: bytes) -> Path:
    """The key as a path that cannot leave the folder, with a suffix that says what the bytes are.

    A path that a file system would refuse as too long is named by the digest of the key.
    """
    parts = [part for part in PurePosixPath(key).parts if part not in ("/", "..", ".")]
    stem = Path(*parts) if parts else Path("image")
    if stem.suffix.lower() not in (*_SUFFIXES.values(), ".jpeg"):
        suffix = next((s for magic, s in _SUFFIXES.items() if data.startswith(magic)), ".img")
        stem = stem.with_name(stem.name + suffix)
    if len(os.fsencode(stem)) > MAX_PATH_BYTES or any(
        len(os.fsencode(p)) > MAX_NAME_BYTES for p in stem.parts
    ):
        return Path(digest(key.encode()) + stem.suffix.lower())
    return stem


_SUFFIXES = {
    b"\x89PNG": ".png",
    b"\xff\xd8": ".jpg",
    b"RIFF": ".webp",
    b"BM": ".bmp",
    b"II*\x00": ".tif",
    b"MM\x00*": ".tiff",
    b"GIF8": ".gif",
}


def _write_renamed(path: Path, data: bytes) -> None:
    # Whole, but not synced one by one: that would cost more than scoring. See the module's first paragraph.
    # The temporary name is short: that of the image may be as long as the file system allows.
    temporary = path.with_name(f".{digest(os.fsencode(path.name))[:16]}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
