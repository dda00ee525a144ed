"""Processes of a real system are killed: callers see nothing of what Serve replaces, and the rest ends the system."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from services.leftovers import FILE_NAME
from services.processes import marked
from tests.ray.conftest import Running, started, until
from vouch.client import Client, ScoreItem
from vouch.types.rating import NewRating

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

DRAWN = {"prompt": "monocyte", "seed": 7}


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Running]:
    with started(tmp_path_factory.mktemp("kills") / "state", models) as running:
        yield running


@pytest.fixture(scope="module")
def client(frail: Running) -> Iterator[Client]:
    with frail.client() as client:
        client.get_serving()
        yield client


def mark(system: Running) -> str:
    return str(json.loads((system.folder.root / FILE_NAME).read_text())["mark"])


def find(system: Running, words: str) -> psutil.Process:
    def fits(process: psutil.Process) -> bool:
        try:
            return words in " ".join(process.cmdline())
        except psutil.Error:  # it has just ended
            return False

    return next(filter(fits, marked(mark(system))))


@pytest.mark.parametrize("words", ["haproxy -db", "HAProxyManager", "ServeReplica:vouch:gateway"])
def test_callers_see_nothing_of_a_door_that_is_killed(frail: Running, client: Client, words: str) -> None:
    find(frail, words).kill()
    assert client.get_serving().slots  # at once, while there is nobody who answers
    assert len(client.generate_images(**DRAWN, count=2).images) == 2


def test_callers_see_nothing_of_a_generation_replica_that_is_killed(frail: Running, client: Client) -> None:
    events = client.stream_images("monocyte", count=24, steps=20)
    next(events)
    find(frail, "ServeReplica:vouch:generation").kill()
    indices = [event.index for event in events if hasattr(event, "digest")]
    assert sorted(indices) == list(range(24))


def test_callers_see_nothing_of_a_reward_replica_that_is_killed(frail: Running, client: Client) -> None:
    image = client.generate_images(**DRAWN).images[0]
    items = [ScoreItem(item_id=str(row), data=image.data, prompt="monocyte") for row in range(64)]
    results = client.score_stream(items, batch=4)
    next(results)
    find(frail, "ServeReplica:vouch:reward").kill()
    rest = list(results)
    assert len(rest) == len(items) - 1
    assert all(result.score is not None for result in rest)


def test_callers_see_nothing_of_a_gateway_that_is_killed_in_a_score_stream(
    frail: Running, client: Client
) -> None:
    image = client.generate_images(**DRAWN).images[0]
    items = [ScoreItem(item_id=str(row), data=image.data, prompt="monocyte") for row in range(64)]
    results = client.score_stream(items, batch=4)
    first = next(results)
    find(frail, "ServeReplica:vouch:gateway").kill()
    answered = [first, *results]
    assert sorted(int(result.item_id) for result in answered) == list(range(64))
    assert all(result.score is not None for result in answered)


def test_callers_see_nothing_of_a_gateway_that_is_killed_in_an_import(frail: Running, client: Client) -> None:
    image = client.generate_images(**DRAWN).images[0]

    def ratings() -> Iterator[NewRating]:
        for row in range(40):
            if row == 20:
                find(frail, "ServeReplica:vouch:gateway").kill()
            yield NewRating(
                request_id=f"import-{row}",
                image=image.digest,
                rater="ada",
                kind="simulated",
                verdict="unsure",
            )

    report = client.import_ratings(ratings(), batch=5)
    assert (report.recorded + report.already_recorded, report.failed) == (40, 0)
    assert len(list(client.list_ratings(image_digest=image.digest))) == 40


def test_a_system_whose_raylet_ends_says_so_and_leaves_nothing(frail: Running) -> None:
    name = mark(frail)
    find(frail, "raylet/raylet").kill()
    assert frail.process.wait(10) == 8
    until(lambda: not marked(name), 10)
    log = (frail.folder.root.parent / "system.log").read_text()
    assert "the raylet ended by itself" in log
    assert "Traceback" not in log
    assert any((frail.folder.root / "ray-logs").rglob("raylet.out"))
