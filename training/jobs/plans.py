"""From what was asked (versions by name, whose ratings) to what a loop reads (folders, frozen inputs)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import vouch
from training.adaptation.config import AdaptConfig
from training.concepts.sublabels import freeze_sub_labels
from training.data.digest import digest_of
from training.inputs.pairs import PAIRS_FILE
from training.inputs.snapshot import freeze
from training.jobs.foundations import published_base
from vouch import recipes
from vouch.domains.criteria import Domain, load_domain
from vouch.errors import FailedPrecondition, InvalidInput
from vouch.models.networks.vision import check_folder
from vouch.recipes import Asked
from vouch.settings import Settings
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.storage.state import StateFolder
from vouch.types.run import Run
from vouch.types.version import Version

RATER = Path(vouch.__file__).parent / "starter" / "rater"
"""The attribute network that ships."""
JUDGE = Path(vouch.__file__).parent / "starter" / "judge"
"""The judge of blood cells that ships."""
DATA = {
    "images": "the images of --data",
    "backbone": "the folder of --backbone",
    "held_out": "the images of --held-out",
    "vae_features": "the folder of --vae-features",
    "vae": "the folder of --vae",
    "encoder": "the folder of --encoder",
    "embeddings": "the file of --embeddings",
    "features": "the folder of --features",
    "ratings": "the frozen ratings in its folder",
    "comparisons": "the frozen comparisons in its folder",
    "sub_labels": "the frozen sub-labels in its folder",
    "train": "the images of --train",
    "judge": "the folder of --judge",
}
"""What a run learns from, as its record names it and as a person knows it."""


@dataclass(frozen=True)
class Plan:
    """What a loop is to do, and as what its result is published."""

    config: dict[str, Any]
    kind: Literal["generator", "reward", "evidence"]
    """Evidence is attached to a version that is there; the others are published."""
    format: str = ""
    parent: str = ""
    name: str | None = None
    lineage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> dict[str, Any]:
        """What the run is bound to from its first attempt on, by digest."""
        return {"parent": self.parent, **self.lineage}


@dataclass(frozen=True)
class Store:
    """What a run finds where the settings say: state folder, catalog, blobs and versions."""

    folder: StateFolder
    catalog: Catalog
    blobs: BlobStore
    registry: Registry
    domain: Domain = field(default_factory=load_domain)

    @classmethod
    def open(cls, settings: Settings) -> Store:
        """Raises NotFound, InvalidInput."""
        catalog = Catalog(settings.resolved_catalog_url)
        registry = Registry(catalog, settings.folder.models, settings.models_url)
        blobs = BlobStore(settings.resolved_blobs_url)
        return cls(settings.folder, catalog, blobs, registry, load_domain(settings.domain))

    def serving(self, slot: str, ref: str) -> Version:
        """The version named, or the slot's champion."""
        return self.registry.get(ref or self.catalog.serving.get(slot).champion)


def plan(run: Run, store: Store) -> Plan:
    """Freezes the inputs of `run` and says what its loop is to do. A later attempt goes on upon the versions that the
    first one found, for its checkpoints belong to them, whatever serves by then.

    Raises:
        InvalidInput: a setting that the loop does not know, or an impossible value; names it.
        NotFound, CorruptVersion: a version that it asks for.
        FailedPrecondition: nothing to learn from, or an earlier attempt learned from other data.
    """
    asked, recipe = recipes.parse(run.kind, run.config, store.domain)
    folder = store.folder.run(run.run_id)
    folder.mkdir(parents=True, exist_ok=True)
    planners = {"pretrain": _pretrain, "reward": _reward, "align": _align, "concept": _concept}
    planner = {**planners, "adapt": _adapt, "evaluate": _evaluate}[run.kind]
    own = recipe.model_dump(mode="json", exclude_unset=True)
    if run.kind == "evaluate":
        own["version"], own["against"], own["first"] = _sides(own, store, run)
    agreed = planner(_pinned(asked, run), {**own, "out": str(folder / "version")}, store, folder)
    _check_unchanged(agreed, run)
    return agreed


def _pinned(asked: Asked, run: Run) -> Asked:
    """With the versions that an earlier attempt was bound to."""
    return asked.model_copy(
        update={slot: run.inputs[slot] for slot in ("parent", "reward") if run.inputs.get(slot)}
    )


