"""The initial models: the shipped ones, or the folders of the settings."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import vouch
from services.trial import try_model
from vouch.errors import AlreadyExists, FailedPrecondition, InvalidInput
from vouch.models.folders import check_generator_folder, check_reward_folder
from vouch.models.scale import read_scale
from vouch.settings import Settings
from vouch.storage.catalog import Catalog
from vouch.storage.catalog.tokens import ADMINISTRATOR
from vouch.storage.registry import Registry
from vouch.types.version import Version, VersionKind

STARTER = Path(vouch.__file__).parent / "starter"
FORMATS: dict[VersionKind, str] = {"generator": "diffusers", "reward": "reward"}


CHECKS = {"generator": check_generator_folder, "reward": check_reward_folder}


def check_models(settings: Settings) -> None:
    """Checks the folders of the settings without loading them, before anything starts.

    Raises InvalidInput, naming the part and the remedy.
    """
    for kind, model in _named(settings):
        if model and not _is_hub_id(model):
            path = Path(model).expanduser()
            CHECKS[kind](path if path.is_file() else _folder(model))


def _named(settings: Settings) -> tuple[tuple[VersionKind, str], ...]:
    return ("generator", settings.generation.model), ("reward", settings.reward.model)


def check_serving(settings: Settings, since: datetime) -> tuple[str, ...]:
    """What the replicas that reported after `since` (UTC) could not load though they serve: sentences for people.

    Raises FailedPrecondition where a slot has replicas and none of them serves anything.
    """
    warnings = []
    with Catalog(settings.resolved_catalog_url) as catalog:
        for kind in FORMATS:
            reports = catalog.reports.list(kind, newer_than=since)
            refused = [report for report in reports if not report.ok]
            if refused and not any(report.champion_version for report in reports):
                raise FailedPrecondition(
                    f"The {kind} that this state folder serves cannot be loaded: {refused[0].reason} "
                    f"Or name another model with --{kind}.",
                    "NO_MODEL",
                )
            warnings += [f"the {kind} serves an earlier version: {report.reason}" for report in refused]
    return tuple(dict.fromkeys(warnings))


def _is_hub_id(model: str) -> bool:
    return not Path(model).expanduser().is_dir() and bool(re.fullmatch(r"[\w.-]+/[\w.-]+", model))


def publish_models(settings: Settings) -> None:
    """Publish what is not published yet, and let a slot that serves nothing serve it.

    A folder named by a setting takes the champion's place when it is first seen; later starts leave alone what a
    rollout has put there. Raises InvalidInput (no such folder, or no model in it that can be served) and StorageFull.
    """
    with Catalog(settings.resolved_catalog_url) as catalog:
        registry = Registry(catalog, settings.folder.models, settings.models_url)
        for kind, model in _named(settings):
            _publish(catalog, registry, kind, model)


def _publish(catalog: Catalog, registry: Registry, kind: VersionKind, model: str) -> None:
    if not model:  # it has been tried when it was made
        serving = {slot.slot for slot in catalog.serving.list()}
        if kind not in serving:
            catalog.serving.ensure(kind, _starter(registry, kind).digest)
        return
    known, folder = {version.digest for version in registry.list(kind)}, _folder(model)
    CHECKS[kind](folder)
    try_model(kind, folder)
    version = _foreign(registry, kind, folder)
    catalog.serving.ensure(kind, version.digest)
    if version.digest not in known and catalog.serving.get(kind).champion != version.digest:
        catalog.rollouts.start(
            kind,
            version.digest,
            percent=100,
            actor=ADMINISTRATOR,
            request_id=f"named-{version.digest}",
            reason=f"named by vouch up --{kind}",
        )


def _starter(registry: Registry, kind: VersionKind) -> Version:
    folder = STARTER / kind
    if not folder.is_dir():
        raise InvalidInput(
            f"This installation has no starter model for the {kind} ({folder}). Name a folder in the setting "
            f"VOUCH_{'GENERATION' if kind == 'generator' else 'REWARD'}__MODEL."
        )
    lineage = {"command": "ships with vouch", "notes": "see vouch/starter/README.md", **_scale(kind, folder)}
    return registry.publish(folder, kind=kind, format=FORMATS[kind], name=f"starter-{kind}", lineage=lineage)


def _foreign(registry: Registry, kind: VersionKind, folder: Path) -> Version:
    label = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")[:40] or "own"
    lineage = {"command": f"vouch up --{kind} {folder}", **_scale(kind, folder)}
    try:
        return registry.publish(
            folder, kind=kind, format=FORMATS[kind], name=f"{kind}-{label}", lineage=lineage
        )
    except AlreadyExists:  # another folder of that name
        return registry.publish(folder, kind=kind, format=FORMATS[kind], label=label, lineage=lineage)


def _scale(kind: VersionKind, folder: Path) -> dict[str, object]:
    """The scale of a reward version's scores."""
    return {"scale": read_scale(folder).as_json()} if kind == "reward" else {}


def _folder(model: str) -> Path:
    """A local folder, or the local copy of a hub id."""
    path = Path(model).expanduser()
    if path.is_dir():
        return path.absolute()
    if not _is_hub_id(model):
        raise InvalidInput(
            f"There is no folder {path}: name a diffusers folder, or a hub id such as owner/name."
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]))
    except Exception as error:  # the hub's library raises a dozen kinds
        raise InvalidInput(
            f"{model} is neither a folder nor a model that the hub hands out: {error}"
        ) from error
