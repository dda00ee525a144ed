"""Every public option of an adaptation changes a run, or is refused where it would change nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.dicom_files import dicom, write
from tests.foundations import SIZE, WORDS, save_chests, save_foundation
from tests.text_encoders import save_bert
from training.adaptation.config import AdaptConfig
from training.adaptation.fit import fit
from training.loop.progress import TrainingProgress
from training.loop.session import TrainingSession
from training.loop.tracker import NoTracker
from vouch import recipes
from vouch.domains.criteria import load_domain
from vouch.errors import InvalidInput, VouchError
from vouch.models.embeddings import LearnedWord, write_words
from vouch.models.networks.attributes import AttributeNet
from vouch.recipes import nested

Settings = dict[str, Any]
FEW: Settings = {
    "steps": 3, "batch": 4, "threads": 1, "lr": 1e-2, "warmup": 1, "cooldown": 0.0, "validate_every": 2,
    "precision": "float32", "ema": 0.5, "validated": 3,
}  # fmt: skip
KEPT: Settings = {"keep_vae": True}
PRIOR: Settings = {"prior.weight": 0.5, "prior.images": 4, "prior.prompts": ("chest", "photo")}
PLAIN: Mapping[str, Settings] = {
    "unet": {**FEW, **KEPT, "rank": 2},
    "kept": {**FEW, **KEPT, "rank": 2, **PRIOR},
    "unet-text": {**FEW, **KEPT, "rank": 2, "recipe": "unet-text"},
    "text-inversion": {**FEW, **KEPT, "recipe": "text-inversion"},
    "free": {**FEW, **KEPT, "recipe": "text-inversion", "inversion.keep_norm": False},
    "text-projection": {**FEW, **KEPT, "recipe": "text-projection", "encoder": "bert"},
    "tuned": {**FEW, **KEPT, "recipe": "text-projection", "encoder": "bert", "projection.tune_encoder": True},
    "vae": {**FEW, "recipe": "vae", "lr": 3e-3, "vae.crop": 16},
    "vae-all": {**FEW, "recipe": "vae", "lr": 3e-3, "vae.crop": 16, "vae.part": "all"},
    "dicom": {**FEW, **KEPT, "rank": 2, "data": "films"},
    "torn": {**FEW, **KEPT, "rank": 2, "data": "torn"},
    "long": {**FEW, **KEPT, "rank": 2, "steps": 30, "lr": 5.0},
    "guarded": {**FEW, **KEPT, "rank": 2, "data": "many"},
    "short": {**FEW, **KEPT, "rank": 2, "steps": 1},
}
"""Runs by name, each of the settings that an option needs to be of use."""
CHANGED: Mapping[str, tuple[str, object]] = {
    "seed": ("unet", 1),
    "threads": ("short", 2),
    "symmetric": ("unet", True),
    "data": ("unet", "many"),
    "base": ("unet", "2.x"),
    "recipe": ("unet", "unet-text"),
    "fit": ("unet", "pad"),
    "window": ("dicom", "0:200"),
    "accept": ("torn", ("patient-in-two-splits",)),
    "keep_vae": ("unet", False),
    "features": ("unet", "eyes"),
    "encoder": ("text-projection", "other"),
    "embeddings": ("text-inversion", "word"),
    "inversion.words": ("text-inversion", ("<x>=chest",)),
    "inversion.vectors": ("text-inversion", 3),
    "inversion.begins_as": ("text-inversion", "bright"),
    "inversion.keep_norm": ("text-inversion", False),
    "projection.hidden": ("text-projection", 8),
    "projection.tune_encoder": ("text-projection", True),
    "projection.tokens": ("text-projection", 5),
    "rank": ("unet", 3),
    "lr": ("unet", 2e-2),
    "text_lr": ("unet-text", 0.5),
    "weight_decay": ("unet", 0.5),
    "steps": ("unet", 4),
    "minutes": ("long", 1e-6),
    "batch": ("unet", 5),
    "accumulate": ("unet", 2),
    "checkpointing": ("unet", True),
    "precision": ("unet", "bfloat16"),
    "memory_gb": ("unet", 1e-6),
    "warmup": ("unet", 8),
    "cooldown": ("unet", 0.9),
    "ema": ("unet", 0.2),
    "min_snr": ("unet", 0.0),
    "drop_caption": ("unet", 1.0),
    "dropout": ("unet", 0.5),
    "token": ("unet", "sks"),
    "prior.weight": ("kept", 1.0),
    "prior.kind": ("kept", "drawn"),
    "prior.images": ("kept", 3),
    "prior.prompts": ("kept", ("dark",)),
    "prior.share": ("kept", 0.75),
    "vae.part": ("vae", "all"),
    "vae.crop": ("vae", 8),
    "vae.frequency": ("vae", 5.0),
    "vae.kl": ("vae-all", 1.0),
    "cache_latents": ("unet", False),
    "crops": ("unet", 3),
    "validate_every": ("unet", 1),
    "validated": ("unet", 1),
    "patience": ("long", 2),
    "copy_guard": ("guarded", False),
    "sheet_every": ("unet", 1),
    "checkpoint_every": ("unet", 1),
}  # fmt: skip
"""Every option: the run that it changes, and the value that changes it."""
ALSO: tuple[tuple[str, str, object], ...] = (
    ("vae", "lr", 3e-2), ("vae", "seed", 1), ("vae", "batch", 5), ("vae", "checkpointing", True),
    ("vae", "symmetric", True), ("vae", "ema", 0.1), ("vae", "weight_decay", 5.0),
    ("text-inversion", "token", "<lung>"), ("text-inversion", "checkpointing", True), ("free", "weight_decay", 5.0),
    ("vae", "memory_gb", 1e-6), ("text-projection", "checkpointing", True),
    ("text-inversion", "dropout", 0.5), ("kept", "dropout", 0.5),
    ("text-projection", "prior", {**nested(PRIOR)["prior"], "weight": 1.0}),
    ("tuned", "text_lr", 0.5), ("vae", "prior", {**nested(PRIOR)["prior"], "weight": 1.0}),
)  # fmt: skip
"""Options that other recipes read in their own code."""
IDLE: tuple[tuple[Settings, str], ...] = (
    *(({"recipe": recipe, "rank": 8}, "rank") for recipe in ("text-inversion", "text-projection", "vae")),
    ({"recipe": "unet", "text_lr": 1e-4}, "text_lr"),
    ({"recipe": "text-projection", "text_lr": 1e-4}, "text_lr"),
    ({"encoder": "bert"}, "encoder"),
    ({"projection.hidden": 4}, "projection"),
    ({"embeddings": "word"}, "embeddings"),
    ({"inversion.vectors": 4}, "inversion"),
    ({"vae.crop": 32}, "vae"),
    ({"recipe": "vae", "vae.kl": 1e-3}, "vae.kl"),
    ({"recipe": "vae", "keep_vae": True}, "keep_vae"),
    *(({"recipe": "vae", name: value}, name) for name, value in (
        ("min_snr", 1.0), ("token", "sks"), ("accumulate", 2), ("crops", 2), ("sheet_every", 5), ("copy_guard", False),
        ("cache_latents", False), ("drop_caption", 0.5), ("dropout", 0.1),
    )),
    ({"recipe": "text-inversion", "prior.weight": 1.0}, "prior"),
    ({"recipe": "vae", "prior.weight": 1.0, "prior.kind": "drawn"}, "prior.kind"),
    ({"prior.share": 0.5}, "prior.share"),
    ({"prior.images": 50}, "prior.images"),
    ({"recipe": "text-inversion", "token": "<x>", "inversion.words": ("<y>",)}, "token"),
    ({"recipe": "text-inversion", "weight_decay": 0.1}, "weight_decay"),
    ({"recipe": "text-inversion", "embeddings": "word", "inversion.begins_as": "dark"}, "inversion.begins_as"),
)  # fmt: skip
"""Settings of which one would change nothing, and its name."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("options")
    save_foundation(root / "1.x")
    save_foundation(root / "2.x", "2.x")
    save_bert(root / "bert")
    save_bert(root / "other", seed=1)
    save_chests(root / "chests")
    save_chests(root / "many", 320, 320)
    save_films(root / "films")
    torn = save_chests(root / "torn") / "metadata.csv"
    head, *rows = torn.read_text().splitlines()
    stated = [f"{row},{('train', 'val')[number % 3 == 0]}" for number, row in enumerate(rows)]
    torn.write_text("\n".join([f"{head},split", *stated]) + "\n")
    torch.manual_seed(0)
    AttributeNet(WORDS, SIZE, (8, 8)).save(root / "eyes")
    (root / "word").mkdir()
    write_words([LearnedWord("<word>", torch.ones(2, 16))], root / "word")
    return root


