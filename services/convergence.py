"""Replicas converge on the desired state of their slot in the catalog.

A background thread polls, wakes on a broadcast, loads and warms versions in the background, and swaps one reference to
an immutable routing table. Requests in flight keep the table that they started with. If a version fails to load, the
replica reports the reason and keeps serving with the old table. No Ray and no torch here.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from vouch.errors import Cancelled, DeadlineExceeded, Exhausted, FailedPrecondition, Unavailable
from vouch.types.clock import now
from vouch.types.serving import ReplicaReport, Serving

M = TypeVar("M")

BACKGROUND_NICENESS = 10
TEMPORARY = (Unavailable, Exhausted, DeadlineExceeded, Cancelled, MemoryError, OSError)
"""Errors after which a version may load at the next attempt, with the same files."""


@dataclass(frozen=True)
class Loaded(Generic[M]):
    """A version in memory, with its digest for the replies."""

    digest: str
    model: M


@dataclass(frozen=True)
class Routes(Generic[M]):
    """The routing table: which version serves which requests. Immutable; a new table replaces it."""

    revision: int
    champion: Loaded[M]
    candidate: Loaded[M] | None = None
    percent: int = 0
    sticky: bool = False

    def choose(self, request_id: str, client: str = "") -> Loaded[M]:
        """The candidate for `percent` of request ids (of clients if sticky), stable per id."""
        key = client if self.sticky and client else request_id
        if self.candidate is not None and bucket(key) < self.percent:
            return self.candidate
        return self.champion


def bucket(request_id: str) -> int:
    """0..99, uniform, the same in every process."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:8], "big") % 100


