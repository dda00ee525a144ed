"""The sealed judge: a second judge of another family that selects nothing, ever.

Settings, methods, defaults and promotions follow the first judge (`training/evaluation/judge.py`). Whatever is chosen
by a judge looks better to it than it is, so headline figures come from this one. It is a linear probe upon features
that learned from photographs (EfficientNet-Lite0 by default), fitted on the judge's half of the real images. Only
benchmarks import it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from training.attributes.annotations import NOT_ANNOTATED, Annotations
from training.data.examples import Examples, load_examples
from training.data.splits import halves
from training.evaluation.efficientnet import PACKAGE, lite0
from training.evaluation.features import Extractor
from training.evaluation.judge import Judge, coverage_floor
from training.evaluation.memory import Memory
from training.raters.plausibility import learn_plausibility
from vouch.models.captions import Vocabulary
from vouch.models.networks.attributes import Recognition

REAL_PASS_RATE = 0.93
"""The share of unseen real images that passes, as of the first judge."""
PER_CLASS = 100
COMPONENTS = 256
"""Principal components of the standardised features: the space of distances and coverage."""
DECAY = 3e-3
ITERATIONS = 150


class Probe(nn.Module):
    """Linear heads for the label and each attribute, upon features that are never trained.

    It stands where an `AttributeNet` stands: `size` is that of the images [N, 3, size, size], `forward` gives a
    `Recognition` whose features are principal components [N, COMPONENTS].
    """

    def __init__(
        self, vocabulary: Vocabulary, size: int, memory: Memory, width: int, components: int
    ) -> None:
        super().__init__()
        self.vocabulary, self.size, self._memory = vocabulary, size, memory
        self._outputs = [len(vocabulary.labels), *map(len, vocabulary.attributes.values())]
        for name, shape in (("mean", (width,)), ("deviation", (width,)), ("basis", (width, components))):
            self.register_buffer(name, torch.zeros(shape))
        self.heads = nn.Linear(width, sum(self._outputs)).requires_grad_(False)

    def standard(self, embedded: torch.Tensor) -> torch.Tensor:
        """Features [N, width] in the deviations of real ones."""
        return (embedded - self.mean) / self.deviation

    def recognition(self, standard: torch.Tensor) -> Recognition:
        labels, *attributes = self.heads(standard).split(self._outputs, dim=1)
        named = dict(zip(self.vocabulary.attributes, attributes, strict=True))
        return Recognition(labels, named, standard @ self.basis)

    def forward(self, images: torch.Tensor) -> Recognition:
        """Images float [N, 3, size, size] in [-1, 1]."""
        pixels = ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        return self.recognition(self.standard(torch.from_numpy(self._memory.features(pixels))))


@dataclass(frozen=True)
class Sealed:
    """The judge, and the whole features [N, D] that it looks at: what two-sample tests are made in. The judge's own are
    their principal components of real images, which leave out what only generated images have."""

    judge: Judge
    features: Callable[[np.ndarray], np.ndarray]


def available() -> bool:
    """Whether the default weights are installed."""
    return find_spec(PACKAGE) is not None


def sealed_judge(data: Path, cache: Path, extractor: Extractor | None = None) -> Sealed:
    """The sealed judge of the labelled images in `data` (train, val and test.parquet).

    It learns from the judge's half of `train`, is calibrated on the judge's half of `val`, and measures coverage of
    `test`. Features and the probe are kept in `cache`. extractor: another vision model (`features.local_model`).

    Raises:
        FailedPrecondition, DataLoss: as `lite0`, where no extractor is given.
    """
    extractor = extractor or lite0()
    memory = Memory(extractor, cache / "sealed")
    seen, calibration = (halves(load_examples(data / f"{split}.parquet"))[1] for split in ("train", "val"))
    return Sealed(judge_of(seen, calibration, load_examples(data / "test.parquet"), memory), memory.features)


def judge_of(seen: Examples, calibration: Examples, reference: Examples, memory: Memory) -> Judge:
    """A judge that learns from `seen`, takes its limits from `calibration`, and measures coverage of `reference`."""
    probe = _remembered_probe(seen, memory)
    plausibility = learn_plausibility(probe, seen, calibration, REAL_PASS_RATE)
    judge = Judge(plausibility, np.zeros((0, COMPONENTS), np.float32), 0.0, _identity(seen, memory))
    judge.reference = judge.features(reference.images.permute(0, 2, 3, 1).numpy())
    judge.floor = coverage_floor(judge, calibration, PER_CLASS)
    return judge


def learn_probe(seen: Examples, memory: Memory) -> Probe:
    """Heads by penalised maximum likelihood: cross-entropy of the label plus the mean over annotated attributes."""
    embedded = torch.from_numpy(memory.features(seen.images.permute(0, 2, 3, 1).numpy()))
    probe = _empty(seen, memory, embedded.shape[1], min(COMPONENTS, *embedded.shape))
    probe.mean.copy_(embedded.mean(0))
    probe.deviation.copy_(embedded.std(0).clamp(min=1e-4))
    standard = probe.standard(embedded)
    probe.basis.copy_(
        torch.linalg.eigh(standard.T @ standard).eigenvectors.flip(1)[:, : probe.basis.shape[1]]
    )
    _fit(probe, standard, Annotations(seen, seen.vocabulary))
    return probe


def _fit(probe: Probe, standard: torch.Tensor, answers: Annotations) -> None:
    heads = probe.heads.requires_grad_(True)
    optimizer = torch.optim.LBFGS(heads.parameters(), max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = _error(probe.recognition(standard), answers) + DECAY * heads.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    heads.requires_grad_(False)


def _error(recognition: Recognition, answers: Annotations) -> torch.Tensor:
    total = F.cross_entropy(recognition.labels, answers.labels)
    known = [
        F.cross_entropy(logits, answers.attributes[name], ignore_index=NOT_ANNOTATED)
        for name, logits in recognition.attributes.items()
        if (answers.attributes[name] != NOT_ANNOTATED).any()
    ]
    return total + torch.stack(known).mean() if known else total


def _empty(seen: Examples, memory: Memory, width: int, components: int) -> Probe:
    return Probe(seen.vocabulary, seen.images.shape[-1], memory, width, components).eval()


def _remembered_probe(seen: Examples, memory: Memory) -> Probe:
    """The probe of these images and this extractor, learned once."""
    path = memory.folder / f"probe-{_identity(seen, memory)[:16]}.safetensors"
    if not path.is_file():
        probe = learn_probe(seen, memory)
        save_file({name: value.contiguous() for name, value in probe.state_dict().items()}, path)
        return probe
    stored: Mapping[str, torch.Tensor] = load_file(path)
    probe = _empty(seen, memory, *stored["basis"].shape)
    probe.load_state_dict(stored)
    return probe


def _identity(seen: Examples, memory: Memory) -> str:
    identity = repr((memory.digest, seen.digest, len(seen), COMPONENTS, DECAY, ITERATIONS))
    return hashlib.sha256(identity.encode()).hexdigest()
