"""Errors and roles at the edge, without a server."""

from __future__ import annotations

import asyncio
import errno
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from services import edge, logs
from services.environment import LOGS_FOLDER
from tests.keys import FixedKeys
from vouch import errors
from vouch.client import failures
from vouch.grpc_status import LONGEST_MESSAGE_BYTES, STATUS
from vouch.pb.v1 import training_pb2
from vouch.rpcs import RPCS
from vouch.types.token import ROLES

ASKED = training_pb2.GetRunRequest()
TOKENS = {"client": "c-token", "rater": "r-token", "operator": "o-token"}
KEYS = FixedKeys(TOKENS)


def every_error() -> Iterator[type[errors.VouchError]]:
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.VouchError) and kind is not errors.VouchError:
            yield kind


class Call:
    """The context of one call, as small as Ray Serve's."""

    def __init__(self, token: str = "") -> None:
        self.metadata = [("authorization", f"Bearer {token}")] if token else []
        self.code: Any = None
        self.details = ""
        self.trailing: list[Any] = []

    def invocation_metadata(self) -> Any:
        return self.metadata

    def set_code(self, code: Any) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self.trailing = trailing_metadata

    def status(self) -> status_pb2.Status:
        ((key, raw),) = self.trailing
        assert key == "grpc-status-details-bin"
        status = status_pb2.Status.FromString(raw)
        assert (status.code, status.message) == (self.code.value[0], self.details)
        return status

    def info(self) -> error_details_pb2.ErrorInfo:
        info = error_details_pb2.ErrorInfo()
        assert self.status().details[0].Unpack(info)
        return info


