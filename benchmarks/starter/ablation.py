"""What each part of the autoencoder's recipe is worth: every variant trained anew for as long, on the same images.

    python -m benchmarks.starter.ablation --data ../shared/data/pbc64 --work build/ablation --minutes 90 \\
        --json ablation.json

Judged by the first judge, which may choose, on the half of the val split that set no limit of its. A variant that was
trained before (its folder is in --work) is not trained again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.report import Figure, Report, arguments
from benchmarks.starter.bench import arrays
from benchmarks.starter.ratios import figure, ratio
from training.data.examples import Examples, load_examples
from training.data.splits import halves
from training.evaluation.codec import load_autoencoder, through
from training.evaluation.judge import Judge
from training.evaluation.sharpness import HIGH_BAND, Spectra, sharpness
from training.evaluation.two_sample import two_sample_auc
from training.loop.session import TrainingSession
from training.pretraining.autoencoder import fit_vae
from training.pretraining.config import PretrainConfig
from vouch import recipes

FIGURES = "figures.json"
NEVER = 1.0
"""Of a share of the phase: the part joins at its end."""
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "8 channels": {},
    "4 channels": {"latent_channels": 4},
    "12 channels": {"latent_channels": 12},
    "8 channels, no discriminator": {"adversarial_from": NEVER},
    "8 channels, no perceptual loss": {"perceptual_from": NEVER},
    "8 channels, half the resolution": {"vae_channels": (48, 96, 128, 128), "latent_channels": 8},
    "32 channels, half the resolution": {"vae_channels": (48, 96, 128, 128), "latent_channels": 32},
}
"""Half the resolution: f = 8, so that 32 channels hold as many numbers as 8 at f = 4."""


def main() -> None:
    parser = arguments("benchmarks.starter.ablation", "The autoencoder's recipe, part by part.")
    parser.add_argument("--data", type=Path, required=True, help="folder of pbc64")
    parser.add_argument("--work", type=Path, required=True, help="where the autoencoders go; it resumes")
    parser.add_argument("--judge", type=Path, default=Path("vouch/starter/judge"))
    parser.add_argument("--rater", type=Path, default=Path("vouch/starter/rater"), help="perceptual features")
    parser.add_argument("--minutes", type=float, required=True, help="for each variant")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--set", action="append", default=[], help="of all variants: --set vae_batch=96")
    given = parser.parse_args()
    train = load_examples(given.data / "train.parquet")
    real = halves(load_examples(given.data / "val.parquet"))[0]
    judge, report = Judge.load(given.judge), Report("starter-ablation")
    shared = {
        "vae_features": given.rater,
        "vae_minutes": given.minutes,
        **recipes.parse_assignments(given.set),
    }
    for name in given.variants:
        folder = given.work / name.replace(" ", "-").replace(",", "")
        if not (folder / "config.json").is_file():
            fit(folder, train, {**shared, **VARIANTS[name]})
        measure(report, name, folder, real, judge)
        report.finish(given.json)


def fit(folder: Path, images: Examples, settings: Mapping[str, Any]) -> None:
    config = PretrainConfig(data=folder, out=folder, **settings)
    torch.manual_seed(config.seed)
    session = TrainingSession(folder / "run", device="cuda" if torch.cuda.is_available() else "cpu")
    vae, figures = fit_vae(config, images, session)
    session.note(FIGURES, figures)
    vae.cpu().save_pretrained(folder)


def measure(report: Report, name: str, folder: Path, real: Examples, judge: Judge) -> None:
    before = arrays(real)
    after = through(load_autoencoder(folder), before)
    plausible = [judge.assess(images, real.labels).plausible for images in (after, before)]
    error = (after.astype(float) - before) ** 2
    even = np.arange(len(before)) % 2 == 0
    apart = two_sample_auc(judge.features(before[even]), judge.features(after[~even]))
    report.add(f"plausible of real: {name}", figure(ratio(*plausible, paired=True), "of real's"))
    power = sharpness(Spectra.of(before), Spectra.of(after))[HIGH_BAND]
    report.add(f"high band: {name}", figure(power, "of real's"))
    report.add(f"two-sample AUC: {name}", figure(apart, "AUC"))
    signal = 10 * np.log10(255**2 / error.mean((1, 2, 3)))
    report.add(f"PSNR: {name}", Figure(float(signal.mean()), "dB"))
    steps = json.loads((folder / "run" / FIGURES).read_text())["vae_steps"]
    report.add(f"steps: {name}", Figure(steps, "steps"))


if __name__ == "__main__":
    main()
