"""The catalog's PostgreSQL is stopped for a while: what is drawn, what is refused, and what is lost?"""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vouch
from benchmarks.cluster.databases import postgres
from benchmarks.faults.live import PROMPTS, STEPS, rate, system
from benchmarks.field_faults import Up
from benchmarks.report import Figure, Report
from vouch.client import Client
from vouch.errors import NotFound, VouchError
from vouch.storage.catalog import Catalog


@dataclass(frozen=True)
class _Outage:
    """rated: whether each rating was acknowledged. drawn: images, meanwhile; filed: those in the catalog after it."""

    rated: dict[str, bool]
    drawn: int
    asked: int
    filed: int
    back_s: float


def gone(report: Report, seconds: float) -> None:
    """PostgreSQL is stopped for a while: images are drawn, ratings refused, none is lost: `lost_ratings`."""
    with tempfile.TemporaryDirectory(prefix="vouch-live-") as folder:
        Path(folder).chmod(0o755)  # a server that root starts becomes another user
        with postgres(Path(folder)) as server, system(VOUCH_CATALOG_URL=server.get_uri()) as up:
            seen = _without_catalog(up, server, seconds)
            with Catalog(server.get_uri()) as catalog:
                stored = {one.request_id for one in catalog.ratings.iterate()}
    acknowledged = {request for request, taken in seen.rated.items() if taken}
    unit = f"of {len(acknowledged)} acknowledged, {len(seen.rated) - len(acknowledged)} refused"
    report.add("lost_ratings", Figure(len(acknowledged - stored), unit=unit, must="<= 0", aim="<= 0"))
    report.add(
        "drawn_without_catalog",
        Figure(seen.drawn, unit=f"of {seen.asked} calls in {seconds:.0f} s", must=">= 1"),
    )
    lost = seen.drawn - seen.filed
    report.add(
        "drawn_and_not_filed", Figure(lost, unit=f"of {seen.drawn}, 30 s after it is back", must="<= 0")
    )
    report.add("recovery_s, catalog", Figure(seen.back_s, unit="s until a rating is taken", must="<= 10"))


def _without_catalog(up: Up, server: Any, seconds: float) -> _Outage:
    rated, drawn = {}, list[str]()
    with vouch.connect(state=up.state, timeout_s=5.0) as client:
        image = client.generate_images(PROMPTS[0], steps=STEPS).images[0].digest
        for number in range(20):
            rated[f"before-{number}"] = rate(client, image, f"before-{number}")
        server.stop()
        stopped, asked = time.monotonic(), 0
        while time.monotonic() < stopped + seconds:
            drawn += _draws(client, asked)
            rated[f"gone-{asked}"] = rate(client, image, f"gone-{asked}")
            asked += 1
        server.start()
        started = time.monotonic()
        while not rate(client, image, "after"):
            if time.monotonic() - started > 120:
                raise RuntimeError("no rating is taken after the database came back")
        rated["after"], back_s = True, time.monotonic() - started
        filed = sum(_is_filed(client, digest, started + 30) for digest in drawn)
        return _Outage(rated, len(drawn), asked, filed, back_s)


def _draws(client: Client, seed: int) -> list[str]:
    """The digest of an image, if it is drawn."""
    try:
        answer = client.generate_images(PROMPTS[0], seed=seed, steps=STEPS, timeout_s=10.0)
        return [one.digest for one in answer.images]
    except VouchError as error:
        print("not drawn:", type(error).__name__, str(error)[:160])
        return []


def _is_filed(client: Client, digest: str, deadline: float) -> bool:
    """Whether the catalog names it before the deadline."""
    while time.monotonic() < deadline:
        with suppress(NotFound):
            return bool(client.get_image(digest).data)
        time.sleep(0.1)
    return False
