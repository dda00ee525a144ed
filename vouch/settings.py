"""One frozen tree of settings, and the folder where a system keeps its state.

Read from, strongest first: arguments, environment (`VOUCH_STATE`, `VOUCH_SERVER__GRPC_PORT` …), a JSON file.
A name that does not exist fails, in each of the three: a typo must never run with the default.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from vouch.errors import InvalidInput
from vouch.storage.state import Access, StateFolder

__all__ = ["Access", "Settings", "StateFolder", "load_settings"]

PREFIX = "VOUCH_"
SNAPSHOT = "VOUCH_SNAPSHOT"
"""How a system passes its settings, whole, to the processes that it starts."""
# Read elsewhere: where the client connects, what the jobs service tells a job, where settings come from.
OTHER_VARIABLES = frozenset(
    {
        "VOUCH_ADDRESS",
        "VOUCH_CA",
        "VOUCH_DEBUG",
        "VOUCH_TOKEN",
        "VOUCH_TRACES",
        "VOUCH_SETTINGS",
        SNAPSHOT,
    }
)
# Kubernetes puts such variables beside every container of a service that is called vouch.
_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT(_\d+_(TCP|UDP)(_\w+)?)?$")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSettings(_Section):
    """Where the system listens."""

    host: str = "127.0.0.1"
    grpc_port: int = Field(default=9000, ge=1, le=65535)
    http_port: int = Field(default=8000, ge=1, le=65535)
    proxy: Literal["haproxy", "plain"] = "haproxy"
    """Ray Serve's HAProxy mode, or its own Python proxy (about four times the latency)."""
    auth: bool = True
    """False admits everybody as an operator; allowed on a loopback address alone."""
    trust_network: bool = False
    """Serve even where inner ports, which ask for no token, can be reached from other machines."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    gateways: int = Field(default=1, ge=1, le=64)
    """Replicas of the gateway. Several on different nodes of a cluster outlive the loss of one."""

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can call."""
        return self.host in ("127.0.0.1", "::1", "localhost")

    @property
    def url_host(self) -> str:
        """The host as an address with a port takes it: an IPv6 one in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @model_validator(mode="after")
    def _guarded(self) -> ServerSettings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: give both or none")
        if self.grpc_port == self.http_port:
            raise ValueError(f"grpc_port and http_port are both {self.grpc_port}: give them different ones")
        if self.on_loopback:
            return self
        if self.tls_cert is None:
            raise ValueError(
                f"host {self.host} is not this machine alone: give tls_cert and tls_key, or 127.0.0.1"
            )
        if not self.auth:
            raise ValueError(
                f"auth=false on host {self.host} would make everybody an operator: use 127.0.0.1"
            )
        return self


class ModelSettings(_Section):
    """One deployment that holds a model."""

    model: str = ""
    """A folder (or hub id) that takes the starter model's place; "" is the starter."""
    replicas: int = Field(default=1, ge=1, le=256)
    threads: int = Field(default=0, ge=0, le=1024)
    """torch threads of a replica; 0 shares the machine's cores out."""
    max_batch: int = Field(default=16, ge=1, le=1024)
    max_queued: int = Field(default=256, ge=1)
    """Requests that wait; one more is refused with RESOURCE_EXHAUSTED."""
    max_ongoing: int = Field(default=128, ge=100)
    """Serve's limit per replica; its own default of 5 collapses throughput."""


class GenerationSettings(ModelSettings):
    """Images queue, so this deployment may grow with its queue."""

    max_batch: int = Field(default=32, ge=1, le=1024)
    """Slots. More use the cores better when all are taken (two cores: 136 image-steps/s with 16, 170 with 32), and
    then each image takes longer."""
    step_rows: int = Field(default=16, ge=1, le=1024)
    """Rows of a step (two for a guided image) at which one costs about as little as it ever does; a step is larger only
    when more than twice as many wait. On two cores 8 to 16; a GPU wants more."""
    gpus: float = Field(default=0.0, ge=0, le=1)
    """GPUs of a replica, or the part of one that it may share; 0 draws on the CPU."""
    compile: bool = True
    """Compile the U-Net beside the first serving (needs a C++ compiler; a minute or two on two cores)."""
    packages: Path | None = None
    """Where compiled code is kept; None is the user's cache. Native code: nobody else may write there."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the U-Net's products. bfloat16 where the processor has units for it: faster, and some grey levels away."""
    max_replicas: int = Field(default=0, ge=0, le=256)
    """Replicas when images wait, `replicas` being the fewest; 0 keeps to `replicas`. All share one machine's cores, so
    this is for machines with several GPUs and for clusters."""
    idle_s: float = Field(default=300.0, gt=0)
    """Seconds without an image before the replicas above `replicas` end."""

    @model_validator(mode="after")
    def _not_less_at_most(self) -> GenerationSettings:
        if 0 < self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas is {self.max_replicas}, fewer than replicas, {self.replicas}")
        return self

    @property
    def most_replicas(self) -> int:
        return max(self.replicas, self.max_replicas)


