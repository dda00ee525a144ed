"""Teaches the autoencoder of the miniature foundation model that what is grey stays grey.

    python -m benchmarks.adaptation.grey --base benchmarks/adaptation/foundation --out build/grey --run-dir build/run

Half of the images that it learned from are stained, and it restored grey images that it had not seen with a mean chroma
of 2.1 of 255. Its decoder learns on with cells, the same cells without colour, and the grey kinds; the latents stay.
No chest radiograph is among them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.adaptation.base import NEAR, BaseData
from benchmarks.adaptation.sets import DATA, Sets, joined
from training.adaptation.config import AdaptConfig
from training.adaptation.data import CaptionedSet
from training.adaptation.fit import fit
from training.jobs.progress_bar import ProgressBar
from training.jobs.worker import progress_reporter
from training.loop.session import TrainingSession
from vouch import recipes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, required=True, help="diffusers folder of the foundation model")
    parser.add_argument("--out", type=Path, required=True, help="where the tuned one goes")
    parser.add_argument("--run-dir", type=Path, required=True, help="checkpoints; the same folder resumes")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the shared image sets")
    parser.add_argument("--set", action="append", default=[], help="any setting of adapt: --set steps=400")
    asked = parser.parse_args()
    given = {"data": asked.data, "base": asked.base, "recipe": "vae", **recipes.parse_assignments(asked.set)}
    config = AdaptConfig.model_validate({**given, "out": asked.out})
    sets, run = Sets(asked.data), asked.run_dir
    cells = {split: sets.cells(split, without=NEAR) for split in ("train", "val")}
    both = BaseData.load(sets)
    images = joined(both.train, both.val, *(uncoloured(one) for one in cells.values()))
    run.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with ProgressBar(run / "progress.json"):
        session = TrainingSession(run, progress_reporter(run), device=device)
        print(json.dumps(fit(config, session, images), indent=1))


def uncoloured(images: CaptionedSet) -> CaptionedSet:
    """Each pixel's channels become their mean."""
    grey = images.images.float().mean(1, keepdim=True).round().to(torch.uint8)
    return replace(images, images=grey.expand(-1, 3, -1, -1).contiguous())


if __name__ == "__main__":
    main()
