"""The starter's images as the reward's frozen features, with what a simulated pathologist says of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.alignment.heads import HeadFeatures, Heads
from benchmarks.alignment.world import RATER, STARTER
from training.raters.plausibility import Plausibility
from training.raters.simulated import SimulatedPathologist
from vouch.formats import images as codec
from vouch.models.pipelines import Generator, load_generator

PART, BATCH = 160, 32
STEPS, GUIDANCE = 12, 1.0
KNOWN = {"pass": 1.0, "fail": 0.0}


@dataclass(frozen=True)
class RatedDrawings:
    """N images: what the reward sees of them, their classes and digests; targets [N, 1 + criteria] as one rater
    answers, errors included, nan where open; and [N] what that rater would say without errors."""

    seen: HeadFeatures
    labels: np.ndarray
    digests: np.ndarray
    targets: torch.Tensor
    truth: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def rated(folder: Path, heads: Heads, first_seed: int, count: int) -> RatedDrawings:
    """Images of all classes in turn; those that an earlier start drew are read from `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{heads.digest[:12]}-{first_seed}-{count}.npz"
    if not kept.is_file():
        with kept.with_suffix(".partial").open("wb") as file:
            np.savez(file, **_arrays(_looked_at(folder, heads, first_seed, count)))
        kept.with_suffix(".partial").replace(kept)
    found = dict(np.load(kept, allow_pickle=False))
    tensors = {name: torch.from_numpy(found[name]) for name in ("features", "prompts", "targets")}
    seen = HeadFeatures(tensors["features"], tensors["prompts"])
    return RatedDrawings(seen, found["labels"], found["digests"], tensors["targets"], found["truth"])


def _arrays(rated_: RatedDrawings) -> dict[str, np.ndarray]:
    return {
        "features": rated_.seen.features.numpy(),
        "prompts": rated_.seen.prompts.numpy(),
        "targets": rated_.targets.numpy(),
        "labels": rated_.labels,
        "digests": rated_.digests,
        "truth": rated_.truth,
    }


def _looked_at(folder: Path, heads: Heads, first_seed: int, count: int) -> RatedDrawings:
    rater = SimulatedPathologist(Plausibility.load(STARTER / "rater"), RATER)
    labels = heads.model.vocabulary.labels
    prompts = np.array([labels[number % len(labels)] for number in range(math.ceil(count / PART) * PART)])
    seen, digests, targets, truth = [], [], [], []
    for start, drawn in _drawn(folder, first_seed, prompts):
        images = drawn[: count - start]
        asked = prompts[start : start + len(images)].tolist()
        named = [hashlib.sha256(codec.encode_png(image)).hexdigest() for image in images]
        seen.append(heads.see(images, asked))
        digests += named
        targets += [
            [float(opinion.verdict == "plausible"), *_answers(opinion.answers, heads.model.criteria)]
            for opinion in rater.rate(images, asked, named)
        ]
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
        truth.append(rater.plausibility.assess(pixels, asked).plausible)
    features = torch.cat([part.features for part in seen], dim=1)
    codes = torch.cat([part.prompts for part in seen])
    return RatedDrawings(
        HeadFeatures(features, codes),
        prompts[:count],
        np.array(digests),
        torch.tensor(targets),
        np.concatenate(truth),
    )


def _answers(answers: Mapping[str, str], criteria: tuple[str, ...]) -> list[float]:
    return [KNOWN.get(answers.get(name, ""), float("nan")) for name in criteria]


def _drawn(folder: Path, first_seed: int, prompts: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Parts of uint8 [n, H, W, 3], each with the number of its first image."""
    generator: Generator | None = None
    for start in range(0, len(prompts), PART):
        kept = folder / f"{first_seed + start}.npy"
        if not kept.is_file():
            generator = generator or load_generator(STARTER / "generator")
            np.save(kept, _draw(generator, prompts[start : start + PART].tolist(), first_seed + start))
        yield start, np.load(kept, allow_pickle=False)


def _draw(generator: Generator, prompts: list[str], first_seed: int) -> np.ndarray:
    parts = [
        generator.generate(
            prompts[start : start + BATCH],
            list(range(first_seed + start, first_seed + min(start + BATCH, len(prompts)))),
            STEPS,
            GUIDANCE,
        )
        for start in range(0, len(prompts), BATCH)
    ]
    return np.concatenate(parts)
