"""A disk without room, as the gateway of a running system meets it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.ray.conftest import Running
from vouch.errors import StorageFull

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the files of another process"),
]


@contextmanager
def no_room(system: Running, deployment: str) -> Iterator[None]:
    """No file of the deployment may grow beyond one byte: the kernel answers as it does on a full disk or quota."""
    children = psutil.Process(system.process.pid).children(recursive=True)
    replicas = [
        child for child in children if f"ServeReplica:vouch:{deployment}" in " ".join(child.cmdline())
    ]
    assert replicas
    limits = [replica.rlimit(psutil.RLIMIT_FSIZE) for replica in replicas]
    for replica, (_, hard) in zip(replicas, limits, strict=True):
        replica.rlimit(psutil.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        for replica, limit in zip(replicas, limits, strict=True):
            replica.rlimit(psutil.RLIMIT_FSIZE, limit)


def test_a_full_disk_is_named_and_the_same_request_succeeds_when_there_is_room_again(system, client):
    known = client.generate_images("monocyte", seed=901, steps=1).images[0]
    with no_room(system, "gateway"), pytest.raises(StorageFull, match=r"disk is full.*Free some space"):
        client.generate_images("monocyte", seed=902, steps=1, request_id="no room")
    assert client.get_image(known.digest).data == known.data
    again = client.generate_images("monocyte", seed=902, steps=1, request_id="no room").images[0]
    assert client.get_image(again.digest).data == again.data
