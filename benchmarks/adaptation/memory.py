"""How far the memory forecast is from what training takes: each setting in a process of its own.

python -m benchmarks.adaptation.memory --base vouch/starter/generator --json memory.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.report import Figure, Report, screen

SETTINGS: tuple[dict[str, Any], ...] = (
    {"batch": 8, "rank": 16},
    {"batch": 32, "rank": 16},
    {"batch": 96, "rank": 16},
    {"batch": 96, "rank": 16, "checkpointing": True},
    {"batch": 96, "rank": 16, "accumulate": 4},
    {"batch": 32, "rank": 4},
    {"batch": 32, "rank": 128},
    {"batch": 8, "rank": 0},
    {"batch": 32, "rank": 0},
    {"batch": 96, "rank": 0},
    {"batch": 96, "rank": 0, "checkpointing": True},
    {"batch": 32, "rank": 0, "ema": 0.0},
)
LEAST = 0.05
"""How far below the truth a forecast may be."""


def measure(base: Path, settings: dict[str, Any]) -> dict[str, float]:
    """Forecast and truth of one setting, in bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        data = write_images(Path(scratch) / "images")
        config = {
            "base": str(base), "data": str(data), "out": str(Path(scratch) / "out"), "steps": 3, "keep_vae": True,
            "validate_every": 1000, "sheet_every": 1000, "checkpoint_every": 3, "precision": "float32", "threads": 1,
            "recipe": "unet", "copy_guard": False, "validated": 4, **settings,
        }  # fmt: skip
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks.adaptation.memory", "--one", json.dumps(config), "--run", scratch],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    return dict(json.loads(ran.stdout.strip().splitlines()[-1]))


def write_images(folder: Path, count: int = 24) -> Path:
    """Noise with a caption each."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = ["file_name,caption,patient"]
    for number in range(count):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,image {number},p{number}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def run_one(config: dict[str, Any], folder: Path) -> None:
    from training.adaptation.config import AdaptConfig
    from training.adaptation.fit import fit
    from training.loop.session import TrainingSession

    figures = fit(AdaptConfig.model_validate(config), TrainingSession(folder / "run"))
    print(json.dumps({name: figures[f"memory_{name}_bytes"] for name in ("forecast", "taken")}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", type=Path, default=Path("vouch/starter/generator"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of settings, from 0")
    parser.add_argument(
        "--beside", type=Path, help="forecast anew beside what an earlier report says was taken"
    )
    parser.add_argument("--one", help="a setting as JSON, in this process")
    parser.add_argument("--run", type=Path)
    asked = parser.parse_args()
    if asked.one:
        run_one(json.loads(asked.one), asked.run)
        return
    if asked.beside:
        report_of(forecast_beside(asked.base.resolve(), asked.beside)).finish(asked.json, console=screen())
        return
    rows = []
    for number in asked.only or range(len(SETTINGS)):
        found = measure(asked.base.resolve(), SETTINGS[number])
        rows.append((SETTINGS[number], found["forecast"], found["taken"]))
        print(f"{SETTINGS[number]}: {found['forecast'] / found['taken'] - 1:+.1%}", flush=True)
    report_of(rows).finish(asked.json, console=screen())


def forecast_beside(base: Path, report: Path) -> list[tuple[dict[str, Any], float, float]]:
    """The settings of an earlier report, what is forecast of them now, and what they took then. Trains nothing."""
    from training.adaptation.config import AdaptConfig
    from training.adaptation.forecast import forecast
    from training.adaptation.foundation import Foundation
    from training.adaptation.recipes import TUNINGS

    figures, rows = json.loads(report.read_text("utf-8"))["figures"], []
    for settings in SETTINGS:
        given = {
            "base": base,
            "data": base,
            "out": base,
            "recipe": "unet",
            "precision": "float32",
            **settings,
        }
        config, foundation = AdaptConfig.model_validate(given), Foundation(base)
        weights = TUNINGS[config.recipe](foundation, config).weights
        total = forecast(foundation, sum(weight.numel() for weight in weights), config).total
        rows.append((settings, float(total), 1e6 * figures[f"{name_of(settings)}_taken"]["value"]))
    return rows


def name_of(settings: dict[str, Any]) -> str:
    """Example: ``name_of({"batch": 32, "ema": 0.0}) == "batch_32_ema_0"``."""
    values = {name: int(value) if isinstance(value, float) else value for name, value in settings.items()}
    return "_".join(f"{name}_{value}".lower() for name, value in values.items())


def report_of(rows: Sequence[tuple[dict[str, Any], float, float]]) -> Report:
    """The report of settings, each with the bytes that were forecast and that were taken."""
    report, errors = Report("adaptation-memory"), [forecast / taken - 1 for _, forecast, taken in rows]
    report.add("memory_forecast_error", Figure(max(map(abs, errors)), "share", must="<= 0.15", aim="<= 0.05"))
    report.add("memory_forecast_lowest", Figure(min(errors), "share", must=f">= {-LEAST}"))
    for (settings, forecast, taken), error in zip(rows, errors, strict=True):
        name = name_of(settings)
        report.add(f"{name}_forecast", Figure(forecast / 1e6, "MB"))
        report.add(f"{name}_taken", Figure(taken / 1e6, "MB"))
        report.add(f"{name}_error", Figure(error, "share"))
    return report


if __name__ == "__main__":
    main()