def save_films(folder: Path) -> Path:
    rng, rows = np.random.default_rng(0), ["file_name,caption"]
    for number in range(12):
        pixels = rng.integers(0, 1000, (SIZE, SIZE)).astype(np.uint16)
        write(dicom(pixels, patient=f"p{number}"), folder / f"{number}.dcm")
        rows.append(f"{number}.dcm,a chest")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def outcome(world: Path, folder: Path, settings: Settings) -> tuple[object, ...]:
    """All that a run leaves: weights, figures that do not tell the time, files, or its refusal."""
    given = {"data": "chests", "base": "1.x", **settings}
    places: dict[str, Path] = {
        name: world / given[name] for name in ("data", "base", "encoder", "features") if name in given
    }
    if "embeddings" in given:
        places["embeddings"] = next((world / given["embeddings"]).glob("*.safetensors"))
    curves = Curves()
    own: Settings = {
        **nested(given),
        **places,
        "out": folder / "version",
        "domain": load_domain("chest_xray"),
    }
    config = AdaptConfig(**own)
    try:
        figures = fit(config, TrainingSession(folder / "run", silent, curves))
    except VouchError as error:
        return (error.reason, error.message)
    told = {
        name: value for name, value in figures.items() if name not in ("train_seconds", "memory_taken_bytes")
    }
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return told, curves.told, files, digests(config.out), torch.get_num_threads()


