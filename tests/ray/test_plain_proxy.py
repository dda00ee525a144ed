"""A system behind Ray Serve's own proxy, in the place of HAProxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray.conftest import Running, started, until
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("plain") / "state"
    with started(state, models, VOUCH_SERVER__PROXY="plain") as running:
        yield running


def test_images_are_drawn_streamed_and_scored(plain: Running) -> None:
    with plain.client() as client:
        assert client.generate_images("neutrophil", steps=1).images[0].score is not None
        streamed = list(client.stream_images("neutrophil", count=2, steps=1))
    assert len([event for event in streamed if hasattr(event, "data")]) == 2


def test_a_pinned_version_serves_whoever_asks_for_it_in_the_middle_of_a_rollout(
    plain: Running, models: Path
) -> None:
    with Catalog(plain.folder.catalog_url) as catalog:
        registry = Registry(catalog, plain.folder.models)
        registry.publish(models / "second", kind="generator", format="diffusers", name="generator-second")
    with plain.client() as client:
        client.start_rollout("generator-second", percent=50, force=True, reason="a test")
        until(lambda: client.get_serving("generator").slots[0].converged)
        asked = [
            client.generate_images("neutrophil", seed=seed, steps=1, score=False, version=name)
            for name in ("generator-first", "generator-second")
            for seed in range(4)
        ]
        first, second = (client.get_version(f"generator-{name}").digest for name in ("first", "second"))
    assert [reply.generator_version for reply in asked] == [first] * 4 + [second] * 4
