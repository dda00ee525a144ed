"""Everything that ships as the starter: generator, rater, judge and first reward model, from pbc64's train split.

The images are cut in two halves. One teaches (rater, reward), the other judges; limits are set on the two halves of
the val split in the same way. No image and no weight is on both sides. The generator learns from all training images;
the rater's network, and never the judge's, is the perceptual loss of its autoencoder; that of the decoder is
EfficientNet-Lite1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from training.attributes.annotations import Annotations
from training.attributes.recognition import recognise
from training.data.examples import Examples, load_examples
from training.data.splits import halves
from training.evaluation.judge import Judge, coverage_floor
from training.pretraining.decoder_average import Job, sharpen_and_average
from training.raters.plausibility import Plausibility, learn_plausibility
from vouch.domains.criteria import Domain, load_domain
from vouch.models.networks.attributes import AttributeNet

REAL_PASS_RATE = 0.93
"""The share of unseen real images that shall pass; the single signs' limits follow from it."""
PER_CLASS = 100
SPLITS = ("train", "val", "test")
RATER = {"split": "teach", "seed": 5, "widths": (24, 48, 96, 128), "steps": 700}
JUDGE = {"split": "judge", "seed": 11, "widths": (32, 64, 128, 192), "steps": 800}
REWARD = {"split": "teach", "seed": 1, "steps": 600, "lr": 3e-3}
GUIDANCE = 1.25
"""Chosen by the first judge: it covers as much as less, and is as plausible as real cells."""
GENERATOR_ON_GPU = {
    "vae_minutes": 1.5, "vae_batch": 96, "minutes": 4.5, "batch": 256, "lr": 1e-3, "ema": (0.9999, 0.9995),
    "warmup": 500, "checkpoint_every": 2000, "validate_every": 1000, "grid_every": 5000,
}  # fmt: skip
DECODER_ON_GPU = {"minutes": 0.5, "batch": 48, "drawn": 1024, "adversarial_after": 60}
"""Meant to end within nine minutes with the start, 95 s of compiling and the encoding of the images; these values are a
plan and were not run together. On a CPU the recipe's own defaults are used."""
DECODER = {"drawn": 4096, "crop": 64, "adversarial_after": 200, "lr": 3e-4}
ADVERSARIAL = (6.0, 12.0)
"""Weights of the two decoders whose average ships: the first alone leaves too little of the finest detail of restored
cells, the second alone too much noise."""
PARTS = ("rater", "generator", "decoder", "judge", "reward")


def build(
    data: Path,
    out: Path,
    runs: Path,
    job: Job,
    parts: Sequence[str] = PARTS,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains `parts` from `data` (a folder of pbc64) in that order and writes them into `out`.

    `settings` are further settings of the generator's pre-training.
    """
    makers = {
        "rater": lambda: _build_rater(data, out, runs, job),
        "generator": lambda: job("pretrain", _generator(data, out, settings or {}), runs / "generator"),
        "decoder": lambda: sharpen_and_average(job, _decoder(data, out), ADVERSARIAL, runs / "decoder"),
        "judge": lambda: _build_judge(data, out, runs, job),
        "reward": lambda: job("reward", _reward(data, out), runs / "reward"),
    }
    return {part: makers[part]() for part in parts}


def _build_rater(data: Path, out: Path, runs: Path, job: Job) -> dict[str, float]:
    net = runs / "rater" / "net"
    job("attributes", {"data": str(data / "train.parquet"), "out": str(net), **RATER}, runs / "rater")
    return finish_rater(net, data, out / "rater")


def _build_judge(data: Path, out: Path, runs: Path, job: Job) -> dict[str, float]:
    net = runs / "judge" / "net"
    job("attributes", {"data": str(data / "train.parquet"), "out": str(net), **JUDGE}, runs / "judge")
    return finish_judge(net, data, out / "judge")


def _generator(data: Path, out: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    on_device = GENERATOR_ON_GPU if torch.cuda.is_available() else {}
    return {
        "data": str(data / "train.parquet"),
        "held_out": str(data / "val.parquet"),
        "vae_features": str(out / "rater"),
        "default_guidance": GUIDANCE,
        "out": str(out / "generator"),
        **on_device,
        **settings,
    }


def _decoder(data: Path, out: Path) -> dict[str, Any]:
    on_device = DECODER_ON_GPU if torch.cuda.is_available() else {}
    places = {"generator": str(out / "generator"), "data": str(data / "train.parquet")}
    return {**places, **DECODER, **on_device}


def _reward(data: Path, out: Path) -> dict[str, Any]:
    criteria = load_domain("blood_cells").ids
    return {"data": str(data / "train.parquet"), "out": str(out / "reward"), "criteria": criteria, **REWARD}


def finish_rater(
    net_folder: Path, data: Path, out: Path, size: int | None = None, domain: Domain | None = None
) -> dict[str, float]:
    """Gives the rater's network its limits. Returns what it makes of unseen real images (the test split).

    size: pixels square that images are brought to; default: theirs. domain: default: the blood cells.
    """
    real = {split: load_examples(data / f"{split}.parquet", size, domain) for split in SPLITS}
    seen, calibration = halves(real["train"])[0], halves(real["val"])[0]
    rater = learn_plausibility(AttributeNet.load(net_folder), seen, calibration, REAL_PASS_RATE, domain)
    rater.save(out)
    return _on_real(rater, real["test"])


def finish_judge(
    net_folder: Path, data: Path, out: Path, size: int | None = None, domain: Domain | None = None
) -> dict[str, float]:
    """Gives the judge's network its limits, the test split's features for coverage, and the real-against-real floor.
    size, domain: as of the rater."""
    real = {split: load_examples(data / f"{split}.parquet", size, domain) for split in SPLITS}
    seen, calibration, test = halves(real["train"])[1], halves(real["val"])[1], real["test"]
    plausibility = learn_plausibility(
        AttributeNet.load(net_folder), seen, calibration, REAL_PASS_RATE, domain
    )
    reference = recognise(plausibility.net, test.images).features.half().float().numpy()
    judge = Judge(plausibility, reference, 0.0)
    judge.floor = coverage_floor(judge, real["val"], PER_CLASS)
    judge.save(out)
    return {**_on_real(plausibility, test), "coverage_floor": judge.floor}


def _on_real(plausibility: Plausibility, test: Examples) -> dict[str, float]:
    assessment = plausibility.assess(test.images, test.labels)
    accuracy = Annotations(test, plausibility.vocabulary).accuracy(recognise(plausibility.net, test.images))
    return {
        "real_plausible": float(assessment.plausible.mean()),
        **{f"accuracy_{name}": value for name, value in accuracy.items()},
    }