class Curves(NoTracker):
    """What a run tells its tracker of its steps, times left out."""

    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, float]]] = []

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self.told.append((step, {name: value for name, value in values.items() if "second" not in name}))


def silent(progress: TrainingProgress) -> bool:
    del progress
    return True


def digests(folder: Path) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.safetensors"))]


@pytest.fixture(scope="module")
def plain(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The outcome of a plain run by its name, each run once."""
    known: dict[str, tuple[object, ...]] = {}

    def of(name: str) -> tuple[object, ...]:
        if name not in known:
            known[name] = outcome(world, tmp_path_factory.mktemp(name), PLAIN[name])
        return known[name]

    return of


def test_every_public_option_is_here() -> None:
    assert set(CHANGED) == set(recipes.setting_fields(recipes.Adaptation)) - {"domain"}


@pytest.mark.slow
@pytest.mark.parametrize("run", ["unet", "text-inversion", "vae"])
def test_the_same_options_leave_the_same(world: Path, tmp_path: Path, plain: Any, run: str) -> None:
    assert outcome(world, tmp_path, PLAIN[run]) == plain(run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "option", "value"), [*((run, name, value) for name, (run, value) in CHANGED.items()), *ALSO]
)
def test_an_option_changes_a_run(
    world: Path, tmp_path: Path, plain: Any, run: str, option: str, value: object
) -> None:
    assert outcome(world, tmp_path, {**PLAIN[run], option: value}) != plain(run)


@pytest.mark.parametrize(("settings", "name"), IDLE)
def test_an_option_without_effect_is_refused_by_name(settings: Settings, name: str) -> None:
    with pytest.raises(InvalidInput, match=f"^Setting {name} has no effect .* Leave it out") as refused:
        recipes.parse("adapt", {"data": "chests", **settings})
    assert refused.value.reason == "NO_EFFECT"


def test_where_time_chooses_the_recipe_options_of_every_candidate_are_taken() -> None:
    recipes.parse("adapt", {"data": "chests", "minutes": 5, "text_lr": 1e-4})
    with pytest.raises(InvalidInput, match="encoder"):
        recipes.parse("adapt", {"data": "chests", "minutes": 5, "encoder": "bert"})
