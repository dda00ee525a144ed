"""How long the catalog's calls on the request path take when it holds many images and ratings.

On a machine that does other work, a process that could run waits for a core. Linux counts that time
(`/proc/PID/schedstat`), for this thread and for PostgreSQL's side of the connection: each call is told with it and
without it.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import statistics
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.cluster.databases import database
from vouch.domains.criteria import load_domain
from vouch.storage.catalog import Catalog
from vouch.storage.catalog.database import Database
from vouch.types.image import ImageRecord
from vouch.types.rating import NewRating
from vouch.types.score import Score

CHUNK = 20_000
MOMENT = 1_767_225_600_000_000  # 2026-01-01 in microseconds, as the catalog keeps moments
VERSION = hashlib.sha256(b"a reward version").hexdigest()
RATERS = 20


def measure(name: str, images: int, ratings: int, calls: int) -> dict[str, Any]:
    """p50 and p95 in ms of each call, and those with the time in which it waited for a core (`all_p50`, `all_p95`).

    One caller asks, after a database was filled with so many rows. A call that asks nothing is told beside them and
    is no part of the worst.
    """
    with database(name) as url:
        Catalog(url).close()
        started = time.perf_counter()
        store = Database(url)
        _fill(store, images, ratings)
        filled_s = time.perf_counter() - started
        nothing = _timed(lambda: _ask_nothing(store), calls, _waited_ms(store))
        store.close()
        with Catalog(url) as catalog:
            waited_ms = _waited_ms(catalog._database)
            figures = {
                call: _timed(act, calls, waited_ms)
                for call, act in _request_path(catalog, images, random.Random(0)).items()
            }
    worst = {name: max(figure[name] for figure in figures.values()) for name in ("p95", "all_p95")}
    figures["nothing"] = nothing
    return {"images": images, "ratings": ratings, "fill_s": filled_s, "worst": worst, "calls": figures}


def _ask_nothing(store: Database) -> None:
    """What the machine and the connection cost by themselves: a call that reads no table."""
    with store.read() as connection:
        connection.execute(sa.select(1))


def _timed(act: Callable[[], object], calls: int, waited_ms: Callable[[], float]) -> dict[str, float]:
    act()
    whole, own = [], []
    for _ in range(calls):
        waited, started = waited_ms(), time.perf_counter()
        act()
        whole.append((time.perf_counter() - started) * 1000)
        # The two processes may wait at the same time, so that less than nothing could be left.
        own.append(max(0.0, whole[-1] - (waited_ms() - waited)))
    named = {"": own, "all_": whole}
    return {
        f"{name}{quantile}": value
        for name, took in named.items()
        for quantile, value in (
            ("p50", statistics.median(took)),
            ("p95", statistics.quantiles(took, n=20)[-1]),
        )
    }


def _waited_ms(store: Database) -> Callable[[], float]:
    """A clock of the time in which this thread, or a connection's process of PostgreSQL, could run and did not."""
    files = [Path("/proc/thread-self/schedstat").resolve()]
    if not store.is_sqlite:
        query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
        with store.read() as connection:
            files += [Path(f"/proc/{pid}/schedstat") for (pid,) in connection.exec_driver_sql(query)]
    return lambda: sum(int(file.read_text().split()[1]) for file in files) / 1e6


def _request_path(catalog: Catalog, images: int, rng: random.Random) -> dict[str, Callable[[], object]]:
    """What a call of a client or a rater waits for."""
    domain, fresh = load_domain("blood_cells"), itertools.count(images)

    def add() -> None:
        record = ImageRecord(**_image(next(fresh)))
        score = Score(image=record.digest, version=VERSION, overall=0.5, std=0.1, criteria={})
        catalog.images.add([record], [score], owner="client")

    def rate() -> None:
        rating = NewRating(
            request_id=uuid.uuid4().hex,
            image=digest(rng.randrange(images)),
            rater="ada",
            kind="human",
            verdict="plausible",
        )
        catalog.ratings.record(rating, domain)

    return {
        "images.add": add,
        "images.get": lambda: catalog.images.get(digest(rng.randrange(images))),
        "images.list of a request": lambda: catalog.images.list(
            owner="client", request_id=f"request-{rng.randrange(images)}"
        ),
        "images.list, a page": lambda: catalog.images.list(page_size=50),
        "images.scores": lambda: catalog.images.scores(digest(rng.randrange(images))),
        "ratings.record": rate,
        "ratings.list of an image": lambda: catalog.ratings.list(image=digest(rng.randrange(images))),
        "ratings.list, a page": lambda: catalog.ratings.list(page_size=50),
        "tokens.valid": catalog.tokens.valid,
        "serving.list": catalog.serving.list,
    }  # fmt: skip


def digest(number: int) -> str:
    return hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest() * 2


def _image(number: int) -> dict[str, Any]:
    return {
        "digest": digest(number), "media_type": "image/png", "width": 64, "height": 64, "size_bytes": 9000,
        "source": "generated", "prompt": "neutrophil", "label": "neutrophil", "seed": number, "sampler": "ddim",
        "steps": 20, "guidance": 3.0, "generator_version": VERSION, "request_id": f"request-{number}",
    }  # fmt: skip


def _fill(store: Database, images: int, ratings: int) -> None:
    """Rows by the drivers' own bulk paths: the catalog itself makes one image durable at a time."""
    for numbers in _chunks(images):
        with store.write() as connection:
            _write(connection, "images", ({**_image(n), "created_at": MOMENT} for n in numbers))
            _write(connection, "image_requests", (_owner(n) for n in numbers))
            _write(connection, "scores", (_score(n) for n in numbers))
    for numbers in _chunks(ratings):
        with store.write() as connection:
            _write(connection, "ratings", (_rating(n, images) for n in numbers))
    with store.write() as connection:
        connection.execute(sa.text("ANALYZE"))
    _settle(store)


def _settle(store: Database) -> None:
    """Bring what was filled in to the disk: a commit that is timed would wait for it."""
    with store.read() as connection:
        driver: Any = connection.connection.driver_connection
        if store.is_sqlite:
            connection.commit()
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        else:
            connection.exec_driver_sql("CHECKPOINT")


def _write(connection: sa.Connection, table: str, rows: Iterable[dict[str, Any]]) -> None:
    values = list(rows)
    columns = ", ".join(values[0])
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(values[0]))
        driver.executemany(
            f"INSERT INTO {table} ({columns}) VALUES ({marks})", [tuple(row.values()) for row in values]
        )
        return
    with driver.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
        for row in values:
            copy.write_row(tuple(row.values()))


def _owner(number: int) -> dict[str, Any]:
    return {"owner": "client", "request_id": f"request-{number}", "image": digest(number)}


def _score(number: int) -> dict[str, Any]:
    return {
        "image": digest(number), "version": VERSION, "overall": number % 100 / 100, "std": 0.1, "criteria": "{}",
        "created_at": MOMENT,
    }  # fmt: skip


def _rating(number: int, images: int) -> dict[str, Any]:
    return {
        "id": uuid.UUID(int=number).hex, "request_id": f"rating-{number}", "image": digest(number % images),
        "rater": f"rater-{number % RATERS}", "kind": "human", "domain": "blood_cells", "verdict": "plausible",
        "answers": "{}", "text": "", "duration_ms": 2000, "ui_version": "", "generator_version": VERSION,
        "created_at": MOMENT, "recorded_by": "",
    }  # fmt: skip


def _chunks(count: int) -> Iterator[range]:
    return (range(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK))
