"""Time alone is given: recipe, rank and end are chosen by validation, and copies end it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.foundations import save_chests, save_foundation
from training.adaptation import choice
from training.adaptation.config import AdaptConfig
from training.adaptation.fit import fit
from training.adaptation.validated import ValidatedTrainer
from training.loop.session import TrainingSession
from vouch.domains.criteria import load_domain


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("choice")
    save_foundation(root / "base")
    save_chests(root / "chests", 60, 30)
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
