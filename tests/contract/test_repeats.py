"""A call that the system lost is made again, for as long as the system may come back, and for no other reason."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

import vouch
from tests.edged_server import EdgedServer
from vouch.client import AsyncClient, Client, GeneratedImage, GenerationSummary, RealImage, ScoreItem
from vouch.client.endpoint import Endpoint, find
from vouch.client.retries import Retries, is_transient
from vouch.errors import InvalidInput, Unavailable
from vouch.grpc_status import STATUS_KEY, status_of
from vouch.pb.v1 import generation_pb2
from vouch.storage.state import StateFolder
from vouch.testing import REWARD, flat_png
from vouch.types.rating import NewRating

MORE_THAN_GRPC_REPEATS = 5
PREFACE_BYTES = 24
SETTINGS, SETTINGS_ACK = b"\0\0\0\x04\0\0\0\0\0", b"\0\0\0\x04\x01\0\0\0\0"
STATUS_500 = b"\0\0\x01\x01\x05\0\0\0\x01\x8e"
"""A frame of HTTP/2: the headers of stream 1, which end it, with `:status: 500` from the static table."""


@pytest.fixture
def client(system: EdgedServer) -> Iterator[Client]:
    with vouch.connect(state=system.state) as connected:
        connected.describe_generator()  # the system has answered: it may come back
        yield connected


def test_a_call_that_the_system_loses_again_and_again_succeeds(client: Client, system: EdgedServer) -> None:
    system.losses = MORE_THAN_GRPC_REPEATS
    assert client.generate_images("neutrophil", seed=7).images[0].data == flat_png(7)
    assert system.losses == 0


def test_a_stream_that_breaks_off_goes_on_with_what_is_missing(client: Client, system: EdgedServer) -> None:
    system.losses = MORE_THAN_GRPC_REPEATS
    events = list(client.stream_images("platelet", count=4, seed=1))
    images = [event for event in events if isinstance(event, GeneratedImage)]
    assert [image.index for image in images] == [0, 1, 2, 3]
    assert isinstance(events[-1], GenerationSummary)
    assert system.losses == 0


def items_of(count: int) -> Iterator[ScoreItem]:
    return (ScoreItem(item_id=str(row), data=flat_png(row), prompt="neutrophil") for row in range(count))


def test_a_score_stream_that_breaks_off_goes_on_with_what_has_no_answer(
    client: Client, system: EdgedServer
) -> None:
    system.losses = MORE_THAN_GRPC_REPEATS
    results = list(client.score_stream(items_of(40), batch=3))
    assert sorted(int(result.item_id) for result in results) == list(range(40))
    assert all(result.score is not None for result in results)
    assert system.losses == 0


def test_a_score_stream_stays_with_the_version_that_it_began_with(
    client: Client, system: EdgedServer
) -> None:
    system.losses = 2
    assert len(list(client.score_stream(items_of(20), batch=3))) == 20
    assert system.stream_versions == ["", REWARD, REWARD]


def test_items_that_are_read_late_are_not_lost_with_the_try_that_asked_for_them(
    client: Client, system: EdgedServer
) -> None:
    lost = threading.Event()

    def items() -> Iterator[ScoreItem]:
        yield from items_of(1)
        assert lost.wait(60)  # the first try has failed while it waits here
        yield from (
            ScoreItem(item_id=f"late-{row}", data=flat_png(row), prompt="neutrophil") for row in range(5)
        )

    system.losses = 1
    results = []
    for result in client.score_stream(items(), batch=1):
        results.append(result.item_id)
        threading.Timer(0.5, lost.set).start()
    assert sorted(results) == ["0", *(f"late-{row}" for row in range(5))]


def test_two_items_of_one_name_have_two_results(client: Client, system: EdgedServer) -> None:
    system.losses = 2
    twice = [ScoreItem(item_id="same", data=flat_png(row), prompt="neutrophil") for row in range(4)]
    assert len(list(client.score_stream(twice, batch=1))) == 4


def rating_of(digest: str, request_id: str) -> NewRating:
    return NewRating(request_id=request_id, image=digest, rater="dr-a", kind="human", verdict="plausible")


def test_an_import_of_ratings_that_the_system_loses_stores_each_once(
    client: Client, system: EdgedServer
) -> None:
    image = client.generate_images("neutrophil", seed=3).images[0]
    ratings = [rating_of(image.digest, f"r-{row}") for row in range(20)] + [rating_of("0" * 64, "bad")]
    system.losses = MORE_THAN_GRPC_REPEATS
    report = client.import_ratings(ratings, batch=2)
    assert report.recorded + report.already_recorded == 20
    assert [failure.index for failure in report.failures] == [20]
    assert sorted(rating.request_id for rating in system.ratings) == sorted(f"r-{row}" for row in range(20))
    assert system.losses == 0


def test_an_import_of_real_images_that_the_system_loses_stores_each_once(
    client: Client, system: EdgedServer
) -> None:
    system.losses = MORE_THAN_GRPC_REPEATS
    report = client.import_real_images(
        (RealImage(data=flat_png(row), prompt="platelet") for row in range(9)), batch=2
    )
    assert (report.stored + report.already_stored, report.failed) == (9, 0)
    assert len(system.images) == 9
    assert system.losses == 0


def test_an_import_that_stays_lost_says_so(system: EdgedServer) -> None:
    with Client(find(state=system.state), patience_s=0.5) as client:
        client.describe_generator()
        system.losses = 10_000
        with pytest.raises(Unavailable, match="is restarting"):
            client.import_real_images([RealImage(data=flat_png(1), prompt="platelet")])


def test_the_client_for_asyncio_repeats_score_streams_and_imports(system: EdgedServer) -> None:
    async def items() -> AsyncIterator[ScoreItem]:
        for item in items_of(30):
            await asyncio.sleep(0)
            yield item

    async def use() -> None:
        async with AsyncClient(find(state=system.state)) as client:
            drawn = await client.generate_images("neutrophil")
            system.losses = MORE_THAN_GRPC_REPEATS
            results = [result async for result in client.score_stream(items(), batch=3)]
            assert sorted(int(result.item_id) for result in results) == list(range(30))
            system.losses = 2
            report = await client.import_ratings([rating_of(drawn.images[0].digest, "r")])
            assert report.recorded + report.already_recorded == 1
            system.losses = 2
            hidden = await client.import_real_images([RealImage(data=flat_png(9), prompt="platelet")])
            assert hidden.stored + hidden.already_stored == 1
            assert system.losses == 0

    asyncio.run(use())


def test_asynchronous_items_that_are_read_late_outlive_the_try_that_asked_for_them(
    system: EdgedServer,
) -> None:
    async def use() -> list[str]:
        lost = asyncio.Event()

        async def items() -> AsyncIterator[ScoreItem]:
            yield ScoreItem(item_id="first", data=flat_png(1), prompt="neutrophil")
            await lost.wait()
            yield ScoreItem(item_id="late", data=flat_png(2), prompt="neutrophil")

        async with AsyncClient(find(state=system.state)) as client:
            await client.describe_generator()
            system.losses = 1
            results = []
            async for result in client.score_stream(items(), batch=1):
                results.append(result.item_id)
                asyncio.get_running_loop().call_later(0.5, lost.set)
            return results

    assert sorted(asyncio.run(use())) == ["first", "late"]


def test_the_client_for_asyncio_repeats_both(system: EdgedServer) -> None:
    async def use() -> list[int]:
        async with AsyncClient(find(state=system.state)) as client:
            await client.describe_generator()
            system.losses = MORE_THAN_GRPC_REPEATS
            await client.generate_images("neutrophil")
            system.losses = MORE_THAN_GRPC_REPEATS
            events = [event async for event in client.stream_images("platelet", count=3)]
            return [event.index for event in events if isinstance(event, GeneratedImage)]

    assert asyncio.run(use()) == [0, 1, 2]


def test_patience_ends(system: EdgedServer) -> None:
    with Client(find(state=system.state), patience_s=0.5) as client:
        client.describe_generator()
        system.losses = 10_000
        with pytest.raises(Unavailable, match="is restarting"):
            client.generate_images("neutrophil")


def test_the_time_for_a_call_holds_for_all_its_repeats(client: Client, system: EdgedServer) -> None:
    system.losses = 10_000
    started = time.monotonic()
    with pytest.raises(Unavailable):
        client.generate_images("neutrophil", timeout_s=0.01)  # and the margin in which the server says why
    assert time.monotonic() - started < 10


def test_a_wrong_request_is_made_once(client: Client, system: EdgedServer) -> None:
    with pytest.raises(InvalidInput):
        client.generate_images("dog")


def test_a_system_that_never_answered_is_not_waited_for() -> None:
    with socket.socket() as taken:  # bound and not listening: nobody answers here
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with vouch.connect(address) as client, pytest.raises(Unavailable, match="No vouch system answers"):
            client.get_serving()


def test_a_system_whose_process_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    with EdgedServer(tmp_path / "state") as system:
        client = vouch.connect(state=system.state)
        client.describe_generator()
        (system.state / "lock").write_text("4194305\n")  # more than any process of this kernel
        system.losses = 10_000
        with client, pytest.raises(Unavailable):
            client.generate_images("neutrophil")


def test_a_folder_knows_whether_its_system_runs(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    assert folder.is_held() is None
    with folder.lock():
        assert folder.is_held() is True
    (folder.root / "lock").write_text("4194305\n")
    assert folder.is_held() is False
    (folder.root / "lock").write_text("no number\n")
    assert folder.is_held() is None


class Door:
    """A forwarder to an address, which can be closed with all its connections and opened again on the same port."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._behind, self._port = (host, int(port)), 0
        self.open()

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                front, back = listener.accept()[0], socket.create_connection(self._behind)
                self._ends += [front, back]
                for source, target in ((front, back), (back, front)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_a_stream_outlives_a_door_that_is_closed_again_and_again(system: EdgedServer) -> None:
    behind = find(state=system.state)
    door = Door(behind.address)
    indices = []
    with Client(Endpoint(door.address, behind.token)) as client:
        for event in client.stream_images("platelet", count=60):
            if isinstance(event, GeneratedImage):
                indices.append(event.index)
                if event.index in (5, 6, 25):
                    door.close()
                    door.open()
    door.close()
    assert indices == list(range(60))


def test_calls_outlive_a_door_that_is_closed_for_a_while(system: EdgedServer) -> None:
    behind = find(state=system.state)
    door = Door(behind.address)
    with Client(Endpoint(door.address, behind.token)) as client:
        client.describe_generator()
        door.close()
        opened = threading.Timer(1.0, door.open)
        opened.start()
        assert client.generate_images("neutrophil", seed=7).images[0].data == flat_png(7)
        opened.join()
    door.close()


@contextlib.contextmanager
def proxy_without_a_gateway() -> Iterator[str]:
    """The address of a server that answers one call as HAProxy does without a gateway: HTTP 500, no gRPC status."""

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(SETTINGS + SETTINGS_ACK)
            seen = b""
            while not _has_headers(seen):
                seen += connection.recv(65_536)
            connection.sendall(STATUS_500)
            connection.recv(65_536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)


def _has_headers(data: bytes) -> bool:
    """Whether a frame with headers has come after the preface."""
    position = PREFACE_BYTES
    while len(data) >= position + 9:
        if data[position + 3] == 1:
            return True
        position += 9 + int.from_bytes(data[position : position + 3], "big")
    return False


def test_http_500_of_the_proxy_is_worth_another_try() -> None:
    with proxy_without_a_gateway() as address, grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/vouch.v1.ModelsService/GetServing")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=10)
    assert "status: 500" in caught.value.details()
    assert is_transient(caught.value)


class Lost(grpc.RpcError):
    def __init__(
        self, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE, details: str = "", status: bytes = b""
    ) -> None:
        self._code, self._details, self._status = code, details, status

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return ((STATUS_KEY, self._status),) if self._status else ()


@pytest.mark.parametrize(
    ("code", "details", "transient"),
    [
        (
            "NOT_FOUND",
            "Application metadata not set. Ping /ray.serve.RayServeAPIService/ListApplications.",
            True,
        ),
        ("NOT_FOUND", "There is no version of that name.", False),
        ("UNKNOWN", "Stream removed", True),
        ("UNKNOWN", "Exception calling application", False),
        ("INTERNAL", "Received RST_STREAM with error code 2", True),
        ("INTERNAL", "Internal error from Core", True),
        ("CANCELLED", "Locally cancelled by application!", False),
        ("DEADLINE_EXCEEDED", "Socket closed", False),
    ],
)
def test_what_a_proxy_says_while_it_comes_back_is_told_from_what_the_system_says(
    code: str, details: str, transient: bool
) -> None:
    assert is_transient(Lost(grpc.StatusCode[code], details)) == transient


def image(index: int) -> generation_pb2.StreamImagesResponse:
    return generation_pb2.StreamImagesResponse(image=generation_pb2.GeneratedImage(index=index))


def test_the_waits_grow_and_a_new_image_begins_them_anew() -> None:
    repeats = Retries(None, 30.0, lambda: None, known=True)
    assert [repeats.wait_s(Lost()) for _ in range(5)] == [0.1, 0.2, 0.4, 0.8, 1.0]
    assert repeats.is_new(image(3))
    assert repeats.wait_s(Lost()) == 0.1
    assert not repeats.is_new(image(3))
    assert repeats.is_new(generation_pb2.StreamImagesResponse())  # with which every try may begin
    assert repeats.wait_s(Lost()) == 0.2


def test_a_system_that_says_when_to_come_again_is_not_called_before() -> None:
    status = status_of(Unavailable("The catalog is busy.", retry_after_s=0.7)).SerializeToString()
    repeats = Retries(None, 30.0, lambda: None, known=True)
    assert [repeats.wait_s(Lost(status=status)) for _ in range(5)] == [0.7, 0.7, 0.7, 0.8, 1.0]


def test_a_stream_that_breaks_off_after_every_first_answer_ends_one_day(system: EdgedServer) -> None:
    with Client(find(state=system.state), patience_s=0.5) as client:
        system.losses = 10_000
        stream = client.stream_images("platelet", count=2)
        assert not isinstance(next(stream), GeneratedImage)
        assert isinstance(next(stream), GeneratedImage)
        with pytest.raises(Unavailable):
            list(stream)


PROXIES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")


@pytest.mark.parametrize("no_proxy", [None, "localhost,127.0.0.1", "example.org"])
def test_calls_to_this_machine_never_take_a_proxy(
    system: EdgedServer, monkeypatch: pytest.MonkeyPatch, no_proxy: str | None
) -> None:
    for name in (*PROXIES, *map(str.upper, PROXIES)):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody answers there
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    if no_proxy is not None:
        monkeypatch.setenv("no_proxy", no_proxy)
    assert "no_grpc_proxy" not in os.environ
    with vouch.connect(state=system.state, timeout_s=20) as client:
        assert client.describe_generator().width == 16
