"""What is generated is what its source says: vouch/pb of protos/, with an old generator, and the sync client."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from vouch.client import rpcs

ROOT = Path(__file__).parents[2]
PB = Path(rpcs.__file__).parents[1] / "pb" / "v1"
NAMES = ["feedback", "generation", "models", "reward", "rollout", "training"]
STALE = "protos/ and vouch/pb differ: run `make protos`"


class Recorder:
    """A channel that only notes which calls a stub prepares."""

    def __init__(self) -> None:
        self.calls: dict[str, str] = {}

    def __getattr__(self, arity: str) -> Any:
        def prepare(path: str, **_: Any) -> None:
            self.calls[path] = arity

        return prepare


def test_every_proto_has_its_module_and_no_other_module_is_there(files: list[Any]) -> None:
    assert sorted(Path(file.name).stem for file in files) == NAMES
    made = {path.name for path in PB.iterdir() if path.suffix in (".py", ".pyi")} - {"__init__.py"}
    assert made == {f"{name}_pb2{end}" for name in NAMES for end in (".py", ".pyi", "_grpc.py")}, STALE


@pytest.mark.parametrize("name", NAMES)
def test_generated_messages_are_those_of_the_proto(name: str, files: list[Any]) -> None:
    compiled = next(file for file in files if Path(file.name).stem == name)
    committed = descriptor_pb2.FileDescriptorProto()
    importlib.import_module(f"vouch.pb.v1.{name}_pb2").DESCRIPTOR.CopyToProto(committed)
    plain = descriptor_pb2.FileDescriptorProto()
    plain.CopyFrom(compiled)
    plain.ClearField("source_code_info")
    for file in (plain, committed):
        _drop_json_names(file.message_type)
    assert committed == plain, STALE


def _drop_json_names(messages: Any) -> None:
    for message in messages:
        for field in message.field:
            field.ClearField("json_name")
        _drop_json_names(message.nested_type)


@pytest.mark.parametrize("name", NAMES)
def test_generated_stubs_call_the_rpcs_of_the_proto(name: str, files: list[Any]) -> None:
    (service,) = next(file for file in files if Path(file.name).stem == name).service
    module = importlib.import_module(f"vouch.pb.v1.{name}_pb2_grpc")
    channel = Recorder()
    getattr(module, f"{service.name}Stub")(channel)
    wanted = {f"/vouch.v1.{service.name}/{method.name}": rpcs.arity(method.name) for method in service.method}
    assert channel.calls == wanted, STALE
    assert {method.name for method in service.method} <= set(vars(getattr(module, f"{service.name}Servicer")))


@pytest.mark.parametrize("name", NAMES)
def test_generated_types_name_every_field(name: str, files: list[Any]) -> None:
    compiled = next(file for file in files if Path(file.name).stem == name)
    tree = ast.parse((PB / f"{name}_pb2.pyi").read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for message in compiled.message_type:
        annotated = {one.target.id for one in classes[message.name].body if isinstance(one, ast.AnnAssign)}  # type: ignore[union-attr]
        assert {field.name for field in message.field} <= annotated, STALE


def test_the_generator_is_old_enough_for_the_lower_bounds_of_the_package() -> None:
    project = (PB.parents[2] / "pyproject.toml").read_text()
    bounds = {name: re.search(rf'"{name}>=([\d.]+)"', project) for name in ("grpcio", "protobuf")}
    for name in NAMES:
        messages, stubs = (PB / f"{name}_pb2.py").read_text(), (PB / f"{name}_pb2_grpc.py").read_text()
        stamps = {
            "protobuf": re.search(r"Protobuf Python Version: ([\d.]+)", messages),
            "grpcio": re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'", stubs),
        }
        for package, stamp in stamps.items():
            bound = bounds[package]
            assert stamp and bound
            assert _series(stamp[1]) <= _series(bound[1]), f"{package}>={bound[1]} cannot import {name}"


def _series(version: str) -> list[int]:
    return [int(part) for part in version.split(".")][:2]


def test_the_client_for_ordinary_code_is_the_one_for_asyncio_without_asyncio() -> None:
    spec = importlib.util.spec_from_file_location("generate_client", ROOT / "scripts" / "generate_client.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for source, target in script.GENERATED.items():
        assert script.generated(script.FOLDER / source) == (script.FOLDER / target).read_text(), (
            "run `make client`"
        )
