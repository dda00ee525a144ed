"""Drawn images and a PostgreSQL that is stopped: their records wait, are found again, and reach the catalog."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cluster.databases import postgres
from services.gateway.earlier import EarlierImages
from services.gateway.filing import Filing
from tests.unit.test_outbox import unfiled
from vouch.errors import AlreadyExists, Unavailable
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.outbox import Outbox, Unfiled
from vouch.storage.registry import Registry
from vouch.types.generation import GenerationRequest

NEVER_S = 1e6
DATA = b"cells"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with tempfile.TemporaryDirectory(prefix="vouch-filing-") as folder:
        Path(folder).chmod(0o755)  # a server that root starts becomes another user
        with postgres(Path(folder)) as server:
            yield server


@contextmanager
def away(server: Any) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


class Stores:
    """A catalog in this server, and everything else in a folder."""

    def __init__(self, server: Any, folder: Path) -> None:
        self.catalog = Catalog(server.get_uri())
        self.blobs, self.outbox = BlobStore(folder / "blobs"), Outbox(BlobStore(folder / "outbox"))
        self.filing = Filing(self.catalog, self.outbox, every_s=NEVER_S)
        registry = Registry(self.catalog, folder / "models")
        self.earlier = EarlierImages(self.catalog, self.blobs, registry, self.outbox)


@pytest.fixture
def stores(server: Any, tmp_path: Path) -> Iterator[Stores]:
    stores = Stores(server, tmp_path)
    with stores.catalog:
        yield stores


def drawn(stores: Stores, request_id: str, seed: int) -> Unfiled:
    """An image whose bytes are stored, and its record."""
    digest = stores.blobs.put(DATA + request_id.encode())
    images = unfiled(request_id, seed)
    return replace(
        images,
        records=tuple(replace(one, digest=digest) for one in images.records),
        scores=tuple(replace(one, image=digest) for one in images.scores),
    )


def asked(request_id: str, seed: int, **more: Any) -> GenerationRequest:
    return GenerationRequest(
        request_id=request_id, prompt="monocyte", seeds=(seed,), steps=4, guidance=2.0, owner="ada", **more
    )


def test_an_image_that_the_catalog_cannot_take_waits_and_is_filed_when_it_answers(server, stores):
    images = drawn(stores, "waits", 11)
    with away(server):
        stores.filing.add(images.records, images.scores, "ada")
        with pytest.raises(Unavailable):
            stores.filing.file()
    assert stores.filing.file() == 1
    (record,) = stores.catalog.images.list(owner="ada", request_id="waits").items
    assert record == images.records[0]
    assert stores.catalog.images.scores(record.digest) == images.scores
    assert stores.filing.file() == 0


def test_a_repeat_gets_the_image_that_waits_before_and_after_it_is_filed(server, stores):
    images = drawn(stores, "repeated", 12)
    with away(server):
        stores.filing.add(images.records, images.scores, "ada")
        _, meanwhile = stores.earlier.resume(asked("repeated", 12))
    _, unfiled_yet = stores.earlier.resume(asked("repeated", 12))
    stores.filing.file()
    _, filed = stores.earlier.resume(asked("repeated", 12))
    for found in (meanwhile, unfiled_yet, filed):
        assert [(one.digest, one.score) for one in found] == [(images.records[0].digest, 0.5)]


def test_a_request_has_one_image_for_each_seed_though_two_tries_drew_it_differently(stores):
    """As when a client repeats a call whose first try is still drawing, beside other images in its batch."""
    drawings = ((16, b"first", "a"), (16, b"a grey level", "a"), (16, b"newer", "b"), (17, b"other", "a"))
    tries = [
        replace(unfiled("raced", seed).records[0], digest=stores.blobs.put(data), generator_version=version)
        for seed, data, version in drawings
    ]
    for record in tries:
        stores.filing.add((record,), (), "ada")
    request, images = stores.earlier.resume(replace(asked("raced", 16), seeds=(16, 17)))
    assert {(image.index, image.digest) for image in images} == {(0, tries[0].digest), (1, tries[3].digest)}
    assert request.version == "a"


def test_a_request_id_that_waits_is_not_taken_for_other_images(server, stores):
    images = drawn(stores, "taken", 13)
    with away(server):
        stores.filing.add(images.records, images.scores, "ada")
        with pytest.raises(AlreadyExists, match="already used"):
            stores.earlier.resume(asked("taken", 13, sampler="heun"))
    stores.filing.file()


def test_a_named_version_cannot_be_looked_up_without_the_catalog(server, stores):
    with away(server), pytest.raises(Unavailable):
        stores.earlier.resume(asked("named", 14, version="generator@1"))


def test_a_request_that_names_no_version_is_drawn_without_the_catalog(server, stores):
    with away(server):
        assert stores.earlier.resume(asked("new", 15)) == (asked("new", 15), [])
