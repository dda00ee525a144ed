"""Images that wait for the catalog: durable, found by their own process, filed once whoever files them."""

from __future__ import annotations

import uuid

import pytest

from vouch.storage.blobs import BlobStore
from vouch.storage.outbox import Outbox, Unfiled
from vouch.types.image import ImageRecord
from vouch.types.score import Score


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request, tmp_path):
    if request.param == "s3":
        return BlobStore(f"{request.getfixturevalue('bucket')}/outbox")
    return BlobStore(
        tmp_path / "outbox" if request.param == "folder" else f"memory://{uuid.uuid4().hex}/outbox"
    )


def unfiled(request_id: str, seed: int = 1) -> Unfiled:
    digest = f"{seed:064x}"
    record = ImageRecord(
        digest=digest, media_type="image/png", width=64, height=64, size_bytes=9, source="generated",
        prompt="monocyte", seed=seed, sampler="ddim", steps=4, guidance=2.0, request_id=request_id,
    )  # fmt: skip
    score = Score(image=digest, version="f" * 64, overall=0.5, std=0.1, criteria={"cell_size": 0.9})
    return Unfiled(owner="ada", records=(record,), scores=(score,))


def test_what_waits_is_found_by_its_request_and_its_owner(store):
    outbox, images = Outbox(store), unfiled("first")
    outbox.put(images)
    outbox.put(unfiled("second", seed=2))
    assert outbox.find("ada", "first") == [images]
    assert outbox.find("bob", "first") == []


def test_another_process_files_what_one_that_ended_has_left(store):
    images, taken = unfiled("first"), []
    Outbox(store).put(images)
    assert Outbox(store).file(taken.append) == 1
    assert taken == [images]
    assert Outbox(store).file(taken.append) == 0


def test_what_is_filed_waits_no_more(store):
    outbox = Outbox(store)
    outbox.put(unfiled("first"))
    outbox.file(lambda _: None)
    assert outbox.find("ada", "first") == []


def test_what_is_not_taken_waits_on(store):
    outbox, images = Outbox(store), unfiled("first")
    outbox.put(images)

    def refuse(_: Unfiled) -> None:
        raise RuntimeError("away")

    with pytest.raises(RuntimeError, match="away"):
        outbox.file(refuse)
    assert outbox.find("ada", "first") == [images]
    taken = []
    assert outbox.file(taken.append) == 1
    assert taken == [images]


def test_a_damaged_entry_keeps_no_other_waiting(tmp_path):
    outbox, taken, whole = Outbox(BlobStore(tmp_path)), [], unfiled("second", seed=2)
    outbox.put(unfiled("first"))
    (only,) = tmp_path.glob("*/*")
    only.write_bytes(b"damaged")
    outbox.put(whole)
    assert outbox.file(taken.append) == 1
    assert taken == [whole]
    assert only.exists()
