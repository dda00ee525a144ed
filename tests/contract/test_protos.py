"""The contract keeps its own rules: commented, self-contained, idempotent where it changes something, paged."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vouch.client import rpcs

ROOT = Path(__file__).parents[2]
BUF = Path(sys.executable).with_name("buf")

MUTATING = {
    "GenerateImages", "StreamImages", "RecordRating", "StartRollout", "PromoteRollout", "RollBackRollout",
    "StartTraining", "CancelRun",
}  # fmt: skip

# Numbers of the fields of FileDescriptorProto and its parts, which make up the path of a comment.
MESSAGE, ENUM, SERVICE, FIELD, VALUE, METHOD = 4, 5, 6, 2, 2, 2


def _parts(file: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    for i, message in enumerate(file.message_type):
        yield message.name, (MESSAGE, i)
        for j, field in enumerate(message.field):
            yield f"{message.name}.{field.name}", (MESSAGE, i, FIELD, j)
    for i, enum in enumerate(file.enum_type):
        yield enum.name, (ENUM, i)
        for j, value in enumerate(enum.value):
            yield f"{enum.name}.{value.name}", (ENUM, i, VALUE, j)
    for i, service in enumerate(file.service):
        yield service.name, (SERVICE, i)
        for j, method in enumerate(service.method):
            yield f"{service.name}.{method.name}", (SERVICE, i, METHOD, j)


def test_every_field_message_enum_and_rpc_is_commented(files: list[Any]) -> None:
    silent = []
    for file in files:
        comments = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
        silent += [name for name, path in _parts(file) if not comments.get(path, "").strip()]
    assert silent == []


def test_files_import_nothing_but_what_protobuf_brings(files: list[Any]) -> None:
    for file in files:
        assert all(name.startswith("google/protobuf/") for name in file.dependency), file.name
        assert file.package == "vouch.v1"


def test_names_are_unique_over_all_files(files: list[Any]) -> None:
    messages = [message.name for file in files for message in file.message_type]
    methods = [method.name for file in files for service in file.service for method in service.method]
    assert len(messages) == len(set(messages))
    assert len(methods) == len(set(methods))
    assert set(methods) == set(rpcs.METHODS)


def test_every_enum_begins_with_a_value_that_says_nothing(files: list[Any]) -> None:
    for enum in (enum for file in files for enum in file.enum_type):
        first = enum.value[0]
        assert first.number == 0
        assert first.name.endswith("_UNSPECIFIED")
        prefix = first.name.removesuffix("UNSPECIFIED")
        assert prefix.replace("_", "").lower() == enum.name.lower()
        assert all(value.name.startswith(prefix) for value in enum.value)


def test_calls_that_change_something_carry_a_request_id() -> None:
    for name in MUTATING:
        assert "request_id" in rpcs.request_class(name).DESCRIPTOR.fields_by_name, name


def test_every_list_is_paged() -> None:
    lists = [name for name in rpcs.METHODS if name.startswith("List")]
    assert len(lists) >= 5
    for name in lists:
        assert {"page_size", "page_token"} <= set(rpcs.request_class(name).DESCRIPTOR.fields_by_name), name
        assert "next_page_token" in rpcs.answer_class(name).DESCRIPTOR.fields_by_name, name


def breaks(contract: Path) -> str:
    """What buf finds in a folder with protos/ that breaks clients of the released contract."""
    released = ROOT / "protos" / "released.binpb"
    command = [BUF, "breaking", "--against", released]
    return subprocess.run(command, cwd=contract, capture_output=True, text=True).stdout


def test_a_field_that_clients_know_cannot_be_removed_unnoticed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    assert breaks(tmp_path) == ""
    changed = tmp_path / "protos" / "vouch" / "v1" / "generation.proto"
    lines = changed.read_text().splitlines(keepends=True)
    changed.write_text("".join(line for line in lines if " eta = " not in line))
    assert 'field "' in breaks(tmp_path) and '"eta"' in breaks(tmp_path)
