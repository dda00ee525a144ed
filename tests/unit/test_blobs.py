import hashlib
import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.test_atomic import SMALL_FILES
from vouch.errors import DataLoss, FailedPrecondition, InvalidInput, NotFound, StorageFull, Unavailable
from vouch.storage.blobs import BlobStore
from vouch.storage.objects import object_path


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request, tmp_path):
    if request.param == "s3":
        return BlobStore(f"{request.getfixturevalue('bucket')}/blobs")
    return BlobStore(
        tmp_path / "blobs" if request.param == "folder" else f"memory://{uuid.uuid4().hex}/blobs"
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(data=st.binary(max_size=10_000))
def test_what_is_put_comes_back_under_its_sha256(store, data):
    digest = store.put(data)

    assert digest == hashlib.sha256(data).hexdigest()
    assert store.exists(digest)
    assert store.get(digest) == data


def test_a_blob_lies_under_the_first_two_digits_and_nothing_beside_it(tmp_path):
    digest = BlobStore(tmp_path).put(b"cell")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [
        f"{digest[:2]}/{digest[2:]}"
    ]


def test_the_same_bytes_are_stored_once(tmp_path):
    store = BlobStore(tmp_path)
    digest = store.put(b"cell")
    before = (tmp_path / digest[:2] / digest[2:]).stat().st_ino

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(store.put, [b"cell"] * 32)) == {digest}
    assert (tmp_path / digest[:2] / digest[2:]).stat().st_ino == before


def test_an_unknown_digest_is_not_found(store):
    assert not store.exists("0" * 64)
    with pytest.raises(NotFound, match="0000"):
        store.get("0" * 64)


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 65])
def test_what_is_no_digest_is_refused_before_any_path_is_made(store, digest):
    with pytest.raises(InvalidInput, match="not a digest"):
        store.get(digest)


@pytest.mark.parametrize("damage", [b"", b"Cell", b"cell and more"])
def test_a_damaged_blob_is_never_returned_and_a_changed_size_is_repaired_by_putting_it_again(
    tmp_path, damage
):
    store = BlobStore(tmp_path)
    digest = store.put(b"cell")
    (tmp_path / digest[:2] / digest[2:]).write_bytes(damage)

    with pytest.raises(DataLoss, match=digest):
        store.get(digest)
    if len(damage) != len(b"cell"):
        store.put(b"cell")
        assert store.get(digest) == b"cell"


def test_a_damaged_blob_of_an_object_store_is_never_returned_and_is_repaired(bucket):
    store = BlobStore(f"{bucket}/blobs")
    digest = store.put(b"cell")
    object_path(f"{bucket}/blobs/{digest[:2]}/{digest[2:]}").write_bytes(b"cell and more")

    with pytest.raises(DataLoss, match=digest):
        store.get(digest)
    store.put(b"cell")
    assert store.get(digest) == b"cell"


def test_an_object_store_that_does_not_answer_is_unavailable(bucket, monkeypatch):
    store = BlobStore(
        f"{bucket}/blobs",
        config_kwargs={"retries": {"total_max_attempts": 1}},
        endpoint_url="http://127.0.0.1:1",
    )
    with pytest.raises(Unavailable, match="AWS_ENDPOINT_URL"):
        store.put(b"cell")
    with pytest.raises(Unavailable, match="AWS_ENDPOINT_URL"):
        store.get("0" * 64)


@pytest.mark.skipif(find_spec("gcsfs") is not None, reason="gcsfs is installed here")
def test_a_store_whose_client_is_not_installed_says_which_package_is_missing():
    with pytest.raises(FailedPrecondition, match="gcsfs"):
        BlobStore("gs://bucket/blobs")


def test_a_blob_that_does_not_fit_is_refused_and_leaves_nothing(tmp_path):
    script = f"""{SMALL_FILES}
from vouch.storage.blobs import BlobStore
from vouch.errors import StorageFull
store = BlobStore({str(tmp_path)!r})
small = store.put(b"cell")
try:
    store.put(bytes(100_000))
except StorageFull as error:
    print(error.reason, store.get(small))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "STORAGE_FULL b'cell'\n"
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 KiB, where the user may mount one."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting a tiny file system needs root: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_truly_full_disk_is_said_to_be_full_and_what_was_stored_stays(tiny_disk):
    store = BlobStore(tiny_disk)
    kept = [store.put(os.urandom(8_000)) for _ in range(3)]
    with pytest.raises(StorageFull, match="Free some space"):
        for _ in range(20):
            kept.append(store.put(os.urandom(8_000)))

    assert all(len(store.get(digest)) == 8_000 for digest in kept)
    assert sum(path.is_file() for path in tiny_disk.rglob("*")) == len(kept)


def test_a_place_that_may_not_be_written_is_refused(tmp_path):
    (tmp_path / "blobs").write_text("a file")
    with pytest.raises(FailedPrecondition, match="in the way"):
        BlobStore(tmp_path / "blobs").put(b"cell")


def test_the_name_of_a_new_folder_is_on_the_disk_before_a_blob_is_acknowledged(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("vouch.storage.blobs.sync", lambda path: synced.append(path))
    blobs = BlobStore(tmp_path / "blobs")
    digest = blobs.put(b"one")
    blobs.put(b"one")
    assert synced == [tmp_path / "blobs"]
    assert (tmp_path / "blobs" / digest[:2]).is_dir()
