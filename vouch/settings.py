"""The frozen tree of settings and the state folder of a system.

Sources, strongest first: arguments, environment (`VOUCH_STATE`, `VOUCH_SERVER__GRPC_PORT` …), a JSON file.
Every source refuses an unknown name, so that a typo never runs with the default.
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
"""Variable that carries all settings of a system to the processes that it starts."""
# Read by the client, by training jobs and by `load_settings`.
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
# Kubernetes sets these variables in containers beside a service named vouch.
_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT(_\d+_(TCP|UDP)(_\w+)?)?$")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSettings(_Section):
    """Addresses, authentication and TLS."""

    host: str = "127.0.0.1"
    grpc_port: int = Field(default=9000, ge=1, le=65535)
    http_port: int = Field(default=8000, ge=1, le=65535)
    proxy: Literal["haproxy", "plain"] = "haproxy"
    """Ray Serve's HAProxy mode, or its own Python proxy (about four times the latency)."""
    auth: bool = True
    """Require tokens. False makes every caller an operator; allowed only on a loopback address."""
    trust_network: bool = False
    """Serve even if internal ports, which require no token, are reachable from other machines."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    gateways: int = Field(default=1, ge=1, le=64)
    """Replicas of the gateway. Several on different nodes of a cluster survive the loss of one."""

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in ("127.0.0.1", "::1", "localhost")

    @property
    def url_host(self) -> str:
        """The host for an address with a port; an IPv6 address is put in brackets."""
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
    """Folder or hub id of a model to serve instead of the starter model; "" is the starter."""
    replicas: int = Field(default=1, ge=1, le=256)
    threads: int = Field(default=0, ge=0, le=1024)
    """torch threads per replica; 0 divides the machine's cores among the replicas."""
    max_batch: int = Field(default=16, ge=1, le=1024)
    max_queued: int = Field(default=256, ge=1)
    """Maximum number of waiting requests; further ones are refused with RESOURCE_EXHAUSTED."""
    max_ongoing: int = Field(default=128, ge=100)
    """Ray Serve's limit of concurrent requests per replica; Serve's default of 5 would limit throughput."""


class GenerationSettings(ModelSettings):
    """The generation deployment, which can scale with its queue."""

    max_batch: int = Field(default=32, ge=1, le=1024)
    """Slots, images denoised concurrently. More slots raise throughput (two cores: 136 image-steps/s with 16, 170
    with 32) and the latency of each image."""
    step_rows: int = Field(default=16, ge=1, le=1024)
    """Rows per step at which cost per row levels off; a guided image takes two rows. A step is larger only when more
    than twice as many rows wait. 8 to 16 on two cores; more on a GPU."""
    gpus: float = Field(default=0.0, ge=0, le=1)
    """GPUs per replica; a fraction shares one. 0 generates on the CPU."""
    compile: bool = True
    """Compile the U-Net in the background after the start (needs a C++ compiler; 1 to 2 minutes on two cores)."""
    packages: Path | None = None
    """Folder for compiled code; None is the user's cache folder. It holds native code: keep it private."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the U-Net's matrix products. bfloat16 is faster on processors that support it; pixels differ
    by some grey levels."""
    max_replicas: int = Field(default=0, ge=0, le=256)
    """Maximum number of replicas when images wait; `replicas` is the minimum. 0: no scaling. Replicas on one machine
    share its cores, so use this with several GPUs or a cluster."""
    idle_s: float = Field(default=300.0, gt=0)
    """Seconds without an image before the replicas above `replicas` are removed."""

    @model_validator(mode="after")
    def _not_less_at_most(self) -> GenerationSettings:
        if 0 < self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas is {self.max_replicas}, fewer than replicas, {self.replicas}")
        return self

    @property
    def most_replicas(self) -> int:
        return max(self.replicas, self.max_replicas)


class RewardSettings(ModelSettings):
    """The reward deployment. Its model is small, so that larger batches cost little."""

    max_batch: int = Field(default=64, ge=1, le=4096)


class ReviewSettings(_Section):
    """Selection of images for review."""

    threshold: float = Field(default=0.5, ge=0, le=1)
    """Score threshold of filtering; verdicts on images near it are the most informative."""
    uniform_share: float = Field(default=0.2, ge=0, le=0.5)
    """Fraction of new images sampled uniformly, from an equal fraction of all images that is reserved for it. Their
    ratings calibrate and evaluate rewards. With the defaults below, a sixth of all images handed out."""
    real_share: float = Field(default=0.07, ge=0, le=0.5)
    """Fraction of hidden real images, which measure a rater's reliability."""
    repeat_share: float = Field(default=0.07, ge=0, le=0.5)
    """Fraction of images that the rater has rated before, which measure the rater's consistency."""


class RolloutSettings(_Section):
    """How a candidate is promoted."""

    poll_s: float = Field(default=0.5, gt=0, le=60)
    """Seconds between a replica's polls of the desired state."""
    steps_percent: tuple[int, ...] = (5, 25, 100)
    """Default shares of new requests in percent, ascending, the last is 100."""
    judge: Path | None = None
    """Folder of the judge that compares a candidate with the champion. None: the starter's judge, for blood cells.
    Without a judge there is no evidence, and rollouts are manual."""

    @model_validator(mode="after")
    def _rising(self) -> RolloutSettings:
        steps = self.steps_percent
        if not steps or steps[-1] != 100 or any(a >= b for a, b in zip((0, *steps), steps, strict=False)):
            raise ValueError("steps_percent must rise, begin above 0 and end with 100")
        return self