def _check_unchanged(agreed: Plan, run: Run) -> None:
    """Raises FailedPrecondition where data are not what an earlier attempt learned from."""
    data = agreed.lineage["data"]
    changed = [
        DATA.get(name, name)
        for name, digest in run.inputs.get("data", {}).items()
        if data.get(name) != digest
    ]
    if changed:
        raise FailedPrecondition(
            f"Since {run.run_id} began, {' and '.join(changed)} changed, so it cannot go on to what its record says. "
            "Start a new run to learn from what is there now.",
            "INPUTS_CHANGED",
        )


def _pretrain(asked: Asked, own: dict[str, Any], store: Store, folder: Path) -> Plan:
    data = {**_data(own), **_further(own, ("held_out", "vae", "vae_features"))}
    return Plan(own, "generator", "diffusers", name=asked.name, lineage={"data": data})


def _reward(asked: Asked, own: dict[str, Any], store: Store, folder: Path) -> Plan:
    parent = store.serving("reward", asked.parent)
    frozen = freeze(store.catalog, store.blobs, folder, kinds=asked.kinds, domain=asked.domain)
    data = {"ratings": frozen.digest, **_comparisons(folder), **_data(own), **_backbone(own)}
    config = {**own, "parent": str(store.registry.open(parent.digest))}
    lineage = {
        "data": data,
        "ratings": list(frozen.ratings),
        "raters": dict(frozen.kinds),
    }
    return Plan(config, "reward", "reward", parent.digest, asked.name, lineage)


def _align(asked: Asked, own: dict[str, Any], store: Store, folder: Path) -> Plan:
    parent = store.serving("generator", asked.parent or asked.generator)
    reward = store.serving("reward", asked.reward)
    base = store.registry.base_of(parent.digest)
    frozen = freeze(store.catalog, store.blobs, folder, kinds=asked.kinds, domain=asked.domain)
    config = {
        **own,
        "base": str(store.registry.open(base.digest)),
        "parent": str(store.registry.open(parent.digest)) if parent.format == "lora" else None,
        "reward": str(store.registry.open(reward.digest)),
    }
    lineage = {
        "base": base.digest,
        "reward": reward.digest,
        "data": {"ratings": frozen.digest, **_comparisons(folder), **_data(own)},
        "ratings": list(frozen.ratings),
        "raters": dict(frozen.kinds),
    }
    return Plan(config, "generator", "lora", parent.digest, asked.name, lineage)


def _concept(asked: Asked, own: dict[str, Any], store: Store, folder: Path) -> Plan:
    parent = store.serving("generator", asked.parent or asked.generator)
    reward = store.serving("reward", asked.reward)
    data = _data(own)
    frozen = freeze_sub_labels(
        store.catalog, store.blobs, folder, concept=own["concept"], kind_of=own["kind_of"], kinds=asked.kinds
    )
    config = {
        **own,
        "base": str(store.registry.open(store.registry.base_of(parent.digest).digest)),
        "parent": str(store.registry.open(parent.digest)) if parent.format == "lora" else None,
        "reward": str(store.registry.open(reward.digest)),
        "rater": str(RATER) if RATER.is_dir() else None,
    }
    lineage = {
        "base": store.registry.base_of(parent.digest).digest,
        "reward": reward.digest,
        "data": {"sub_labels": frozen.digest, **data},
        "ratings": list(frozen.ratings),
        "raters": dict(frozen.kinds),
        "concept": {own["concept"]: own["kind_of"]},
    }
    return Plan(config, "generator", "diffusers", parent.digest, asked.name, lineage)


def _adapt(asked: Asked, own: dict[str, Any], store: Store, folder: Path) -> Plan:
    given = own.pop("base", None)
    if given and not asked.parent:  # an earlier attempt is bound to what it was published as
        parent = published_base(store.registry, Path(given))
    else:
        parent = store.serving("generator", asked.parent or asked.generator)
    base = store.registry.base_of(parent.digest)
    config = {
        **own,
        "base": str(store.registry.open(base.digest)),
        "parent": str(store.registry.open(parent.digest)) if parent.format == "lora" else None,
        "cache": str(store.folder.root / "latents"),
    }
    data = {**_data(config), **_further(config, ("encoder", "embeddings", "features"))}
    adapted = AdaptConfig.model_validate({**config, "domain": store.domain})
    form = "diffusers" if parent.format == "lora" else adapted.publishes
    return Plan(config, "generator", form, parent.digest, asked.name, {"base": base.digest, "data": data})


