"""Time alone is given: recipe, rank and end are chosen by validation, and copies end it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.foundations import save_chests, save_foundation
from training.adaptation import choice
from training.adaptation.config import AdaptConfig
from training.adaptation.fit import fit
from training.adaptation.forecast import MemoryForecast
from training.adaptation.foundation import Foundation
from training.adaptation.validated import ValidatedTrainer
from training.evaluation.copies import CopyAlarm
from training.loop.session import TrainingSession
from training.loop.worker_group import WorkerGroup
from vouch.domains.criteria import load_domain
from vouch.errors import Exhausted


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("choice")
    save_foundation(root / "base")
    save_chests(root / "chests", 60, 30)
    save_chests(root / "many", 199, 199)  # of which 20 validate, as many as the guard needs
    return root


def ask(world: Path, folder: Path, **settings: object) -> AdaptConfig:
    values: dict[str, object] = {
        "data": world / "chests", "batch": 4, "threads": 1, "lr": 1e-2, "validate_every": 2, "keep_vae": True,
        "precision": "float32", "domain": load_domain("chest_xray"), "base": world / "base", "out": folder / "version",
    }  # fmt: skip
    return AdaptConfig(**{**values, **settings})  # type: ignore[arg-type]


def test_the_candidate_that_validates_best_goes_on(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "CANDIDATES", (("unet", 1), ("unet", 3), ("unet-text", 2)))
    session = TrainingSession(tmp_path / "run")
    figures = fit(ask(world, tmp_path, minutes=0.2), session)
    note = json.loads((session.folder / choice.CHOICE_FILE).read_text())
    losses = note["validation_losses"]
    assert set(losses) == {"unet-1", "unet-3", "unet-text-2"}
    assert note["chosen"] == min(losses, key=losses.__getitem__)
    assert figures["rank"] == float(note["chosen"].rpartition("-")[2])
    assert figures["validation_loss"] <= losses[note["chosen"]]
    assert (tmp_path / "version" / "pytorch_lora_weights.safetensors").is_file()


@pytest.mark.parametrize("given", [{"recipe": "unet"}, {"rank": 3}, {"minutes": None}])
def test_what_is_given_is_not_chosen(world: Path, tmp_path: Path, given: dict[str, object]) -> None:
    assert ask(world, tmp_path, minutes=1).is_open
    assert not ask(world, tmp_path, **{"minutes": 1, **given}).is_open


def test_copies_end_the_training_with_the_weights_of_before(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, bool]] = []
    guard = ValidatedTrainer._guard

    def copying(self: ValidatedTrainer, copied: float) -> None:
        guard(self, 0.0 if len(told) == 0 else 1.0)
        told.append((int(self.best["step"]), self.copied))

    monkeypatch.setattr(ValidatedTrainer, "_guard", copying)
    figures = fit(
        ask(world, tmp_path, recipe="unet", steps=12, sheet_every=4), TrainingSession(tmp_path / "run")
    )
    assert [copied for _, copied in told] == [False, True]
    assert figures["steps"] == 8 and figures["ended_by_copies"] == 1
    assert figures["best_step"] == told[0][0] <= 4


@pytest.mark.parametrize("copies", [True, False])
def test_a_run_that_ends_between_two_sheets_is_guarded_at_its_end(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copies: bool
) -> None:
    monkeypatch.setattr(CopyAlarm, "alarmed", lambda self, images: np.full(len(images), copies))
    asked = ask(world, tmp_path, data=world / "many", recipe="unet", steps=4, validate_every=1)
    figures = fit(asked, TrainingSession(tmp_path / "run"))
    assert figures["validation_images"] == 20
    assert figures["ended_by_copies"] == copies
    assert (figures["best_step"] == 0) == copies  # the last weights without copies are those of the base


def test_what_was_guarded_at_the_end_of_one_attempt_is_kept_by_the_next(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[bool] = []

    def copying(self: CopyAlarm, images: np.ndarray) -> np.ndarray:
        drawn.append(True)
        return np.full(len(images), len(drawn) > 2)  # a sheet of each end, and one of what is published

    monkeypatch.setattr(CopyAlarm, "alarmed", copying)
    steps = {}
    for attempt in (2, 4):
        asked = ask(world, tmp_path, data=world / "many", recipe="unet", steps=attempt, validate_every=1)
        steps[attempt] = fit(asked, TrainingSession(tmp_path / "run"))
    assert steps[2]["ended_by_copies"] == 0 and steps[4]["ended_by_copies"] == 1
    assert steps[4]["best_step"] == steps[2]["best_step"] > 0


def test_a_candidate_that_does_not_fit_into_memory_is_left_out(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choice, "CANDIDATES", (("unet", 1), ("unet", 3)))
    check, session = choice.check_memory, TrainingSession(tmp_path / "run")

    def small(base: Foundation, weights: int, config: AdaptConfig, group: WorkerGroup) -> MemoryForecast:
        limit = {"memory_gb": 1e-6} if config.rank == 1 else {}
        return check(base, weights, config.model_copy(update=limit), group)

    monkeypatch.setattr(choice, "check_memory", small)
    figures = fit(ask(world, tmp_path, minutes=1, steps=2), session)
    assert figures["rank"] == 3 and "Recipe unet of rank 1 is not tried. This would take" in caplog.text
    losses = json.loads((session.folder / choice.CHOICE_FILE).read_text())["validation_losses"]
    assert set(losses) == {"unet-3"}
    with pytest.raises(Exhausted, match="This would take"):
        fit(ask(world, tmp_path, minutes=1, memory_gb=1e-6), TrainingSession(tmp_path / "none"))
