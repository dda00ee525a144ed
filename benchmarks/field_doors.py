"""What strangers and careless clients can do at the door: memory of one request, and malformed messages.

python -m benchmarks.field_doors --json FILE
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
from google.protobuf.message import DecodeError
from PIL import Image

from benchmarks.report import Figure, Report, arguments
from benchmarks.system import MEGABYTE, BenchmarkSystem, running_system
from vouch.client import rpcs
from vouch.client.endpoint import Endpoint, find
from vouch.pb.v1 import feedback_pb2, generation_pb2, reward_pb2

MIB = 2**20
MESSAGES = 100_000
AT_ONCE = 32
PATIENCE_S, START_S = 20.0, 900.0
REFUSED_S = 5.0
"""Seconds in which a call without a token is refused, however large its message is."""
ORIENTATION, TURNED = 0x0112, 6  # a tag of EXIF and one of its values
FAILURES = ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "DEADLINE_EXCEEDED")
"""Codes of a defect, a death or a hang: none is an answer to a malformed message."""
RECEIVED = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]


# ---- memory


class Peak:
    """The most memory that all processes of a system hold above what they held at first, in MB of resident size."""

    def __init__(self, system: BenchmarkSystem) -> None:
        self._processes = system.processes()
        self._base, self.mb = self._resident(), 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.01):
            self.mb = max(self.mb, (self._resident() - self._base) / MEGABYTE)

    def _resident(self) -> int:
        total = 0
        for process in self._processes:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_info().rss
        return total


def picture(side: int, *, noise: bool = False, mode: str = "RGB") -> bytes:
    """A PNG of `side` × `side` pixels: one colour, so small, or noise, so as large as its pixels."""
    channels = len(mode)
    shape = (side, side, channels)
    pixels = (
        np.random.default_rng(side).integers(0, 256, shape, np.uint8)
        if noise
        else np.full(shape, 90, np.uint8)
    )
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()


def deep_picture(side: int) -> bytes:
    """A grey PNG of `side` × `side` pixels with 16 bits."""
    out = io.BytesIO()
    Image.fromarray(np.full((side, side), 30_000, np.uint16)).save(out, "PNG", compress_level=1)
    return out.getvalue()


def rotated_jpeg(side: int) -> bytes:
    """A JPEG of `side` × `side` pixels that its EXIF orientation turns by 90°."""
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED
    out = io.BytesIO()
    Image.new("RGB", (side, side), "grey").save(out, "JPEG", exif=exif)
    return out.getvalue()


def legal_requests(prompt: str) -> Iterator[tuple[str, str, Any]]:
    """(name, RPC, request) of the heaviest requests that the contract allows."""

    def score(*data: bytes) -> Any:
        return reward_pb2.ScoreImagesRequest(
            items=[reward_pb2.ScoreItem(data=one, prompt=prompt) for one in data]
        )

    wide, heavy = picture(4000), picture(2280, noise=True)
    yield "16 images of 16 megapixels", "ScoreImages", score(*[wide] * 16)
    yield "64 images of 16 megapixels", "ScoreImages", score(*[wide] * 64)
    yield "16 transparent images of 16 megapixels", "ScoreImages", score(*[picture(4000, mode="RGBA")] * 16)
    yield "16 images of 16 megapixels with 16 bits", "ScoreImages", score(*[deep_picture(4000)] * 16)
    yield "16 rotated JPEGs of 16 megapixels", "ScoreImages", score(*[rotated_jpeg(4000)] * 16)
    yield "2 images of 15 MiB", "ScoreImages", score(heavy, heavy)
    items = [reward_pb2.ScoreItem(item_id=str(row), data=wide, prompt=prompt) for row in range(64)]
    yield (
        "64 images of 16 megapixels in a stream",
        "ScoreStream",
        reward_pb2.ScoreStreamRequest(items=items),
    )
    yield (
        "64 drawn images",
        "GenerateImages",
        generation_pb2.GenerateImagesRequest(prompt=prompt, count=64, steps=1),
    )
    real = feedback_pb2.RealImage(data=wide, prompt=prompt)
    yield (
        "16 real images of 16 megapixels",
        "ImportRealImages",
        feedback_pb2.ImportRealImagesRequest(images=[real] * 16),
    )
    text = feedback_pb2.Rating(request_id="worst", image_digest="0" * 64, text="x" * 10_000)
    yield (
        "500 ratings of 10,000 characters",
        "ImportRatings",
        feedback_pb2.ImportRatingsRequest(ratings=[text] * 500),
    )


def measure_memory(system: BenchmarkSystem, report: Report) -> None:
    """`memory_per_request_mb`: the worst of the legal requests, each sent alone."""
    endpoint = find(state=system.state, role="operator")
    with system.client() as client:
        prompt = client.describe_generator().example_prompts[0]
    worst = 0.0
    for name, rpc, request in legal_requests(prompt):
        with Peak(system) as peak:
            code = _send(endpoint, rpc, request.SerializeToString(), endpoint.metadata)
        report.add(f"memory_mb[{name}]", Figure(peak.mb, unit=f"MB, answered {code}"))
        worst = max(worst, peak.mb)
    report.add("memory_per_request_mb", Figure(worst, unit="MB", must="<= 500"))


def measure_tokenless(system: BenchmarkSystem, report: Report) -> None:
    """`tokenless_memory_mb` and `tokenless_s_max`: three messages of 60 MiB and three of 300 MiB at once, all without a
    token."""
    endpoint = find(state=system.state, role="operator")
    worst = slowest = 0.0
    for size in (60, 300):
        with Peak(system) as peak:
            answers = _send_together(endpoint, bytes(size * MIB), 3)
        codes = Counter(code for code, _ in answers)
        told = ", ".join(f"{count} {code}" for code, count in sorted(codes.items()))
        seconds = max(seconds for _, seconds in answers)
        report.add(f"tokenless_mb[3 of {size} MiB]", Figure(peak.mb, unit=f"MB, answered {told}"))
        report.add(f"tokenless_s[3 of {size} MiB]", Figure(seconds, unit="s until the last answer"))
        worst, slowest = max(worst, peak.mb), max(slowest, seconds)
    report.add("tokenless_memory_mb", Figure(worst, unit="MB", must="<= 50"))
    report.add("tokenless_s_max", Figure(slowest, unit="s", must=f"<= {REFUSED_S:g}"))


def _send_together(endpoint: Endpoint, data: bytes, count: int) -> list[tuple[str, float]]:
    """The code and the seconds of each of `count` calls that are made at once without a token."""
    answers: list[tuple[str, float]] = []

    def send() -> None:
        started = time.monotonic()
        code = _send(endpoint, "ScoreImages", data, (), PATIENCE_S)
        answers.append((code, time.monotonic() - started))

    threads = [threading.Thread(target=send) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def _send(endpoint: Endpoint, rpc: str, data: bytes, metadata: Any, timeout_s: float = 300.0) -> str:
    """The name of the code that a call with these bytes ends with."""
    with endpoint.open(grpc) as channel:
        call = getattr(channel, rpcs.arity(rpc))(rpcs.path(rpc))
        try:
            call(
                iter([data]) if rpcs.METHODS[rpc].client_streaming else data,
                metadata=metadata,
                timeout=timeout_s,
            )
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


# ---- malformed messages


@dataclass
class Fuzzed:
    """What the calls ended with."""

    codes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    died: int = 0

    def note(self, rpc: str, code: str, details: str, data: bytes) -> None:
        self.codes[code] += 1
        if code in FAILURES:
            self.examples.setdefault(f"{rpc} {code}", f"{details[:200]} for {data[:60].hex()}")

    @property
    def failures(self) -> int:
        return sum(self.codes[code] for code in FAILURES) + self.died


def mutants(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """(RPC, bytes): random bytes, and requests with bits flipped, cut, spliced or repeated. Each is no valid protobuf,
    or one whose fields hold what nobody would send. The same for the same seed."""
    chance = random.Random(seed)
    names = sorted(rpcs.METHODS)
    seeds = {rpc: _sound(rpc) for rpc in names}
    for number in range(count):
        rpc = names[number % len(names)]
        yield rpc, _mutant(seeds[rpc], chance)


def _sound(rpc: str) -> bytes:
    """A request with every field set, to values that start no work: nothing of these names exists."""
    message = rpcs.request_class(rpc)()
    _fill(message, depth=0)
    return message.SerializeToString()


def _fill(message: Any, depth: int) -> None:
    for one in message.DESCRIPTOR.fields:
        if one.message_type is None:
            value: Any = b"no image" if one.type == one.TYPE_BYTES else "no-such-thing"
            if one.cpp_type not in (one.CPPTYPE_STRING,):
                value = 1
            getattr(message, one.name).append(value) if one.is_repeated else setattr(message, one.name, value)
        elif one.message_type.full_name == "google.protobuf.Struct":
            getattr(message, one.name).update({"no_such_setting": [1.5, None, {"a": True}]})
        elif one.message_type.GetOptions().map_entry:
            getattr(message, one.name)["no-such-thing"] = 1
        elif depth < 3:
            part = getattr(message, one.name)
            _fill(part.add() if one.is_repeated else part, depth + 1)


def _mutant(sound: bytes, chance: random.Random) -> bytes:
    kind = chance.randrange(5)
    data = bytearray(sound)
    if kind == 0 or not sound:  # some requests have no field
        return chance.randbytes(chance.randrange(1, 200))
    if kind == 1:
        for _ in range(chance.randrange(1, 8)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == 2:
        del data[chance.randrange(len(data)) :]
        data += chance.randbytes(chance.randrange(1, 20))
    elif kind == 3:
        at = chance.randrange(len(data))
        data[at:at] = chance.randbytes(chance.randrange(1, 30))
    else:
        data *= chance.randrange(2, 200)
    return bytes(data)


def is_malformed(rpc: str, data: bytes) -> bool:
    """Whether protobuf itself refuses it."""
    try:
        rpcs.request_class(rpc).FromString(data)
    except DecodeError:
        return True
    return False


def measure_fuzz(system: BenchmarkSystem, report: Report, count: int = MESSAGES) -> None:
    """`fuzz_message_failures`: of malformed messages to every RPC, with a token that may do everything."""
    endpoint = find(state=system.state, role="operator")
    before = {process.pid for process in system.processes()}
    started = time.monotonic()
    fuzzed = asyncio.run(_fuzz(endpoint, count))
    elapsed = time.monotonic() - started
    fuzzed.died = len(before - {process.pid for process in system.processes()})
    unreadable = sum(is_malformed(rpc, data) for rpc, data in mutants(count))
    report.add(
        "fuzz_messages", Figure(count, unit=f"messages, {unreadable} of them no protobuf, {elapsed:.0f} s")
    )
    for code, number in sorted(fuzzed.codes.items()):
        report.add(f"fuzz[{code}]", Figure(number, unit="answers"))
    for what, example in fuzzed.examples.items():
        report.add(f"fuzz_example[{what}]", Figure(None, unit=example))
    report.add(
        "fuzz_message_failures",
        Figure(fuzzed.failures, unit="of INTERNAL, UNKNOWN, deaths, hangs", must="<= 0"),
    )


async def _fuzz(endpoint: Endpoint, count: int) -> Fuzzed:
    fuzzed, waiting = Fuzzed(), mutants(count)
    channel = grpc.aio.insecure_channel(endpoint.address, options=RECEIVED)

    async def work() -> None:
        for rpc, data in waiting:
            fuzzed.note(rpc, *await _answer(channel, rpc, data, endpoint.metadata), data)

    async with channel:
        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return fuzzed


async def _answer(channel: Any, rpc: str, data: bytes, metadata: Any) -> tuple[str, str]:
    call = getattr(channel, rpcs.arity(rpc))(rpcs.path(rpc))
    request: Any = iter([data]) if rpcs.METHODS[rpc].client_streaming else data
    made = call(request, metadata=metadata, timeout=PATIENCE_S)
    try:
        if rpcs.METHODS[rpc].server_streaming:
            async for _ in made:
                pass
        else:
            await made
    except grpc.aio.AioRpcError as error:
        return str(error.code().name), error.details() or ""
    return "OK", ""


def measure(report: Report, messages: int = MESSAGES, **settings: str) -> None:
    """All figures of this module, on a system of its own. `settings`: its environment."""
    with tempfile.TemporaryDirectory(prefix="vouch-doors-") as folder:
        quick = {"VOUCH_GENERATION__COMPILE": "false", **settings}
        with running_system(Path(folder) / "state", timeout_s=START_S, **quick) as (system, _):
            measure_tokenless(system, report)
            measure_memory(system, report)
            measure_fuzz(system, report, messages)


def main() -> None:
    parser = arguments("benchmarks.field_doors", "What one request may cost, and what a malformed one does.")
    parser.add_argument("--messages", type=int, default=MESSAGES, help="malformed messages to send")
    parser.add_argument("--proxy", choices=("haproxy", "plain"), default="haproxy")
    options = parser.parse_args()
    report = Report("field_doors")
    measure(report, options.messages, VOUCH_SERVER__PROXY=options.proxy)
    report.finish(options.json)


if __name__ == "__main__":
    main()
