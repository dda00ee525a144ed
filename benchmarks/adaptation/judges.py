"""Who says what a drawing shows: two architectures that learned from real images, by seeds of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vouch
from benchmarks.adaptation.ladder import Ladder
from benchmarks.adaptation.sets import SIZE, Sets
from training.adaptation.data import CaptionedSet
from training.attributes.config import AttributesConfig
from training.attributes.recognition import recognise
from training.attributes.trainer import AttributeTrainer
from training.data.examples import Examples, load_examples
from training.data.splits import halves
from training.evaluation.efficientnet import lite0
from training.evaluation.memory import Memory
from training.evaluation.sealed import available, learn_probe
from training.loop.session import TrainingSession
from training.loop.training_loop import TrainingLoop
from vouch.domains.criteria import load_domain
from vouch.models.networks.attributes import AttributeNet

SEED = 101
"""Of no training of the experiment."""
CELLS_JUDGE = Path(vouch.__file__).parent / "starter" / "judge"


@dataclass(frozen=True, eq=False)
class FindingJudge:
    """A network that names labels. Its features are the space that distances are measured in."""

    name: str
    net: Any

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.net.vocabulary.labels)

    def see(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits [N, L] and features [N, D] of uint8 images [N, H, W, 3]."""
        seen = recognise(self.net, torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2))
        return seen.labels.numpy(), seen.features.numpy()


def judges_of(ladder: Ladder, sets: Sets, work: Path, steps: int, probe: bool = True) -> list[FindingJudge]:
    """The judges of a ladder, learned once and kept in `work`. The second needs its weights to be installed."""
    real = load_examples(sets.data / "pbc64" / "train.parquet") if ladder == "near" else None
    if real is not None:
        first, seen = AttributeNet.load(CELLS_JUDGE), halves(real)[1]
    else:
        seen = examples_of(sets.chests("train"))
        first = _learned(seen, work / "judge", steps)
    judges = [FindingJudge("convolutional", first)]
    if probe and available():
        judges.append(FindingJudge("probe", learn_probe(seen, Memory(lite0(), work / "features"))))
    return judges


def examples_of(images: CaptionedSet) -> Examples:
    """The same images as a labelled set."""
    empty: tuple[Mapping[str, str], ...] = ({},) * len(images)
    return Examples(images.images, images.labels, empty, empty, images.digest, images.patients)  # type: ignore[arg-type]


def _learned(seen: Examples, folder: Path, steps: int) -> AttributeNet:
    """A small convolutional network upon these images; one that was begun goes on."""
    kept = folder / f"net-{steps}"
    if kept.is_dir():
        return AttributeNet.load(kept)
    torch.manual_seed(SEED)
    config = AttributesConfig(
        data=folder, out=kept, split="all", seed=SEED, steps=steps, size=seen.images.shape[-1] or SIZE,
        domain=load_domain("chest_xray"), symmetric=False,
    )  # fmt: skip
    session = TrainingSession(folder)
    trainer = AttributeTrainer(config, seen, session)
    TrainingLoop(trainer, session, "judge", folder / f"run-{steps}", steps, checkpoint_every=50).run()
    trainer.ema.swap()
    trainer.net.eval().save(kept)
    return AttributeNet.load(kept)


def share_of(labels: Sequence[str], wanted: Sequence[str], judge: FindingJudge, logits: np.ndarray) -> float:
    """Balanced accuracy: of each wanted label the share that the judge names so, averaged over labels."""
    named = np.array(judge.labels)[logits.argmax(1)]
    told = np.array(wanted)
    return float(
        np.mean([(named[told == label] == label).mean() for label in labels if (told == label).any()])
    )