def _sides(own: Mapping[str, Any], store: Store, run: Run) -> tuple[str, str, str]:
    """Digests of the version, of the one that it is compared with, and of the first champion; of an earlier attempt
    where there was one."""
    bound = run.inputs
    version = store.registry.get(bound.get("version") or own["version"])
    against = store.serving("generator", bound.get("against") or own.get("against", ""))
    for side in (version, against):
        if side.kind != "generator":
            raise InvalidInput(f"{side.name} is a {side.kind}: `vouch evaluate` compares generators.")
    if version.digest == against.digest:
        raise FailedPrecondition(
            f"{version.name} is what it would be compared with: name another version with --against.",
            "SAME_VERSION",
        )
    if "version" in bound:
        return version.digest, against.digest, str(bound.get("first", ""))
    root = (
        store.registry.get(own["first"]) if own.get("first") else store.registry.lineage(against.digest)[-1]
    )
    return version.digest, against.digest, "" if root.digest == against.digest else root.digest


def _evaluate(asked: Asked, own: dict[str, Any], store: Store, folder: Path) -> Plan:
    data = {**_data(own), **_further(own, ("train", "judge"))}
    judge = own.get("judge") or _own_judge(store)
    own.setdefault("symmetric", store.domain.symmetric)
    sides = {name: own.pop(name) for name in ("version", "against", "first")}
    config = {
        **own,
        "judge": str(judge),
        "out": str(folder / "evidence"),
        "cache": str(store.folder.root / "features"),
        **{name: side(store, digest) if digest else None for name, digest in sides.items()},
    }
    return Plan(config, "evidence", lineage={"data": data, **sides})


def _own_judge(store: Store) -> Path:
    if store.domain.name != load_domain().name:
        raise InvalidInput(
            f"There is no judge for {store.domain.name} yet: name the folder of one with --judge.", "NO_JUDGE"
        )
    return JUDGE


def side(store: Store, ref: str) -> dict[str, Any]:
    """A version's files, and those of the model that it adapts, as an evaluation names them."""
    version = store.registry.get(ref)
    base = store.registry.base_of(version.digest)
    return {
        "name": version.name,
        "folder": str(store.registry.open(version.digest)),
        "base": None if base.digest == version.digest else str(store.registry.open(base.digest)),
    }


def _comparisons(folder: Path) -> dict[str, str]:
    """The digest of what experts compared, where they did."""
    path = folder / PAIRS_FILE
    return {"comparisons": digest_of(path)} if path.is_file() else {}


def _data(own: dict[str, Any]) -> dict[str, str]:
    """The digest of the real data set, and its path made absolute: workers run in another folder."""
    if not own.get("data"):
        return {}
    path = Path(own["data"]).expanduser().resolve()
    if not path.exists():
        raise InvalidInput(
            f"There is no file or folder {path}. Give labelled images as Parquet, tar or folder.", "NO_DATA"
        )
    own["data"] = str(path)
    return {"images": digest_of(path)}


def _further(own: dict[str, Any], names: Iterable[str]) -> dict[str, str]:
    """The digests of further files and folders, and their paths made absolute. Raises InvalidInput."""
    digests = {}
    for name in names:
        if not own.get(name):
            continue
        path = Path(own[name]).expanduser().resolve()
        if not path.exists():
            raise InvalidInput(f"Setting {name}: there is no file or folder {path}.", "NO_DATA")
        own[name], digests[name] = str(path), digest_of(path)
    return digests


def _backbone(own: dict[str, Any]) -> dict[str, str]:
    """The digest of a foreign backbone, and its path made absolute. Raises InvalidInput."""
    if not own.get("backbone"):
        return {}
    path = Path(own["backbone"]).expanduser().resolve()
    check_folder(path)
    own["backbone"] = str(path)
    return {"backbone": digest_of(path)}
