"""The contract as the compiler sees it, with its comments, and a small system that speaks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc_tools
import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from tests.edged_server import EdgedServer

ROOT = Path(__file__).parents[2]
PROTOS = sorted((ROOT / "protos" / "vouch" / "v1").glob("*.proto"))


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """A FileDescriptorProto of every .proto, comments included."""
    out = tmp_path_factory.mktemp("protos") / "set.bin"
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    # The virtual path of `make protos`, so that the descriptors can be compared with the committed ones.
    arguments = ["protoc", f"-Ivouch/pb={ROOT / 'protos' / 'vouch'}", f"-I{well_known}"]
    arguments += ["--include_source_info", f"--descriptor_set_out={out}", *map(str, PROTOS)]
    assert protoc.main(arguments) == 0
    return list(descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[EdgedServer]:
    with EdgedServer(tmp_path / "state") as running:
        yield running
