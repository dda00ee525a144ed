from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VersionKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERSION_KIND_UNSPECIFIED: _ClassVar[VersionKind]
    VERSION_KIND_GENERATOR: _ClassVar[VersionKind]
    VERSION_KIND_REWARD: _ClassVar[VersionKind]
    VERSION_KIND_RATER: _ClassVar[VersionKind]
    VERSION_KIND_JUDGE: _ClassVar[VersionKind]
VERSION_KIND_UNSPECIFIED: VersionKind
VERSION_KIND_GENERATOR: VersionKind
VERSION_KIND_REWARD: VersionKind
VERSION_KIND_RATER: VersionKind
VERSION_KIND_JUDGE: VersionKind

class Version(_message.Message):
    __slots__ = ("digest", "name", "kind", "format", "parent", "parent_name", "created_at", "size_bytes", "files", "lineage", "evidence")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PARENT_NAME_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    digest: str
    name: str
    kind: VersionKind
    format: str
    parent: str
    parent_name: str
    created_at: _timestamp_pb2.Timestamp
    size_bytes: int
    files: _containers.RepeatedCompositeFieldContainer[VersionFile]
    lineage: VersionLineage
    evidence: _struct_pb2.Struct
    def __init__(self, digest: _Optional[str] = ..., name: _Optional[str] = ..., kind: _Optional[_Union[VersionKind, str]] = ..., format: _Optional[str] = ..., parent: _Optional[str] = ..., parent_name: _Optional[str] = ..., created_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., size_bytes: _Optional[int] = ..., files: _Optional[_Iterable[_Union[VersionFile, _Mapping]]] = ..., lineage: _Optional[_Union[VersionLineage, _Mapping]] = ..., evidence: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class VersionFile(_message.Message):
    __slots__ = ("path", "sha256", "size_bytes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    sha256: str
    size_bytes: int
    def __init__(self, path: _Optional[str] = ..., sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class VersionLineage(_message.Message):
    __slots__ = ("command", "run_id", "data", "rating_count", "rating_ids", "metrics", "notes")
    class DataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    RATING_COUNT_FIELD_NUMBER: _ClassVar[int]
    RATING_IDS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    command: str
    run_id: str
    data: _containers.ScalarMap[str, str]
    rating_count: int
    rating_ids: _containers.RepeatedScalarFieldContainer[str]
    metrics: _containers.ScalarMap[str, float]
    notes: _struct_pb2.Struct
    def __init__(self, command: _Optional[str] = ..., run_id: _Optional[str] = ..., data: _Optional[_Mapping[str, str]] = ..., rating_count: _Optional[int] = ..., rating_ids: _Optional[_Iterable[str]] = ..., metrics: _Optional[_Mapping[str, float]] = ..., notes: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class ListVersionsRequest(_message.Message):
    __slots__ = ("kind", "page_size", "page_token")
    KIND_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    kind: VersionKind
    page_size: int
    page_token: str
    def __init__(self, kind: _Optional[_Union[VersionKind, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListVersionsResponse(_message.Message):
    __slots__ = ("versions", "next_page_token")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    next_page_token: str
    def __init__(self, versions: _Optional[_Iterable[_Union[Version, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetVersionRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: str
    def __init__(self, version: _Optional[str] = ...) -> None: ...

class GetLineageRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: str
    def __init__(self, version: _Optional[str] = ...) -> None: ...

class GetLineageResponse(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    def __init__(self, versions: _Optional[_Iterable[_Union[Version, _Mapping]]] = ...) -> None: ...

class GetServingRequest(_message.Message):
    __slots__ = ("slot",)
    SLOT_FIELD_NUMBER: _ClassVar[int]
    slot: str
    def __init__(self, slot: _Optional[str] = ...) -> None: ...

class GetServingResponse(_message.Message):
    __slots__ = ("slots", "vouch_version", "started_at", "audit_head")
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    VOUCH_VERSION_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    AUDIT_HEAD_FIELD_NUMBER: _ClassVar[int]
    slots: _containers.RepeatedCompositeFieldContainer[ServingSlot]
    vouch_version: str
    started_at: _timestamp_pb2.Timestamp
    audit_head: str
    def __init__(self, slots: _Optional[_Iterable[_Union[ServingSlot, _Mapping]]] = ..., vouch_version: _Optional[str] = ..., started_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., audit_head: _Optional[str] = ...) -> None: ...

class ServingSlot(_message.Message):
    __slots__ = ("slot", "champion_version", "champion_name", "candidate_version", "candidate_name", "candidate_percent", "revision", "converged", "replicas")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_VERSION_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_NAME_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_NAME_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CONVERGED_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    slot: str
    champion_version: str
    champion_name: str
    candidate_version: str
    candidate_name: str
    candidate_percent: int
    revision: int
    converged: bool
    replicas: _containers.RepeatedCompositeFieldContainer[ReplicaReport]
    def __init__(self, slot: _Optional[str] = ..., champion_version: _Optional[str] = ..., champion_name: _Optional[str] = ..., candidate_version: _Optional[str] = ..., candidate_name: _Optional[str] = ..., candidate_percent: _Optional[int] = ..., revision: _Optional[int] = ..., converged: bool = ..., replicas: _Optional[_Iterable[_Union[ReplicaReport, _Mapping]]] = ...) -> None: ...

class ReplicaReport(_message.Message):
    __slots__ = ("replica_id", "revision", "champion_version", "candidate_version", "ok", "reason", "reported_at")
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_VERSION_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_VERSION_FIELD_NUMBER: _ClassVar[int]
    OK_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REPORTED_AT_FIELD_NUMBER: _ClassVar[int]
    replica_id: str
    revision: int
    champion_version: str
    candidate_version: str
    ok: bool
    reason: str
    reported_at: _timestamp_pb2.Timestamp
    def __init__(self, replica_id: _Optional[str] = ..., revision: _Optional[int] = ..., champion_version: _Optional[str] = ..., candidate_version: _Optional[str] = ..., ok: bool = ..., reason: _Optional[str] = ..., reported_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