class TrainingSettings(_Section):
    """Resources of training jobs."""

    inside: bool = True
    """Run queued training inside the system. False leaves it to `python -m training.run --queued` elsewhere."""
    nice: int = Field(default=19, ge=0, le=19)
    """Scheduling priority of a job, as for nice(1); 19 is the lowest."""
    threads: int = Field(default=1, ge=1, le=1024)
    """CPU threads per worker."""
    workers: int = Field(default=1, ge=1, le=1024)
    """Ray Train workers per job; they split every batch."""
    min_workers: int = Field(default=0, ge=0, le=1024)
    """Minimum number of workers. A job continues with as few when nodes of a cluster are lost, and scales back to
    `workers` when they return. 0: the same as `workers`, so that a job waits for all."""
    data: Path | None = None
    """Folder of the image sets and backbones that callers may name. None: any path if the system listens on a loopback
    address, no path otherwise."""
    gpus: float = Field(default=0.0, ge=0, le=8)
    """GPUs per worker. 0 trains on the CPU."""

    @model_validator(mode="after")
    def _not_more_at_least(self) -> TrainingSettings:
        if self.min_workers > self.workers:
            raise ValueError(f"min_workers is {self.min_workers}, more than workers, {self.workers}")
        return self


class RetrainingSettings(_Section):
    """Automatic retraining of the reward model. Off unless `new_ratings` or `drift` is set."""

    new_ratings: int | None = Field(default=None, ge=20)
    """Human ratings since the last training that trigger a retraining."""
    drift: float | None = Field(default=None, gt=0, lt=1)
    """Fraction of new verdicts that contradict the serving reward model; significantly more trigger a retraining."""
    cooldown_h: float = Field(default=24.0, gt=0)
    """Minimum hours between two automatic trainings."""
    runs_in_30_days: int = Field(default=4, ge=1)
    """Maximum number of automatic trainings in 30 days."""
    hold_s: float = Field(default=600.0, ge=0)
    """Minimum seconds at each share of the rollout of a retrained reward model."""


class RetentionSettings(_Section):
    """Retention periods of `vouch gc`. Ratings, rated images, lineages and model versions are always kept."""

    unnamed_hours: float = Field(default=24.0, ge=1)
    """Hours after which unreferenced blobs and version folders expire. The record of a younger one may still follow."""
    checkpoints_days: float = Field(default=7.0, ge=0)
    """Days after the end of a run until its checkpoints expire."""
    runs_days: float = Field(default=90.0, ge=0)
    """Days after the end of a run until its folder with the log expires. Its record is kept."""
    logs_days: float = Field(default=30.0, ge=0)
    """Days after which logs of calls and of Ray expire."""
    images_days: float | None = Field(default=None, ge=1)
    """Days after which generated images expire that were neither rated nor handed out for review and are in no lineage.
    None: never. A repeated request generates an expired image again."""


class Settings(BaseSettings):
    """The whole tree. Create it with `load_settings`, which raises `InvalidInput`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    state: Path = Path("state")
    """State folder of the system."""
    domain: str = "blood_cells"
    """Name of a shipped domain, or folder of a custom one (docs/how-to/own-domain.md)."""
    catalog_url: str = Field(default="", repr=False)
    """SQLAlchemy URL, e.g. postgresql://user@host/vouch; "" is SQLite in the state folder."""
    blobs_url: str = ""
    """fsspec URL, e.g. s3://bucket/vouch; "" is the state folder."""
    models_url: str = ""
    """fsspec URL of the model versions, e.g. s3://bucket/models; "" is the state folder, which all machines must then
    share."""
    ray_address: str = ""
    """HOST:PORT of the head of a running Ray cluster on which `vouch up` serves; "" starts Ray on this machine."""
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
        return (init_settings, env_settings)  # a .env file is never read

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
        """Beside the images: records of images that wait for the catalog."""
        return f"{self.resolved_blobs_url.rstrip('/')}-outbox"

    def snapshot(self) -> str:
        """These settings as JSON, for a process that must not read its own environment. It contains the catalog's
        password: pass it in an environment variable or a private file, and never log it."""
        return self.model_copy(update={"state": self.folder.root}).model_dump_json()


def settings_of_snapshot(text: str) -> Settings:
    """Settings from `Settings.snapshot`; neither the environment nor a file changes them. Raises InvalidInput."""
    try:
        return Settings.model_validate_json(text)
    except ValidationError as error:
        raise InvalidInput(_complaint(error), "INVALID_SETTING") from error


def load_settings(file: Path | None = None, **overrides: Any) -> Settings:
    """The settings of this process. `overrides` are top-level fields; None means "not set".

    `file` (or `VOUCH_SETTINGS`) names a JSON file of the same tree.

    Raises:
        InvalidInput: an unknown name or a value out of range; the message names it.
    """
    _refuse_unknown_variables(os.environ)
    named = file or (Path(os.environ["VOUCH_SETTINGS"]) if os.environ.get("VOUCH_SETTINGS") else None)
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        from_file = _read_file(named) if named else {}
        # The environment overrides the file.
        return Settings(**_merge(_merge(from_file, _from_environment()), given))
    except ValidationError as error:
        raise InvalidInput(_complaint(error), "INVALID_SETTING") from error


def _from_environment() -> dict[str, Any]:
    """The values set by the environment, without defaults."""
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
