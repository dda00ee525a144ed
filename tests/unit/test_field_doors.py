"""The benchmark of the doors sends what it says and counts what it says."""

from __future__ import annotations

import pytest

from benchmarks import field_doors
from benchmarks.field_doors import Fuzzed, is_malformed, mutants, picture
from vouch.client import rpcs
from vouch.formats import images


def test_the_mutants_are_the_same_each_time_and_reach_every_rpc() -> None:
    once = list(mutants(500))
    assert once == list(mutants(500))
    assert {rpc for rpc, _ in once} == set(rpcs.METHODS)


def test_many_mutants_are_no_protobuf_and_some_are() -> None:
    share = sum(is_malformed(rpc, data) for rpc, data in mutants(2_000)) / 2_000
    assert 0.5 < share < 0.95


@pytest.mark.parametrize("rpc", rpcs.METHODS)
def test_every_field_of_a_request_is_there_to_be_spoilt(rpc: str) -> None:
    message = rpcs.request_class(rpc).FromString(field_doors._sound(rpc))
    assert {field.name for field, _ in message.ListFields()} >= {
        field.name for field in message.DESCRIPTOR.fields if field.containing_oneof is None
    }


def test_a_defect_a_death_and_a_hang_are_failures_and_refusals_are_not() -> None:
    fuzzed = Fuzzed(died=1)
    for code in ("INVALID_ARGUMENT", "NOT_FOUND", "OK", "INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED"):
        fuzzed.note("GetRun", code, "why", b"\x07")
    assert fuzzed.failures == 4
    assert set(fuzzed.examples) == {"GetRun INTERNAL", "GetRun UNKNOWN", "GetRun DEADLINE_EXCEEDED"}


def test_pictures_are_small_or_as_large_as_their_pixels() -> None:
    assert len(picture(400)) < 5_000
    assert len(picture(400, noise=True)) > 400 * 400 * 3
    assert images.inspect(picture(40, mode="RGBA")).width == 40
