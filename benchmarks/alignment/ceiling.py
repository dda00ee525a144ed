"""What could the best of all generators add to a 10 % subset of the real images? Other real cells stand for its
drawings, as they are and as the starter's autoencoder gives them back.

    python -m benchmarks.alignment.ceiling --json FILE [--work FOLDER] [--split val] [--seeds N]

Every classifier takes the same number of updates, enough for the 10 % subset alone to be learned to the end. `first`
learns from the others until the last third and from the subset then, `half` from half of either in every batch.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from benchmarks.alignment.downstream import PBC64, SHARE, STARTER
from benchmarks.report import Figure, Report, arguments, screen
from training.data.augmentation import to_unit
from training.data.examples import Examples, load_examples
from training.evaluation.downstream import Labelled, Learning, accuracy, kept_reading, share_of
from training.randomness import numbers

OTHERS, STEPS, BATCH = 4000, 1200, 64
FIRST = Learning(steps=STEPS, synthetic_share=1.0, real_only_after=2 / 3)
HALF = Learning(steps=STEPS, synthetic_share=0.5)
WAYS = {"first": FIRST, "half": HALF}


@dataclass(frozen=True)
class LabelledCells:
    """The 10 % subset of the training images, others of them, and those that are read."""

    subset: Labelled
    others: Labelled
    read: Labelled


def main() -> int:
    parser = arguments("benchmarks.alignment.ceiling", str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, default=PBC64, help="folder of pbc64")
    parser.add_argument("--work", type=Path, help="keep what was read here, and go on from it")
    parser.add_argument("--split", choices=("val", "test"), default="val", help="what is read")
    parser.add_argument("--seeds", type=int, default=1, help="classifiers of each kind")
    chosen = parser.parse_args()
    if not (chosen.data / f"{chosen.split}.parquet").is_file():
        screen().print(f"skipped: {chosen.data} is not there; give the folder of pbc64 with --data.")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        report = measured(cells(chosen.data, chosen.split), range(chosen.seeds), chosen.work or Path(scratch))
    report.finish(chosen.json)
    return 0


def cells(data: Path, split: str) -> LabelledCells:
    train = load_examples(data / "train.parquet")
    subset = share_of(train.labels, SHARE, groups=train.groups)
    left = sorted(set(range(len(train))) - set(subset))
    others = numbers(0, "others").sample(left, min(OTHERS, len(left)))
    read = load_examples(data / f"{split}.parquet")
    return LabelledCells(_labelled(train.subset(subset)), _labelled(train.subset(others)), _labelled(read))


def measured(given: LabelledCells, seeds: range, work: Path) -> Report:
    report = Report("ceiling")
    alone = _read(given, None, HALF, seeds, work)
    _add(report, "tenth", alone, given.read)
    sources = {"true": given.others, "decoded": Labelled(decoded(given.others.images), given.others.labels)}
    for name, others in sources.items():
        for way, learning in WAYS.items():
            both = _read(given, others, learning, seeds, work)
            _add(report, f"{name}_{way}", both, given.read)
            gain = accuracy(both.astype(float) - alone, given.read.groups)
            value, low, high = (100 * bound for bound in (gain.value, gain.low, gain.high))
            report.add(f"{name}_{way}_gain_points", Figure(value, "points", low, high))
    return report


def _read(
    given: LabelledCells, others: Labelled | None, learning: Learning, seeds: range, work: Path
) -> np.ndarray:
    """Which of the cells classifiers of the 10 % subset, and of `others`, read rightly: bool [seeds, N]."""
    return np.stack([kept_reading(given.subset, others, given.read, learning, seed, work) for seed in seeds])


@torch.no_grad()
def decoded(images: torch.Tensor) -> torch.Tensor:
    """uint8 [N, 3, H, W] as the starter's autoencoder gives them back."""
    vae = AutoencoderKL.from_pretrained(str(STARTER / "vae")).float().eval()
    parts = [vae.decode(vae.encode(to_unit(part)).latent_dist.mode()).sample for part in images.split(BATCH)]
    return ((torch.cat(parts).clamp(-1, 1) + 1) * 127.5).round().byte()


def _add(report: Report, name: str, rows: np.ndarray, read: Labelled) -> None:
    found = accuracy(rows, read.groups)
    report.add(name, Figure(found.value, "share", found.low, found.high))


def _labelled(examples: Examples) -> Labelled:
    return Labelled.of(examples)


if __name__ == "__main__":
    sys.exit(main())
