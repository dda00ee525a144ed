from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GuidanceMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GUIDANCE_METHOD_UNSPECIFIED: _ClassVar[GuidanceMethod]
    GUIDANCE_METHOD_CFG: _ClassVar[GuidanceMethod]
    GUIDANCE_METHOD_CFG_PP: _ClassVar[GuidanceMethod]
    GUIDANCE_METHOD_AUTOGUIDANCE: _ClassVar[GuidanceMethod]
GUIDANCE_METHOD_UNSPECIFIED: GuidanceMethod
GUIDANCE_METHOD_CFG: GuidanceMethod
GUIDANCE_METHOD_CFG_PP: GuidanceMethod
GUIDANCE_METHOD_AUTOGUIDANCE: GuidanceMethod

class GenerateImagesRequest(_message.Message):
    __slots__ = ("request_id", "prompt", "count", "seed", "steps", "guidance", "version", "score", "reward_version", "timeout_s", "sampler", "eta", "guidance_method", "guidance_start", "guidance_stop", "adapter_start", "negative_prompt")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    REWARD_VERSION_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    SAMPLER_FIELD_NUMBER: _ClassVar[int]
    ETA_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_METHOD_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_START_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_STOP_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_START_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    prompt: str
    count: int
    seed: int
    steps: int
    guidance: float
    version: str
    score: bool
    reward_version: str
    timeout_s: float
    sampler: str
    eta: float
    guidance_method: GuidanceMethod
    guidance_start: float
    guidance_stop: float
    adapter_start: float
    negative_prompt: str
    def __init__(self, request_id: _Optional[str] = ..., prompt: _Optional[str] = ..., count: _Optional[int] = ..., seed: _Optional[int] = ..., steps: _Optional[int] = ..., guidance: _Optional[float] = ..., version: _Optional[str] = ..., score: bool = ..., reward_version: _Optional[str] = ..., timeout_s: _Optional[float] = ..., sampler: _Optional[str] = ..., eta: _Optional[float] = ..., guidance_method: _Optional[_Union[GuidanceMethod, str]] = ..., guidance_start: _Optional[float] = ..., guidance_stop: _Optional[float] = ..., adapter_start: _Optional[float] = ..., negative_prompt: _Optional[str] = ...) -> None: ...

class GenerateImagesResponse(_message.Message):
    __slots__ = ("request_id", "images", "generator_version", "reward_version", "summary")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    GENERATOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    REWARD_VERSION_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    images: _containers.RepeatedCompositeFieldContainer[GeneratedImage]
    generator_version: str
    reward_version: str
    summary: GenerationSummary
    def __init__(self, request_id: _Optional[str] = ..., images: _Optional[_Iterable[_Union[GeneratedImage, _Mapping]]] = ..., generator_version: _Optional[str] = ..., reward_version: _Optional[str] = ..., summary: _Optional[_Union[GenerationSummary, _Mapping]] = ...) -> None: ...

class StreamImagesRequest(_message.Message):
    __slots__ = ("request_id", "prompt", "count", "seed", "steps", "guidance", "version", "score", "reward_version", "timeout_s", "sampler", "eta", "preview_every", "guidance_method", "guidance_start", "guidance_stop", "adapter_start", "negative_prompt")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    REWARD_VERSION_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    SAMPLER_FIELD_NUMBER: _ClassVar[int]
    ETA_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_EVERY_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_METHOD_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_START_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_STOP_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_START_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    prompt: str
    count: int
    seed: int
    steps: int
    guidance: float
    version: str
    score: bool
    reward_version: str
    timeout_s: float
    sampler: str
    eta: float
    preview_every: int
    guidance_method: GuidanceMethod
    guidance_start: float
    guidance_stop: float
    adapter_start: float
    negative_prompt: str
    def __init__(self, request_id: _Optional[str] = ..., prompt: _Optional[str] = ..., count: _Optional[int] = ..., seed: _Optional[int] = ..., steps: _Optional[int] = ..., guidance: _Optional[float] = ..., version: _Optional[str] = ..., score: bool = ..., reward_version: _Optional[str] = ..., timeout_s: _Optional[float] = ..., sampler: _Optional[str] = ..., eta: _Optional[float] = ..., preview_every: _Optional[int] = ..., guidance_method: _Optional[_Union[GuidanceMethod, str]] = ..., guidance_start: _Optional[float] = ..., guidance_stop: _Optional[float] = ..., adapter_start: _Optional[float] = ..., negative_prompt: _Optional[str] = ...) -> None: ...