class RewardSettings(ModelSettings):
    """The reward model is small: larger batches cost it little."""

    max_batch: int = Field(default=64, ge=1, le=4096)


class ReviewSettings(_Section):
    """Which images experts are asked about."""

    threshold: float = Field(default=0.5, ge=0, le=1)
    """The score that images are filtered by: verdicts near it teach the most."""
    uniform_share: float = Field(default=0.2, ge=0, le=0.5)
    """Of new images that are drawn uniformly, from as large a share of all images that no score decides about: rewards
    are calibrated and measured on their ratings. With the shares below, a sixth of all that is handed out."""
    real_share: float = Field(default=0.07, ge=0, le=0.5)
    """Of hidden real images, which show how reliable a rater is."""
    repeat_share: float = Field(default=0.07, ge=0, le=0.5)
    """Of images that the rater has seen before, likewise."""


class RolloutSettings(_Section):
    """How a candidate comes into serving."""

    poll_s: float = Field(default=0.5, gt=0, le=60)
    """How often a replica looks at the desired state."""
    steps_percent: tuple[int, ...] = (5, 25, 100)
    judge: Path | None = None
    """Folder of the judge that compares a candidate with the champion. None: the starter's, for blood cells; without a
    judge nothing is proven, and rollouts move by an operator's word alone."""

    @model_validator(mode="after")
    def _rising(self) -> RolloutSettings:
        steps = self.steps_percent
        if not steps or steps[-1] != 100 or any(a >= b for a, b in zip((0, *steps), steps, strict=False)):
            raise ValueError("steps_percent must rise, begin above 0 and end with 100")
        return self


class TrainingSettings(_Section):
    """How much of the machine a training job may take from serving."""

    inside: bool = True
    """The system carries out its queued runs itself. False leaves them to `python -m training.run --queued`, a job on a
    cluster of its own."""
    nice: int = Field(default=19, ge=0, le=19)
    threads: int = Field(default=1, ge=1, le=1024)
    workers: int = Field(default=1, ge=1, le=1024)
    """Ray Train workers of a job; they share every batch."""
    min_workers: int = Field(default=0, ge=0, le=1024)
    """The fewest with which a job goes on when nodes of a cluster leave; it grows to `workers` when they are back.
    0 is `workers`: a job waits until there is room for all."""
    data: Path | None = None
    """The folder in which callers name image sets and backbones. None: any path while the system listens on a loopback
    address, and none otherwise."""
    gpus: float = Field(default=0.0, ge=0, le=8)
    """Of each worker. With none it computes on the CPU."""

    @model_validator(mode="after")
    def _not_more_at_least(self) -> TrainingSettings:
        if self.min_workers > self.workers:
            raise ValueError(f"min_workers is {self.min_workers}, more than workers, {self.workers}")
        return self


class RetrainingSettings(_Section):
    """When the reward model is trained again by itself. Off unless `new_ratings` or `drift` is set."""

    new_ratings: int | None = Field(default=None, ge=20)
    """Ratings by people since the last training that are enough for another."""
    drift: float | None = Field(default=None, gt=0, lt=1)
    """Share of new verdicts that the serving reward model may contradict; more, beyond chance, trains it again."""
    cooldown_h: float = Field(default=24.0, gt=0)
    """Hours between two trainings that begin by themselves."""
    runs_in_30_days: int = Field(default=4, ge=1)
    """The budget of trainings that begin by themselves."""
    hold_s: float = Field(default=600.0, ge=0)
    """How long each share of the rollout that follows is held at least."""


class RetentionSettings(_Section):
    """What `vouch gc` may remove. Ratings, rated images, lineages and model versions are always kept."""

    unnamed_hours: float = Field(default=24.0, ge=1)
    """Age of blobs and version folders that no record names; younger ones may be about to be named."""
    checkpoints_days: float = Field(default=7.0, ge=0)
    """After the end of a run, for its checkpoints."""
    runs_days: float = Field(default=90.0, ge=0)
    """After the end of a run, for its folder with the log. Its record stays."""
    logs_days: float = Field(default=30.0, ge=0)
    """Age of logs of calls and of Ray."""
    images_days: float | None = Field(default=None, ge=1)
    """Age of generated images that nobody rated, that were not handed out for review, and that no lineage names.
    None keeps them for ever. A repeated request whose image is gone draws it again."""


