from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RatingKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RATING_KIND_UNSPECIFIED: _ClassVar[RatingKind]
    RATING_KIND_HUMAN: _ClassVar[RatingKind]
    RATING_KIND_SIMULATED: _ClassVar[RatingKind]

class Answer(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ANSWER_UNSPECIFIED: _ClassVar[Answer]
    ANSWER_PASS: _ClassVar[Answer]
    ANSWER_FAIL: _ClassVar[Answer]
    ANSWER_UNSURE: _ClassVar[Answer]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_PLAUSIBLE: _ClassVar[Verdict]
    VERDICT_IMPLAUSIBLE: _ClassVar[Verdict]
    VERDICT_UNSURE: _ClassVar[Verdict]

class ImageSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_SOURCE_UNSPECIFIED: _ClassVar[ImageSource]
    IMAGE_SOURCE_GENERATED: _ClassVar[ImageSource]
    IMAGE_SOURCE_REAL: _ClassVar[ImageSource]
    IMAGE_SOURCE_UPLOADED: _ClassVar[ImageSource]
RATING_KIND_UNSPECIFIED: RatingKind
RATING_KIND_HUMAN: RatingKind
RATING_KIND_SIMULATED: RatingKind
ANSWER_UNSPECIFIED: Answer
ANSWER_PASS: Answer
ANSWER_FAIL: Answer
ANSWER_UNSURE: Answer
VERDICT_UNSPECIFIED: Verdict
VERDICT_PLAUSIBLE: Verdict
VERDICT_IMPLAUSIBLE: Verdict
VERDICT_UNSURE: Verdict
IMAGE_SOURCE_UNSPECIFIED: ImageSource
IMAGE_SOURCE_GENERATED: ImageSource
IMAGE_SOURCE_REAL: ImageSource
IMAGE_SOURCE_UPLOADED: ImageSource

class Rating(_message.Message):
    __slots__ = ("rating_id", "image_digest", "rater", "kind", "answers", "verdict", "preference", "text", "duration_ms", "ui_version", "created_at", "supersedes", "domain", "generator_version", "prompt", "request_id")
    class AnswersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Answer
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Answer, str]] = ...) -> None: ...
    RATING_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RATER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    PREFERENCE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    UI_VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDES_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    GENERATOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    rating_id: str
    image_digest: str
    rater: str
    kind: RatingKind
    answers: _containers.ScalarMap[str, Answer]
    verdict: Verdict
    preference: Preference
    text: str
    duration_ms: int
    ui_version: str
    created_at: _timestamp_pb2.Timestamp
    supersedes: str
    domain: str
    generator_version: str
    prompt: str
    request_id: str
    def __init__(self, rating_id: _Optional[str] = ..., image_digest: _Optional[str] = ..., rater: _Optional[str] = ..., kind: _Optional[_Union[RatingKind, str]] = ..., answers: _Optional[_Mapping[str, Answer]] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., preference: _Optional[_Union[Preference, _Mapping]] = ..., text: _Optional[str] = ..., duration_ms: _Optional[int] = ..., ui_version: _Optional[str] = ..., created_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., supersedes: _Optional[str] = ..., domain: _Optional[str] = ..., generator_version: _Optional[str] = ..., prompt: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class Preference(_message.Message):
    __slots__ = ("other_image_digest", "preferred_digest")
    OTHER_IMAGE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PREFERRED_DIGEST_FIELD_NUMBER: _ClassVar[int]
    other_image_digest: str
    preferred_digest: str
    def __init__(self, other_image_digest: _Optional[str] = ..., preferred_digest: _Optional[str] = ...) -> None: ...

class RecordRatingRequest(_message.Message):
    __slots__ = ("request_id", "rating")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RATING_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    rating: Rating
    def __init__(self, request_id: _Optional[str] = ..., rating: _Optional[_Union[Rating, _Mapping]] = ...) -> None: ...

class ImportRatingsRequest(_message.Message):
    __slots__ = ("ratings",)
    RATINGS_FIELD_NUMBER: _ClassVar[int]
    ratings: _containers.RepeatedCompositeFieldContainer[Rating]
    def __init__(self, ratings: _Optional[_Iterable[_Union[Rating, _Mapping]]] = ...) -> None: ...

class ImportRatingsResponse(_message.Message):
    __slots__ = ("recorded", "already_recorded", "failed", "failures")
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    ALREADY_RECORDED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    recorded: int
    already_recorded: int
    failed: int
    failures: _containers.RepeatedCompositeFieldContainer[ImportFailure]
    def __init__(self, recorded: _Optional[int] = ..., already_recorded: _Optional[int] = ..., failed: _Optional[int] = ..., failures: _Optional[_Iterable[_Union[ImportFailure, _Mapping]]] = ...) -> None: ...

class ImportFailure(_message.Message):
    __slots__ = ("index", "request_id", "reason", "message")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    index: int
    request_id: str
    reason: str
    message: str
    def __init__(self, index: _Optional[int] = ..., request_id: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class RealImage(_message.Message):
    __slots__ = ("data", "prompt")
    DATA_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    prompt: str
    def __init__(self, data: _Optional[bytes] = ..., prompt: _Optional[str] = ...) -> None: ...

class ImportRealImagesRequest(_message.Message):
    __slots__ = ("images",)
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[RealImage]
    def __init__(self, images: _Optional[_Iterable[_Union[RealImage, _Mapping]]] = ...) -> None: ...

class ImportRealImagesResponse(_message.Message):
    __slots__ = ("stored", "already_stored", "failed", "failures")
    STORED_FIELD_NUMBER: _ClassVar[int]
    ALREADY_STORED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    stored: int
    already_stored: int
    failed: int
    failures: _containers.RepeatedCompositeFieldContainer[ImportFailure]
    def __init__(self, stored: _Optional[int] = ..., already_stored: _Optional[int] = ..., failed: _Optional[int] = ..., failures: _Optional[_Iterable[_Union[ImportFailure, _Mapping]]] = ...) -> None: ...

class ListRatingsRequest(_message.Message):
    __slots__ = ("image_digest", "rater", "kind", "generator_version", "include_superseded", "page_size", "page_token")
    IMAGE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RATER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    GENERATOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_SUPERSEDED_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    image_digest: str
    rater: str
    kind: RatingKind
    generator_version: str
    include_superseded: bool
    page_size: int
    page_token: str
    def __init__(self, image_digest: _Optional[str] = ..., rater: _Optional[str] = ..., kind: _Optional[_Union[RatingKind, str]] = ..., generator_version: _Optional[str] = ..., include_superseded: bool = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRatingsResponse(_message.Message):
    __slots__ = ("ratings", "next_page_token")
    RATINGS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ratings: _containers.RepeatedCompositeFieldContainer[Rating]
    next_page_token: str
    def __init__(self, ratings: _Optional[_Iterable[_Union[Rating, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class NextForReviewRequest(_message.Message):
    __slots__ = ("rater", "count", "generator_version", "label", "kind")
    RATER_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    GENERATOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    rater: str
    count: int
    generator_version: str
    label: str
    kind: RatingKind
    def __init__(self, rater: _Optional[str] = ..., count: _Optional[int] = ..., generator_version: _Optional[str] = ..., label: _Optional[str] = ..., kind: _Optional[_Union[RatingKind, str]] = ...) -> None: ...

class NextForReviewResponse(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ReviewItem]
    def __init__(self, items: _Optional[_Iterable[_Union[ReviewItem, _Mapping]]] = ...) -> None: ...

class ReviewItem(_message.Message):
    __slots__ = ("digest", "data", "media_type", "width", "height", "prompt")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    digest: str
    data: bytes
    media_type: str
    width: int
    height: int
    prompt: str
    def __init__(self, digest: _Optional[str] = ..., data: _Optional[bytes] = ..., media_type: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., prompt: _Optional[str] = ...) -> None: ...

class DescribeCriteriaRequest(_message.Message):
    __slots__ = ("domain",)
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    domain: str
    def __init__(self, domain: _Optional[str] = ...) -> None: ...

class DescribeCriteriaResponse(_message.Message):
    __slots__ = ("domain", "title", "criteria")
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    CRITERIA_FIELD_NUMBER: _ClassVar[int]
    domain: str
    title: str
    criteria: _containers.RepeatedCompositeFieldContainer[Criterion]
    def __init__(self, domain: _Optional[str] = ..., title: _Optional[str] = ..., criteria: _Optional[_Iterable[_Union[Criterion, _Mapping]]] = ...) -> None: ...

class Criterion(_message.Message):
    __slots__ = ("criterion_id", "question", "help")
    CRITERION_ID_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    HELP_FIELD_NUMBER: _ClassVar[int]
    criterion_id: str
    question: str
    help: str
    def __init__(self, criterion_id: _Optional[str] = ..., question: _Optional[str] = ..., help: _Optional[str] = ...) -> None: ...

class DescribeCallerRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeCallerResponse(_message.Message):
    __slots__ = ("name", "role", "kinds", "any_rater")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    ANY_RATER_FIELD_NUMBER: _ClassVar[int]
    name: str
    role: str
    kinds: _containers.RepeatedScalarFieldContainer[RatingKind]
    any_rater: bool
    def __init__(self, name: _Optional[str] = ..., role: _Optional[str] = ..., kinds: _Optional[_Iterable[_Union[RatingKind, str]]] = ..., any_rater: bool = ...) -> None: ...

class GetImageRequest(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    def __init__(self, digest: _Optional[str] = ...) -> None: ...

class StoredImage(_message.Message):
    __slots__ = ("digest", "data", "media_type", "size_bytes", "width", "height", "source", "prompt", "seed", "sampler", "steps", "guidance", "generator_version", "generator_name", "reward_version", "score", "score_std", "criterion_scores", "request_id", "rating_count", "created_at", "label", "guidance_method", "guidance_start", "guidance_stop", "adapter_start", "negative_prompt")
    class CriterionScoresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
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
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RATING_COUNT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_METHOD_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_START_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_STOP_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_START_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    digest: str
    data: bytes
    media_type: str
    size_bytes: int
    width: int
    height: int
    source: ImageSource
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
    request_id: str
    rating_count: int
    created_at: _timestamp_pb2.Timestamp
    label: str
    guidance_method: str
    guidance_start: float
    guidance_stop: float
    adapter_start: float
    negative_prompt: str
    def __init__(self, digest: _Optional[str] = ..., data: _Optional[bytes] = ..., media_type: _Optional[str] = ..., size_bytes: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., source: _Optional[_Union[ImageSource, str]] = ..., prompt: _Optional[str] = ..., seed: _Optional[int] = ..., sampler: _Optional[str] = ..., steps: _Optional[int] = ..., guidance: _Optional[float] = ..., generator_version: _Optional[str] = ..., generator_name: _Optional[str] = ..., reward_version: _Optional[str] = ..., score: _Optional[float] = ..., score_std: _Optional[float] = ..., criterion_scores: _Optional[_Mapping[str, float]] = ..., request_id: _Optional[str] = ..., rating_count: _Optional[int] = ..., created_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., label: _Optional[str] = ..., guidance_method: _Optional[str] = ..., guidance_start: _Optional[float] = ..., guidance_stop: _Optional[float] = ..., adapter_start: _Optional[float] = ..., negative_prompt: _Optional[str] = ...) -> None: ...

class ListImagesRequest(_message.Message):
    __slots__ = ("generator_version", "label", "request_id", "page_size", "page_token")
    GENERATOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    generator_version: str
    label: str
    request_id: str
    page_size: int
    page_token: str
    def __init__(self, generator_version: _Optional[str] = ..., label: _Optional[str] = ..., request_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListImagesResponse(_message.Message):
    __slots__ = ("images", "next_page_token")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[StoredImage]
    next_page_token: str
    def __init__(self, images: _Optional[_Iterable[_Union[StoredImage, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