class StreamImagesResponse(_message.Message):
    __slots__ = ("progress", "image", "summary", "preview")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    progress: GenerationProgress
    image: GeneratedImage
    summary: GenerationSummary
    preview: ImagePreview
    def __init__(self, progress: _Optional[_Union[GenerationProgress, _Mapping]] = ..., image: _Optional[_Union[GeneratedImage, _Mapping]] = ..., summary: _Optional[_Union[GenerationSummary, _Mapping]] = ..., preview: _Optional[_Union[ImagePreview, _Mapping]] = ...) -> None: ...

class ImagePreview(_message.Message):
    __slots__ = ("index", "step", "total_steps", "data", "media_type")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    index: int
    step: int
    total_steps: int
    data: bytes
    media_type: str
    def __init__(self, index: _Optional[int] = ..., step: _Optional[int] = ..., total_steps: _Optional[int] = ..., data: _Optional[bytes] = ..., media_type: _Optional[str] = ...) -> None: ...

class GenerationProgress(_message.Message):
    __slots__ = ("images_done", "images_total", "step", "total_steps", "elapsed_s")
    IMAGES_DONE_FIELD_NUMBER: _ClassVar[int]
    IMAGES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_S_FIELD_NUMBER: _ClassVar[int]
    images_done: int
    images_total: int
    step: int
    total_steps: int
    elapsed_s: float
    def __init__(self, images_done: _Optional[int] = ..., images_total: _Optional[int] = ..., step: _Optional[int] = ..., total_steps: _Optional[int] = ..., elapsed_s: _Optional[float] = ...) -> None: ...

class GenerationSummary(_message.Message):
    __slots__ = ("images", "generator_version", "reward_version", "engine_s", "score_s", "total_s", "fallback_reason")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    GENERATOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    REWARD_VERSION_FIELD_NUMBER: _ClassVar[int]
    ENGINE_S_FIELD_NUMBER: _ClassVar[int]
    SCORE_S_FIELD_NUMBER: _ClassVar[int]
    TOTAL_S_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_REASON_FIELD_NUMBER: _ClassVar[int]
    images: int
    generator_version: str
    reward_version: str
    engine_s: float
    score_s: float
    total_s: float
    fallback_reason: str
    def __init__(self, images: _Optional[int] = ..., generator_version: _Optional[str] = ..., reward_version: _Optional[str] = ..., engine_s: _Optional[float] = ..., score_s: _Optional[float] = ..., total_s: _Optional[float] = ..., fallback_reason: _Optional[str] = ...) -> None: ...

class GeneratedImage(_message.Message):
    __slots__ = ("data", "media_type", "digest", "index", "width", "height", "prompt", "seed", "sampler", "steps", "guidance", "generator_version", "generator_name", "reward_version", "score", "score_std", "criterion_scores", "created_at", "guidance_method", "guidance_start", "guidance_stop", "adapter_start", "negative_prompt")
    class CriterionScoresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    DATA_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SAMPLER_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    GENERATOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    GENERATOR_NAME_FIELD_NUMBER: _ClassVar[int]
    REWARD_VERSION_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SCORE_STD_FIELD_NUMBER: _ClassVar[int]
    CRITERION_SCORES_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_METHOD_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_START_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_STOP_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_START_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    media_type: str
    digest: str
    index: int
    width: int
    height: int
    prompt: str
    seed: int
    sampler: str
    steps: int
    guidance: float
    generator_version: str
    generator_name: str
    reward_version: str
    score: float
    score_std: float
    criterion_scores: _containers.ScalarMap[str, float]
    created_at: _timestamp_pb2.Timestamp
    guidance_method: GuidanceMethod
    guidance_start: float
    guidance_stop: float
    adapter_start: float
    negative_prompt: str
    def __init__(self, data: _Optional[bytes] = ..., media_type: _Optional[str] = ..., digest: _Optional[str] = ..., index: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., prompt: _Optional[str] = ..., seed: _Optional[int] = ..., sampler: _Optional[str] = ..., steps: _Optional[int] = ..., guidance: _Optional[float] = ..., generator_version: _Optional[str] = ..., generator_name: _Optional[str] = ..., reward_version: _Optional[str] = ..., score: _Optional[float] = ..., score_std: _Optional[float] = ..., criterion_scores: _Optional[_Mapping[str, float]] = ..., created_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., guidance_method: _Optional[_Union[GuidanceMethod, str]] = ..., guidance_start: _Optional[float] = ..., guidance_stop: _Optional[float] = ..., adapter_start: _Optional[float] = ..., negative_prompt: _Optional[str] = ...) -> None: ...

class DescribeGeneratorRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: str
    def __init__(self, version: _Optional[str] = ...) -> None: ...

class DescribeGeneratorResponse(_message.Message):
    __slots__ = ("generator_version", "generator_name", "width", "height", "sampler", "default_steps", "default_guidance", "open_vocabulary", "labels", "attributes", "example_prompts", "max_images_per_call", "max_images_per_stream", "max_steps", "max_guidance", "fallback_reason", "kernel", "samplers", "default_guidance_method", "default_guidance_start", "default_guidance_stop", "default_adapter_start", "guidance_methods")
    GENERATOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    GENERATOR_NAME_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    SAMPLER_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_STEPS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    OPEN_VOCABULARY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_PROMPTS_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGES_PER_CALL_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGES_PER_STREAM_FIELD_NUMBER: _ClassVar[int]
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    MAX_GUIDANCE_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_REASON_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    SAMPLERS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_GUIDANCE_METHOD_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_GUIDANCE_START_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_GUIDANCE_STOP_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_ADAPTER_START_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_METHODS_FIELD_NUMBER: _ClassVar[int]
    generator_version: str
    generator_name: str
    width: int
    height: int
    sampler: str
    default_steps: int
    default_guidance: float
    open_vocabulary: bool
    labels: _containers.RepeatedScalarFieldContainer[str]
    attributes: _containers.RepeatedCompositeFieldContainer[PromptAttribute]
    example_prompts: _containers.RepeatedScalarFieldContainer[str]
    max_images_per_call: int
    max_images_per_stream: int
    max_steps: int
    max_guidance: float
    fallback_reason: str
    kernel: str
    samplers: _containers.RepeatedScalarFieldContainer[str]
    default_guidance_method: GuidanceMethod
    default_guidance_start: float
    default_guidance_stop: float
    default_adapter_start: float
    guidance_methods: _containers.RepeatedScalarFieldContainer[GuidanceMethod]
    def __init__(self, generator_version: _Optional[str] = ..., generator_name: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., sampler: _Optional[str] = ..., default_steps: _Optional[int] = ..., default_guidance: _Optional[float] = ..., open_vocabulary: bool = ..., labels: _Optional[_Iterable[str]] = ..., attributes: _Optional[_Iterable[_Union[PromptAttribute, _Mapping]]] = ..., example_prompts: _Optional[_Iterable[str]] = ..., max_images_per_call: _Optional[int] = ..., max_images_per_stream: _Optional[int] = ..., max_steps: _Optional[int] = ..., max_guidance: _Optional[float] = ..., fallback_reason: _Optional[str] = ..., kernel: _Optional[str] = ..., samplers: _Optional[_Iterable[str]] = ..., default_guidance_method: _Optional[_Union[GuidanceMethod, str]] = ..., default_guidance_start: _Optional[float] = ..., default_guidance_stop: _Optional[float] = ..., default_adapter_start: _Optional[float] = ..., guidance_methods: _Optional[_Iterable[_Union[GuidanceMethod, str]]] = ...) -> None: ...

class PromptAttribute(_message.Message):
    __slots__ = ("name", "values")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ...) -> None: ...