class Settings(BaseSettings):
    """The whole tree. Make one with `load_settings`, which turns complaints into `InvalidInput`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    state: Path = Path("state")
    domain: str = "blood_cells"
    """A shipped domain, or the folder of another one (docs/how-to/own-domain.md)."""
    catalog_url: str = Field(default="", repr=False)
    """SQLAlchemy URL, e.g. postgresql://user@host/vouch; "" is SQLite in the state folder."""
    blobs_url: str = ""
    """fsspec URL, e.g. s3://bucket/vouch; "" is the state folder."""
    models_url: str = ""
    """fsspec URL of the model versions, e.g. s3://bucket/models; "" is the state folder, which then every machine
    must share."""
    ray_address: str = ""
    """HOST:PORT of the head of a Ray cluster that runs already, on which `vouch up` then serves; "" starts a Ray of its
    own on this machine."""
    server: ServerSettings = ServerSettings()
    generation: GenerationSettings = GenerationSettings()
    reward: RewardSettings = RewardSettings()
    review: ReviewSettings = ReviewSettings()
    rollout: RolloutSettings = RolloutSettings()
    training: TrainingSettings = TrainingSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    retention: RetentionSettings = RetentionSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings)  # a .env file that happens to lie around changes nothing

    @property
    def folder(self) -> StateFolder:
        return StateFolder(self.state)

    @property
    def resolved_catalog_url(self) -> str:
        return self.catalog_url or self.folder.catalog_url

    @property
    def resolved_blobs_url(self) -> str:
        return self.blobs_url or str(self.folder.blobs)

    @property
    def resolved_outbox_url(self) -> str:
        """Beside the images, where the records of some wait for the catalog."""
        return f"{self.resolved_blobs_url.rstrip('/')}-outbox"

    def snapshot(self) -> str:
        """These settings as JSON, for a process that must not read its own environment for them. It holds the
        catalog's password: pass it in an environment variable or a private file, and never log it."""
        return self.model_copy(update={"state": self.folder.root}).model_dump_json()


def settings_of_snapshot(text: str) -> Settings:
    """What `Settings.snapshot` wrote; neither the environment nor a file changes it. Raises InvalidInput."""
    try:
        return Settings.model_validate_json(text)
    except ValidationError as error:
        raise InvalidInput(_complaint(error), "INVALID_SETTING") from error


def load_settings(file: Path | None = None, **overrides: Any) -> Settings:
    """The settings of this process. `overrides` are top-level fields; None means "not given".

    `file` (or `VOUCH_SETTINGS`) names a JSON file of the same tree.

    Raises:
        InvalidInput: an unknown name or a value out of range, said by name.
    """
    _refuse_unknown_variables(os.environ)
    named = file or (Path(os.environ["VOUCH_SETTINGS"]) if os.environ.get("VOUCH_SETTINGS") else None)
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        from_file = _read_file(named) if named else {}
        # The environment is stronger than the file, so the file only fills what it leaves open.
        return Settings(**_merge(_merge(from_file, _from_environment()), given))
    except ValidationError as error:
        raise InvalidInput(_complaint(error), "INVALID_SETTING") from error


def _from_environment() -> dict[str, Any]:
    """What the environment sets, and nothing of the defaults."""
    return EnvSettingsSource(Settings)()


def _read_file(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidInput(
            f"The settings file {path} cannot be read: {error.strerror}.", "INVALID_SETTING"
        ) from error
    except ValueError as error:
        raise InvalidInput(f"The settings file {path} is not JSON: {error}.", "INVALID_SETTING") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"The settings file {path} must hold one JSON object.", "INVALID_SETTING")
    return value


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for name, value in over.items():
        below = merged.get(name)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[name] = _merge(below, value) if both and below is not None else value
    return merged


def _known_variables() -> set[str]:
    known = set(OTHER_VARIABLES)
    for name, field in Settings.model_fields.items():
        known.add(f"{PREFIX}{name}".upper())
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            known.update(f"{PREFIX}{name}__{inner}".upper() for inner in group.model_fields)
    return known


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    known = _known_variables()
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name.upper() in known or _KUBERNETES.search(name):
            continue
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else f" Known are: {', '.join(sorted(known))}."
        raise InvalidInput(
            f"The environment variable {name} is not a setting of vouch.{hint}", "UNKNOWN_SETTING"
        )


def _complaint(error: ValidationError) -> str:
    lines = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in item["loc"]) or "settings"
        what = "there is no such setting" if item["type"] == "extra_forbidden" else item["msg"]
        lines.append(f"{where}: {what}")
    return "; ".join(lines)