class RayTaskError(Exception):
    """As Ray hands on what another process raised: the text is a traceback, the error is the cause."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("Traceback (most recent call last): secret.py, line 7")
        self.cause = cause


class Failing:
    """Raises what it was given, after one message where it streams."""

    def __init__(self, error: BaseException) -> None:
        self.access = edge.AccessControl(KEYS)
        self.error = error

    @edge.unary
    async def GetRun(self, request: Any, identity: edge.Identity) -> Any:  # noqa: N802
        raise self.error

    @edge.streaming
    async def WatchRun(self, request: Any, identity: edge.Identity) -> Any:  # noqa: N802
        yield training_pb2.Run(run_id="first")
        raise self.error


def test_the_table_knows_every_error_and_no_other() -> None:
    assert set(STATUS) == set(every_error())


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_the_client_raises_the_very_error_that_the_server_raised(kind: type[errors.VouchError]) -> None:
    call = Call("o-token")
    asyncio.run(Failing(kind("Do this instead.")).GetRun(ASKED, call))
    assert call.info().reason == kind.reason
    assert failures._class_of(call.code, call.info().reason) is kind


@pytest.mark.parametrize(
    ("error", "delay_s"),
    [
        (errors.Unavailable("Try again."), errors.Unavailable.retry_after_s),
        (errors.Unavailable("Try again.", retry_after_s=3.0), 3.0),
        (errors.Exhausted("Too many.", retry_after_s=2.5), 2.5),
    ],
    ids=lambda value: str(value),
)
def test_a_caller_who_may_come_again_is_told_when(error: errors.VouchError, delay_s: float) -> None:
    call = Call("o-token")
    asyncio.run(Failing(error).GetRun(ASKED, call))
    retry = error_details_pb2.RetryInfo()
    assert call.status().details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == delay_s * 1000


def test_an_error_that_time_does_not_mend_has_no_delay() -> None:
    call = Call("o-token")
    asyncio.run(Failing(errors.NotFound("gone")).GetRun(ASKED, call))
    assert len(call.status().details) == 1


def test_a_reason_of_its_own_reaches_the_caller() -> None:
    call = Call("o-token")
    asyncio.run(Failing(errors.NotFound("There is no image ab12.", "UNKNOWN_IMAGE")).GetRun(ASKED, call))
    assert (call.code, call.details) == (grpc.StatusCode.NOT_FOUND, "There is no image ab12.")
    assert call.info().reason == "UNKNOWN_IMAGE"


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, str]]]]:
    """What the log of this process says, line by line."""
    monkeypatch.setenv(LOGS_FOLDER, str(tmp_path))
    monkeypatch.setattr(logs.log, "handlers", [])
    monkeypatch.setattr(logs.log, "propagate", True)

    def read() -> list[dict[str, str]]:
        (file,) = tmp_path.glob("*.jsonl")
        return [json.loads(line) for line in file.read_text().splitlines()]

    yield read
    for handler in logs.log.handlers:
        handler.close()


def test_an_unexpected_error_tells_a_reference_and_the_log_has_its_traceback(
    lines: Callable[[], list[dict[str, str]]],
) -> None:
    call = Call("o-token")
    asyncio.run(Failing(RuntimeError("password in secret.py")).GetRun(ASKED, call))
    assert call.code is grpc.StatusCode.INTERNAL
    assert "secret" not in call.details
    (line,) = lines()
    assert f"`vouch logs {line['reference']}`" in call.details
    assert (line["code"], line["rpc"], line["role"]) == ("INTERNAL", "GetRun", "operator")
    assert "password in secret.py" in line["trace"]


def test_a_refusal_is_one_line_without_a_word_of_the_callers(
    lines: Callable[[], list[dict[str, str]]],
) -> None:
    call = Call("o-token")
    asyncio.run(Failing(errors.InvalidInput("Nobody knows 'Jane Doe, born 1970'.")).GetRun(ASKED, call))
    (line,) = lines()
    assert {name: line[name] for name in ("level", "code", "reason", "rpc", "role")} == {
        "level": "INFO", "code": "INVALID_ARGUMENT", "reason": "INVALID_INPUT", "rpc": "GetRun", "role": "operator",
    }  # fmt: skip
    assert call.info().metadata["reference"] == line["reference"]
    assert "Jane" not in json.dumps(line)


def test_a_defect_that_another_process_reports_has_a_reference_too(
    lines: Callable[[], list[dict[str, str]]],
) -> None:
    call = Call("o-token")
    asyncio.run(Failing(errors.Internal("The reward model failed.")).GetRun(ASKED, call))
    assert call.details.endswith(f"On the server `vouch logs {lines()[0]['reference']}` shows it.")


def test_an_error_of_another_process_arrives_without_its_traceback() -> None:
    call = Call("o-token")
    asyncio.run(
        Failing(RayTaskError(errors.CorruptVersion("unet.safetensors is truncated."))).GetRun(ASKED, call)
    )
    assert (call.code, call.details) == (grpc.StatusCode.DATA_LOSS, "unet.safetensors is truncated.")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (asyncio.TimeoutError(), grpc.StatusCode.DEADLINE_EXCEEDED),
        (OSError(errno.EIO, "Input/output error"), grpc.StatusCode.INTERNAL),
    ],
)
def test_errors_of_the_system_get_a_code_of_their_own(error: Exception, code: grpc.StatusCode) -> None:
    call = Call("o-token")
    asyncio.run(Failing(error).GetRun(ASKED, call))
    assert call.code is code


def test_foreign_errors_are_translated_by_those_who_know_them() -> None:
    class QueueFull(Exception):
        pass

    def translate(error: BaseException) -> errors.VouchError | None:
        return errors.Exhausted("Try again in a second.") if isinstance(error, QueueFull) else None

    edge.translate_with(translate)
    try:
        call = Call("o-token")
        asyncio.run(Failing(QueueFull()).GetRun(ASKED, call))
    finally:
        edge._translators.remove(translate)
    assert call.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_cancelled_call_stays_cancelled() -> None:
    call = Call("o-token")
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(Failing(asyncio.CancelledError()).GetRun(ASKED, call))
    assert call.code is None


def test_a_failed_stream_keeps_what_it_sent_and_ends_with_an_empty_message() -> None:
    async def read() -> list[Any]:
        return [answer async for answer in Failing(errors.NotFound("gone")).WatchRun(ASKED, call)]

    call = Call("o-token")
    assert asyncio.run(read()) == [training_pb2.Run(run_id="first"), training_pb2.Run()]
    assert call.code is grpc.StatusCode.NOT_FOUND


def test_a_long_message_is_shortened_to_what_trailers_hold() -> None:
    call = Call("o-token")
    asyncio.run(Failing(errors.InvalidInput("é" * 50_000)).GetRun(ASKED, call))
    assert len(call.details.encode()) <= LONGEST_MESSAGE_BYTES
    assert call.details.endswith("é…")


@pytest.mark.parametrize(
    ("token", "role"), [("c-token", "client"), ("r-token", "rater"), ("o-token", "operator")]
)
def test_a_token_stands_for_its_role(token: str, role: str) -> None:
    assert edge.AccessControl(KEYS).identify(Call(token)).role == role


def test_a_client_is_known_by_the_name_that_it_gives_itself() -> None:
    named, nameless = Call("c-token"), Call("c-token")
    named.metadata = [*named.metadata, ("x-vouch-client", "x" * 1000)]
    assert edge.AccessControl(KEYS).identify(named).client == "x" * edge.LONGEST_CLIENT
    assert edge.AccessControl(KEYS).identify(nameless).client == ""


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("rpc", ["GenerateImages", "RecordRating", "StartRollout"])
def test_a_role_may_do_its_own_and_what_those_below_may(role: str, rpc: str) -> None:
    call = Call(TOKENS[role])
    if ROLES.index(role) >= ROLES.index(RPCS[rpc].role):
        assert edge.AccessControl(KEYS).admit(call, rpc).role == role
    else:
        with pytest.raises(errors.PermissionDenied, match=RPCS[rpc].role):
            edge.AccessControl(KEYS).admit(call, rpc)


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "")],
        [("authorization", "o-token")],
        [("authorization", "Basic o-token")],
        [("authorization", "Bearer ")],
        [("authorization", "Bearer O-TOKEN")],
        [("token", "o-token")],
    ],
)
def test_what_is_not_a_known_token_is_refused(metadata: list[tuple[str, str]]) -> None:
    call = Call()
    call.metadata = metadata
    with pytest.raises(errors.Unauthenticated, match=r"access\.json"):
        edge.AccessControl(KEYS).identify(call)


def test_without_authentication_everybody_is_an_operator() -> None:
    assert edge.AccessControl(None).identify(Call()).role == "operator"
