"""The miniature foundation model, trained from nothing: one autoencoder and a text-to-image U-Net at 64 pixels.

    python -m benchmarks.adaptation.base --data ../shared/data --out build/base --run-dir build/base-run \\
        --vae-minutes 75 --minutes 240

It reads of blood cells and of five kinds of medical image, in several wordings, and of two types of cell not at all:
the near experiment adapts it to these, the far one to chest radiographs. It knows "x-ray", of hands, and "chest", from
computed tomography. The two budgets above are for two CPU cores. The same command goes on from the last checkpoint; the
minutes count over all attempts. The result is a plain diffusers folder without a vocabulary: any prompt is taken.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.adaptation.sets import DATA, SIZE, Sets, joined, without_repeats
from training.adaptation.data import CaptionedSet
from training.jobs.progress_bar import ProgressBar
from training.jobs.worker import progress_reporter
from training.loop.session import TrainingSession
from training.pretraining.config import PretrainConfig
from training.pretraining.fit import fit_images
from training.pretraining.tokens import train_open_tokenizer
from vouch import recipes
from vouch.domains.criteria import load_domain
from vouch.errors import FailedPrecondition

NEAR = ("basophil", "erythroblast")
"""Cells that the model never sees. Each has kin among the others: a basophil is a granulocyte, and an erythroblast has
a lymphocyte's round, dense nucleus."""
RATER = Path("vouch/starter/rater")
"""The network of the autoencoder's perceptual loss; the starter's uses the same one."""
CAPTIONS_FILE = "captions.json"
SETTINGS: Mapping[str, Any] = {
    "size": SIZE,
    "symmetric": False,  # of a hand or a chest left and right mean something
    "channels": (48, 96, 128),
    "text_width": 96,
    "text_layers": 3,
    "dropout": 0.05,
    "default_guidance": 2.0,
}
"""Half the starter's U-Net, and a larger text encoder: more is said of these images, and of fewer pixels each."""
CARD = """# A miniature foundation model of medical images

A Stable Diffusion of 64 pixels that draws blood cells and five other kinds of medical image from free text. It is an
object of experiments on adapting such models to a new domain, and of no clinical use.

Never seen: {without}; chest radiographs.

Learned from {images} images ({repeats} that nearly repeat a validation or test image were left out):

- Acevedo et al., "A dataset of microscopic peripheral blood cell images for development of automatic recognition
  systems", Data in Brief 30:105474 (2020), CC BY 4.0; attributes: Tsutsui et al., "WBCAtt", NeurIPS 2023, MIT.
- "Medical MNIST", gathered from TCIA, the RSNA Bone Age Challenge and the NIH chest X-ray set by Bradley J. Erickson,
  Mayo Clinic, CC BY-SA 4.0. These weights are shared under CC BY-SA 4.0 alike.
"""


@dataclass(frozen=True)
class BaseData:
    """What the model learns from, what chooses among its checkpoints, and how many images were left out as repeats."""

    train: CaptionedSet
    val: CaptionedSet
    repeats: int

    @classmethod
    def load(cls, sets: Sets, without: Collection[str] = NEAR) -> BaseData:
        """without: types of cell that it never sees."""
        kinds, val_kinds = sets.kinds("train"), sets.kinds("val")
        kept = without_repeats(kinds, (val_kinds, sets.kinds("test")))
        train = joined(sets.cells("train", without), kept)
        return cls(train, joined(sets.cells("val", without), val_kinds), len(kinds) - len(kept))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the shared image sets")
    parser.add_argument("--out", type=Path, required=True, help="where the diffusers folder goes")
    parser.add_argument("--run-dir", type=Path, required=True, help="checkpoints; the same folder resumes")
    parser.add_argument("--minutes", type=float, help="time budget of the U-Net, over all attempts")
    parser.add_argument("--vae-minutes", type=float, help="time budget of the autoencoder, over all attempts")
    parser.add_argument("--without", nargs="*", default=NEAR, help="types of cell that it never sees")
    parser.add_argument(
        "--set", action="append", default=[], help="any setting of pretrain: --set steps=2000"
    )
    asked = parser.parse_args()
    given = {
        "minutes": asked.minutes,
        "vae_minutes": asked.vae_minutes,
        **recipes.parse_assignments(asked.set),
    }
    figures = train(asked.data, asked.out, asked.run_dir, asked.without, given)
    print(json.dumps(figures, indent=1))


def train(
    data: Path, out: Path, run: Path, without: Collection[str], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Trains the model in `run`, from where an earlier attempt stopped, and writes it into `out`; returns figures.

    Raises:
        FailedPrecondition: the run began with other images, captions or left-out cells.
        InvalidInput: an unknown setting or an impossible value.
    """
    config = settings_of(data, out, settings)
    run.mkdir(parents=True, exist_ok=True)
    with ProgressBar(run / "progress.json"):
        session = TrainingSession(
            run, progress_reporter(run), device="cuda" if torch.cuda.is_available() else "cpu"
        )
        images = BaseData.load(Sets(data, config.size or SIZE), without)
        _bind(run, images)
        words = train_open_tokenizer(sentences(images.train))
        figures = fit_images(config, images.train, images.val, words, session)
    card = CARD.format(
        without=", ".join(without) or "no type of cell", images=len(images.train), repeats=images.repeats
    )
    (out / "README.md").write_text(card)
    return figures


def settings_of(data: Path, out: Path, settings: Mapping[str, Any]) -> PretrainConfig:
    """The settings of its pre-training: this module's, and upon them those that are given."""
    rater = {"vae_features": RATER} if RATER.is_dir() else {}
    chosen = {name: value for name, value in settings.items() if value is not None}
    own = {"data": str(data), **SETTINGS, **rater, **chosen}
    _, recipe = recipes.parse("pretrain", own)
    return PretrainConfig.model_validate({**recipe.model_dump(), "out": out})


def sentences(images: CaptionedSet) -> list[str]:
    """What the tokenizer's merges are learned from: every caption, and the words of the domains' checklists, so that a
    text that the model never read is spelled in parts of words and not in letters. It says nothing of what they mean.
    """
    checks = [check for name in ("blood_cells", "chest_xray") for check in load_domain(name).criteria]
    asked = [f"{check.question} {check.help}" for check in checks]
    return [*(text for texts in images.captions for text in texts), *asked]


def _bind(run: Path, images: BaseData) -> None:
    """A run goes on with what it began with: its latents and its tokenizer are those of these images."""
    path, now = run / CAPTIONS_FILE, {"train": images.train.digest, "val": images.val.digest}
    if path.is_file() and json.loads(path.read_text()) != now:
        raise FailedPrecondition(
            f"{run} began with other images or captions. Name another --run-dir, or give it the same --data and "
            "--without.",
            "INPUTS_CHANGED",
        )
    path.write_text(json.dumps(now))


if __name__ == "__main__":
    main()
