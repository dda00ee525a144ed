"""The gRPC contract, from the descriptors of protos/ with their comments."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc_tools
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from grpc_tools import protoc

from scripts.docs.markdown import cell, code, fence, table

ROOT = Path(__file__).parents[2]
PACKAGE = ".vouch.v1."
HEAD = """# gRPC contract

The contract is `protos/vouch/v1/*.proto`. Every call carries `authorization: Bearer TOKEN` in its metadata.
Reflection and `grpc.health.v1` answer. An error has a canonical status code, one sentence that says what to do,
and a `google.rpc.ErrorInfo` with a `reason` for programs.
"""
# Numbers of the parts of a file in `SourceCodeInfo.Location.path` (descriptor.proto).
MESSAGES, ENUMS, SERVICES, METHODS, FIELDS, VALUES, NESTED, NESTED_ENUMS = 4, 5, 6, 2, 2, 2, 3, 4


def page() -> str:
    """Services, their RPCs, messages and enumerations, file by file."""
    return "\n".join([HEAD, *(_File(file).section() for file in descriptors())])


def descriptors() -> list[FileDescriptorProto]:
    """Every file of the contract, comments included."""
    files = sorted((ROOT / "protos").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "contract.pb")
        command = [
            *("protoc", f"-I{ROOT / 'protos'}", f"-I{Path(grpc_tools.__file__).parent / '_proto'}"),
            *("--include_source_info", f"--descriptor_set_out={out}", *map(str, files)),
        ]
        if protoc.main(command) != 0:
            raise RuntimeError("protoc refused protos/: `make protos` shows why")
        return list(descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file)


class _File:
    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        self._comments = {
            tuple(one.path): (one.leading_comments or one.trailing_comments).strip("\n")
            for one in file.source_code_info.location
        }

    def section(self) -> str:
        return "\n".join([*self._services(), *self._messages(), *self._enums()])

    def _services(self) -> Iterator[str]:
        for index, service in enumerate(self._file.service):
            yield f"## {service.name}\n\n{self._comment(SERVICES, index)}\n"
            for number, method in enumerate(service.method):
                streams = (
                    "stream " if method.client_streaming else "",
                    "stream " if method.server_streaming else "",
                )
                asked, answered = _short(method.input_type), _short(method.output_type)
                signature = f"rpc {method.name}({streams[0]}{asked}) returns ({streams[1]}{answered})"
                yield f"### {method.name}\n\n{fence(signature, 'proto')}"
                yield self._comment(SERVICES, index, METHODS, number) + "\n"
                yield f"Messages: {_link(method.input_type)}, {_link(method.output_type)}.\n"

    def _messages(self) -> Iterator[str]:
        for index, message in enumerate(self._file.message_type):
            yield from self._message(message, (MESSAGES, index))

    def _message(self, message: DescriptorProto, path: tuple[int, ...], owner: str = "") -> Iterator[str]:
        if message.options.map_entry:
            return
        name = f"{owner}{message.name}"
        rows = [
            (code(field.name), _kind(message, field), self._comment(*path, FIELDS, number))
            for number, field in enumerate(message.field)
        ]
        yield f"### {name} {{ #{_anchor(name)} }}\n\n{self._comment(*path)}\n"
        yield _rows(("field", "type", "meaning"), rows) if rows else "No fields.\n"
        for number, nested in enumerate(message.nested_type):
            yield from self._message(nested, (*path, NESTED, number), f"{name}.")
        for number, enum in enumerate(message.enum_type):
            yield self._enum(enum, (*path, NESTED_ENUMS, number), f"{name}.")

    def _enums(self) -> Iterator[str]:
        for index, enum in enumerate(self._file.enum_type):
            yield self._enum(enum, (ENUMS, index))

    def _enum(self, enum: EnumDescriptorProto, path: tuple[int, ...], owner: str = "") -> str:
        name = f"{owner}{enum.name}"
        rows = [(code(value.name), self._comment(*path, VALUES, i)) for i, value in enumerate(enum.value)]
        return f"### {name} {{ #{_anchor(name)} }}\n\n{self._comment(*path)}\n\n{_rows(('value', 'meaning'), rows)}"

    def _comment(self, *path: int) -> str:
        return " ".join(self._comments.get(path, "").split())


def _rows(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table whose type column may hold links, which `cell` would not change."""
    return table(head, rows)


def _kind(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    entry = next(
        (
            one
            for one in message.nested_type
            if one.options.map_entry and field.type_name.endswith(f".{one.name}")
        ),
        None,
    )
    if entry is not None:
        return f"map of {_one(entry.field[0])} to {_one(entry.field[1])}"
    prefix = "repeated " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
    return prefix + ("optional " if field.proto3_optional else "") + _one(field)


def _one(field: FieldDescriptorProto) -> str:
    if field.type_name:
        return _link(field.type_name)
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def _link(type_name: str) -> str:
    short = cell(_short(type_name))
    return f"[{short}](#{_anchor(short)})" if type_name.startswith(PACKAGE) else code(short)


def _short(type_name: str) -> str:
    return type_name.removeprefix(PACKAGE).removeprefix(".")


def _anchor(name: str) -> str:
    return "message-" + name.lower().replace(".", "-")