class Convergence(Generic[M]):
    """Keeps `routes` at the desired state of the catalog.

    desired: reads the slot's desired state. load: digest -> a warmed-up model; raises VouchError with the reason.
    report: records what this replica serves. keep: versions held in memory beside those in the table, so that a
    roll-back or a swap to and fro loads nothing.
    """

    def __init__(
        self,
        *,
        slot: str,
        replica: str,
        desired: Callable[[], Serving],
        load: Callable[[str], M],
        report: Callable[[ReplicaReport], None],
        poll_s: float = 0.5,
        retry_s: float = 30.0,
        heartbeat_s: float = 10.0,
        keep: int = 2,
        on_swap: Callable[[Routes[M]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slot, self._replica = slot, replica
        self._desired, self._load, self._report = desired, load, report
        self._poll_s, self._retry_s, self._heartbeat_s, self._keep = poll_s, retry_s, heartbeat_s, keep
        self._on_swap = on_swap
        self._clock, self._sent_at = clock, 0.0  # monotonic: the day's time may be set, forward or back
        self._routes: Routes[M] | None = None
        self._cache: OrderedDict[str, Loaded[M]] = OrderedDict()
        self._cache_lock = threading.Lock()  # held for moments
        self._loading = threading.Lock()  # held while a version loads
        self._loader = ThreadPoolExecutor(1, f"load-{slot}", initializer=lower_priority)
        self._last: ReplicaReport | None = None
        self._notified = threading.Event()
        self._stop = threading.Event()
        self._refused: tuple[int, float] = (0, 0.0)
        self._failure: Exception | None = None
        self._previous = ""  # stays in memory, so that a roll-back loads nothing
        self._thread: threading.Thread | None = None

    # ---- what requests use

    @property
    def routes(self) -> Routes[M]:
        """The current table.

        Raises Unavailable before the first version is loaded; FailedPrecondition when none loads and trying again
        cannot help.
        """
        if self._routes is not None:
            return self._routes
        if self._failure is None:
            raise Unavailable(f"the {self._slot} is still loading its first version; try again in a moment")
        sentence = f"the {self._slot} has no version that loads: {self._failure}"
        if isinstance(self._failure, TEMPORARY):
            raise Unavailable(sentence)
        raise FailedPrecondition(sentence, "NO_MODEL")

    @property
    def ready(self) -> bool:
        return self._routes is not None

    def version(self, digest: str) -> Loaded[M]:
        """Any version by digest, loaded now if it is not in memory. Slow: call it from a worker thread.

        Raises NotFound and CorruptVersion as the registry does.
        """
        for loaded in self._in_table():
            if loaded.digest == digest:
                return loaded
        return self._cached(digest) or self._loader.submit(self._fetch, digest).result()

    def notify(self) -> None:
        """Poll the desired state now, also one that failed before."""
        self._refused = (0, 0.0)
        self._notified.set()

    # ---- the background

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=f"converge-{self._slot}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._notified.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        lower_priority()
        while not self._stop.is_set():
            self.converge()
            self._notified.wait(self._poll_s)
            self._notified.clear()

    def converge(self) -> bool:
        """One poll: load and swap if the desired state is new. True when the table changed. Never raises."""
        try:
            desired = self._desired()
        except Exception as error:  # noqa: BLE001 - a busy catalog: what serves now serves on, the next poll asks again
            _log(f"{self._slot}: the desired state cannot be read: {error}")
            return False
        if not self._is_new(desired):
            self._beat()
            return False
        return self._adopt(desired)

    def _is_new(self, desired: Serving) -> bool:
        if self._routes is not None and self._routes.revision == desired.revision:
            return False
        revision, since = self._refused
        return revision != desired.revision or time.monotonic() - since > self._retry_s

    def _adopt(self, desired: Serving) -> bool:
        try:
            routes = self._table(desired)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the new version, the old table serves on
            self._refused, self._failure = (desired.revision, time.monotonic()), error
            changed = self._routes is None and self._fall_back(desired)
            # What may pass is no verdict on the desired state: the report stays one of the state that serves.
            passing = isinstance(error, TEMPORARY)
            revision = self._revision if passing else desired.revision
            self._tell(revision, ok=False, reason=str(error) or type(error).__name__)
            return changed
        self._swap(routes)
        self._tell(desired.revision, ok=True)
        return True

    @property
    def _revision(self) -> int:
        """Of the state that serves; 0 before the first."""
        return self._routes.revision if self._routes is not None else 0

    def _fall_back(self, desired: Serving) -> bool:
        """A new replica has no old table: serve the champion alone, or else the previous champion."""
        champion = desired.champion if desired.candidate else ""  # alone it has just been tried
        for digest in filter(None, (champion, desired.previous)):
            try:
                loaded = self._fetch(digest)
            except Exception as error:  # noqa: BLE001 - the reason that counts is the desired state's, told above
                _log(f"{self._slot}: {digest[:12]} cannot stand in: {error}")
                continue
            self._swap(Routes(0, loaded))
            return True
        return False

    def _swap(self, routes: Routes[M]) -> None:
        self._routes = routes
        if self._on_swap is not None:
            self._on_swap(routes)

    def _table(self, desired: Serving) -> Routes[M]:
        champion = self._fetch(desired.champion)
        candidate = self._fetch(desired.candidate) if desired.candidate else None
        self._previous = desired.previous
        return Routes(desired.revision, champion, candidate, desired.percent, desired.sticky)

    def _fetch(self, digest: str) -> Loaded[M]:
        """From memory at once, whatever is being loaded: a roll-back must not wait behind a pinned version."""
        loaded = self._cached(digest)
        if loaded is not None:
            return loaded
        with self._loading:
            loaded = self._cached(digest)  # loaded by another thread while this one waited
            if loaded is None:
                with quick_hand_over():
                    loaded = Loaded(digest, self._load(digest))
                self._remember(loaded)
            return loaded

    def _cached(self, digest: str) -> Loaded[M] | None:
        with self._cache_lock:
            if digest in self._cache:
                self._cache.move_to_end(digest)
            return self._cache.get(digest)

    def _remember(self, loaded: Loaded[M]) -> None:
        with self._cache_lock:
            self._cache[loaded.digest] = loaded
            self._trim()

    def _in_table(self) -> list[Loaded[M]]:
        routes = self._routes
        return [loaded for loaded in (routes.champion, routes.candidate) if loaded] if routes else []

    def _trim(self) -> None:
        """Evict the least recently used versions; one that serves a request is freed when that ends.

        Called with the cache's lock held.
        """
        serving = {loaded.digest for loaded in self._in_table()} | {self._previous}
        spare = [digest for digest in self._cache if digest not in serving]
        for digest in spare[: max(0, len(spare) - self._keep)]:
            self._cache.pop(digest, None)

    def _tell(self, revision: int, *, ok: bool, reason: str = "") -> None:
        digests = [loaded.digest for loaded in self._in_table()] + ["", ""]
        self._last = ReplicaReport(
            slot=self._slot, replica_id=self._replica, revision=revision, ok=ok, reason=reason,
            champion_version=digests[0], candidate_version=digests[1],
        )  # fmt: skip
        self._send(self._last)

    def _beat(self) -> None:
        """Repeat the last report, so that a dead replica can be distinguished from an idle one."""
        if self._last and self._clock() - self._sent_at > self._heartbeat_s:
            self._last = replace(self._last, reported_at=now())
            self._send(self._last)

    def _send(self, report: ReplicaReport) -> None:
        self._sent_at = self._clock()
        try:
            self._report(report)
        except Exception as error:  # noqa: BLE001 - the swap stands, even when nobody could write it down
            _log(f"{self._slot}: the report could not be recorded: {error}")


def _log(line: str) -> None:
    logging.getLogger("vouch.convergence").warning(line)


def lower_priority() -> None:
    """Give this thread the lowest priority. On Linux niceness is per thread."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        niceness = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, max(niceness, BACKGROUND_NICENESS))


@contextmanager
def quick_hand_over() -> Iterator[None]:
    """While a version loads, serving threads get the GIL within 0.5 ms instead of 5 ms."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
