"""Two generation replicas on one machine: the second comes with the queue, and both are filled by free slots."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict

from tests.ray.conftest import Running, apart, started, until
from vouch.client import Client
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

SLOTS = 4
GROWING = {"VOUCH_GENERATION__MAX_REPLICAS": "2", "VOUCH_GENERATION__MAX_BATCH": str(SLOTS)}
ASKED = {"prompt": "monocyte", "score": False}


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Running]:
    """One replica of four slots; two, once it has a queue."""
    with started(tmp_path_factory.mktemp("replicas") / "state", models, **GROWING) as running:
        yield running


@pytest.fixture(scope="module")
def client(growing: Running) -> Iterator[Client]:
    with growing.client() as client:
        yield client


@pytest.fixture(scope="module")
def two(growing: Running, client: Client) -> Running:
    """The system, grown to two replicas by images that waited."""
    grow(client)
    return growing


def grow(client: Client) -> None:
    """Ask for many more images than there are slots, until a second replica is there."""
    assert replicas(client) == 1
    deadline = time.monotonic() + 120
    with ThreadPoolExecutor(4) as pool:
        while replicas(client) < 2:
            assert time.monotonic() < deadline, "no second replica came"
            list(pool.map(lambda _: client.generate_images(**ASKED, count=16, steps=50), range(4)))


def replicas(client: Client) -> int:
    """Those that have told which version they serve."""
    return len(client.get_serving("generator").slots[0].replicas)


def drawn(system: Running) -> Counter[str]:
    """Images that each process has drawn since the system started, from the figures behind /metrics."""
    counts: Counter[str] = Counter()
    for file in system.folder.metrics.glob("histogram_*.db"):
        for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file)):
            if json.loads(key)[1] == "vouch_engine_wait_seconds_bucket":
                counts[file.stem] += int(value)
    return counts


def test_a_second_replica_comes_when_images_wait(two: Running, client: Client) -> None:
    assert replicas(client) == 2


def test_a_burst_goes_to_the_free_slots_of_both_and_every_image_is_right(
    two: Running, client: Client
) -> None:
    alone = [client.generate_images(**ASKED, seed=seed, steps=40).images[0] for seed in range(8)]
    before = drawn(two)
    with ThreadPoolExecutor(8) as pool:
        burst = list(
            pool.map(lambda s: client.generate_images(**ASKED, seed=s, steps=40).images[0], range(8))
        )
    for expected, image in zip(alone, burst, strict=True):
        assert image.seed == expected.seed
        assert apart(image.data, expected.data) <= 1
    shares = sorted((drawn(two) - before).values())
    assert len(shares) == 2
    assert sum(shares) == 8
    assert shares[0] >= 3  # four each, but for one that had ended when the last was sent


def test_beside_a_large_request_small_ones_go_to_the_other_replica(two: Running, client: Client) -> None:
    before = drawn(two)
    large = client.stream_images(**ASKED, count=4 * SLOTS, steps=200)
    next(large)
    for _ in range(6):
        client.generate_images(**ASKED, steps=2)
    assert not any((drawn(two) - before)[replica] > 6 for replica in drawn(two))  # it is still at work
    assert list(large)[-1].images == 4 * SLOTS
    assert sorted((drawn(two) - before).values()) == [6, 4 * SLOTS]


def test_a_swap_reaches_both(two: Running, client: Client, models: Path) -> None:
    with Catalog(two.folder.catalog_url) as catalog:
        version = Registry(catalog, two.folder.models).publish(
            models / "second", kind="generator", format="diffusers", name="generator-second"
        )
    rollout = client.start_rollout(version.digest, percent=100, force=True, reason="a test")
    last = list(client.watch_rollout(rollout.rollout_id))[-1]
    assert (last.state, last.replicas_converged, last.replicas_total) == ("COMPLETED", 2, 2)
    with ThreadPoolExecutor(8) as pool:
        burst = list(pool.map(lambda seed: client.generate_images(**ASKED, seed=seed), range(16)))
    assert {reply.generator_version for reply in burst} == {version.digest}


@pytest.mark.slow
def test_the_second_replica_goes_when_nothing_was_drawn_for_a_while(tmp_path: Path, models: Path) -> None:
    settings = {**GROWING, "VOUCH_GENERATION__IDLE_S": "5"}
    with started(tmp_path / "state", models, **settings) as system, system.client() as client:
        grow(client)
        # One that ends is known to be gone only when it has been quiet for long.
        until(lambda: replicas(client) == 1, 120)
        assert len(client.generate_images(**ASKED, count=8).images) == 8
