"""An evaluation as `vouch evaluate` asks for it: versions by name, out of a state folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import vouch
from training.evaluation.run import attach, first_champion
from training.jobs.plans import Store
from vouch.domains.criteria import load_domain
from vouch.errors import InvalidInput
from vouch.recipes.evaluation import EvaluationRequest
from vouch.settings import Settings, load_settings

JUDGE = Path(vouch.__file__).parent / "starter" / "judge"
"""The judge that ships."""
BLOOD_CELLS = "blood_cells"
"""The domain that it knows."""


def evaluate(
    request: EvaluationRequest, job: Callable[[str, dict[str, Any], Path], dict[str, Any]]
) -> dict[str, Any]:
    """Runs the evaluation by `job` (kind, config, folder), keeps its evidence with the version, returns the figures.

    Raises:
        NotFound: a version that is not in the state folder.
        InvalidInput: another domain than the shipped judge's, and no judge.
    """
    settings = _settings(request)
    if request.judge is None and (name := load_domain(settings.domain).name) != BLOOD_CELLS:
        raise InvalidInput(
            f"The judge that ships judges blood cells. Name the folder of one of {name} with --judge."
        )
    store = Store.open(settings)
    first = (request.first or first_champion(store, request.against)) if request.against else ""
    out = request.out.resolve()
    config = {
        "version": version_folders(store, request.version),
        "against": version_folders(store, request.against) if request.against else None,
        "first": version_folders(store, first) if first else None,
        "domain": store.domain.model_dump(mode="json"),
        **({} if request.symmetric is None else {"symmetric": request.symmetric}),
        "features": [str(folder.resolve()) for folder in request.features],
        "cache": str(store.folder.root / "features"),
        "downstream": request.downstream,
        "data": str(request.data.resolve()),
        "train": str(request.train.resolve()) if request.train else None,
        "judge": str((request.judge or JUDGE).resolve()),
        "out": str(out),
        **request.settings,
    }
    figures = job("evaluate", config, out / "work")
    attach(store, request.version, request.against, out, first)
    return figures


def _settings(request: EvaluationRequest) -> Settings:
    settings = load_settings(state=request.state.resolve())
    return settings.model_copy(update={"domain": request.domain}) if request.domain else settings


def version_folders(store: Store, ref: str) -> dict[str, Any]:
    """A version's files, and those of the model that it adapts."""
    version = store.registry.get(ref)
    base = store.registry.base_of(version.digest)
    return {
        "name": version.name,
        "folder": str(store.registry.open(version.digest)),
        "base": None if base.digest == version.digest else str(store.registry.open(base.digest)),
    }
