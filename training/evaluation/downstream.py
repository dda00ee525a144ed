"""Are generated images of use? A classifier learns from real images, from generated ones, and from both, and reads
real images that nothing learned from.

Every classifier takes the same number of updates of the same size, so that more images are not more training.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from training.attributes.recognition import recognise
from training.data.augmentation import augment
from training.data.examples import Examples
from training.evaluation.intervals import Estimate, percentiles, resamples
from training.loop.ema import Ema
from training.randomness import numbers, tensors
from vouch.models.captions import Vocabulary
from vouch.models.networks.attributes import AttributeNet

ROUNDS = 1000


@dataclass(frozen=True)
class Labelled:
    """Images uint8 [N, 3, S, S] with the name of their class [N] and, where it is known, whose image each is [N]."""

    images: torch.Tensor
    labels: tuple[str, ...]
    groups: tuple[Hashable, ...] | None = None

    @classmethod
    def of(cls, examples: Examples) -> Labelled:
        return cls(examples.images, examples.labels, examples.groups)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.images.numpy().tobytes() + json.dumps(self.labels).encode()).hexdigest()


@dataclass(frozen=True)
class Learning:
    """How every classifier learns."""

    steps: int = 400
    batch: int = 64
    lr: float = 3e-3
    widths: tuple[int, ...] = (16, 32, 64, 128)
    synthetic_share: float = 0.5
    """Of a batch, where there are real images too."""
    real_only_after: float = 1.0
    """From this share of the steps on, batches are real images alone: learning first from generated images, then from
    real ones, is 0.5 with a `synthetic_share` of 1."""
    symmetric: bool = True
    """Flipped and turned images show the same class: true of cells, false of chests."""


def share_of(
    labels: Sequence[str], share: float, seed: int = 0, groups: Sequence[Hashable] | None = None
) -> list[int]:
    """Rows of a part of a data set with the same share of every class, at least one.

    groups: whose image each is. All images of a patient are in the part or none; a patient counts for the class that
    most of its images have.
    """
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups or range(len(labels))):
        members.setdefault(group, []).append(row)
    by_label: dict[str, list[list[int]]] = {}
    for rows in members.values():
        by_label.setdefault(Counter(labels[row] for row in rows).most_common(1)[0][0], []).append(rows)
    chosen: list[int] = []
    for label, own in sorted(by_label.items()):
        for rows in numbers(seed, "share", label).sample(own, max(1, round(share * len(own)))):
            chosen += rows
    return sorted(chosen)


def train(
    real: Labelled | None,
    synthetic: Labelled | None,
    learning: Learning,
    seed: int,
    tell: Callable[[int], None] = lambda step: None,
) -> AttributeNet:
    """A classifier of the labels, from what is given of the two; averaged weights."""
    given = [part for part in (real, synthetic) if part is not None]
    labels = tuple(sorted({label for part in given for label in part.labels}))
    torch.manual_seed(seed)
    size = given[0].images.shape[-1]
    net = AttributeNet(Vocabulary(labels, {}), size, learning.widths).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=learning.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning.lr, total_steps=learning.steps + 1, pct_start=0.2
    )
    ema, classes = Ema([net], 0.99), {label: place for place, label in enumerate(labels)}
    for step in range(1, learning.steps + 1):
        random_ = tensors(seed, "downstream", step)
        parts = _batch(real, synthetic, learning, step, random_)
        # Each source by itself: batch normalisation would else read real images by statistics of both.
        losses = [_loss(net, part, classes, learning, random_) * len(part) for part in parts]
        loss = torch.stack(losses).sum() / sum(map(len, parts))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimizer.step()
        schedule.step()
        ema.update()
        tell(step)
    ema.swap()
    _settle(net, given[0], learning, seed)
    return net.eval()


def _loss(
    net: AttributeNet,
    part: Labelled,
    classes: Mapping[str, int],
    learning: Learning,
    random_: torch.Generator,
) -> torch.Tensor:
    wanted = torch.tensor([classes[name] for name in part.labels])
    images = augment(part.images, learning.symmetric, random_)
    return F.cross_entropy(net(images).labels, wanted, label_smoothing=0.02)


def _settle(net: AttributeNet, images: Labelled, learning: Learning, seed: int) -> None:
    """Statistics of batch normalisation for the averaged weights, over real images where there are any."""
    random_ = tensors(seed, "downstream", "settle")
    # Shuffled: a batch of one class would tell how its images differ, and not how all do.
    order = torch.randperm(len(images), generator=random_)
    batches = (
        augment(images.images[rows], learning.symmetric, random_) for rows in order.split(learning.batch)
    )
    update_bn(batches, net)


def correct(net: AttributeNet, test: Labelled) -> np.ndarray:
    """Whether each image is read rightly: bool [N]."""
    predicted = recognise(net, test.images).labels.argmax(1).tolist()
    return np.array([net.vocabulary.labels[row] for row in predicted]) == np.array(test.labels)


def arms(real: Labelled, synthetic: Labelled) -> dict[str, tuple[Labelled | None, Labelled | None]]:
    """What is learned from, by name."""
    return {
        "real": (real, None),
        "real and synthetic": (real, synthetic),
        "synthetic": (None, synthetic),
    }


def downstream(
    real: Labelled,
    synthetic: Labelled,
    test: Labelled,
    learning: Learning,
    seeds: Sequence[int],
    kept: Path,
    tell: Callable[[str, int], None] = lambda arm, step: None,
) -> dict[str, np.ndarray]:
    """Which test images a classifier of each arm reads rightly: bool [seeds, N] by name.

    What a classifier has read is kept in the folder `kept`: a measurement that was stopped goes on with the next one,
    and the classifier of the real images alone is trained once for all versions.
    """
    correct_by_arm: dict[str, list[np.ndarray]] = {}
    for seed in seeds:
        for arm, given in arms(real, synthetic).items():
            read = kept_reading(*given, test, learning, seed, kept, partial(tell, arm))
            correct_by_arm.setdefault(arm, []).append(read)
    return {arm: np.stack(rows) for arm, rows in correct_by_arm.items()}


def kept_reading(
    real: Labelled | None,
    synthetic: Labelled | None,
    test: Labelled,
    learning: Learning,
    seed: int,
    kept: Path,
    tell: Callable[[int], None] = lambda step: None,
) -> np.ndarray:
    """Which test images one classifier reads rightly, bool [N]; read from the folder `kept` if it stands there."""
    kept.mkdir(parents=True, exist_ok=True)
    digests = [part and part.digest for part in (real, synthetic, test)]
    key = hashlib.sha256(json.dumps([digests, asdict(learning), seed]).encode()).hexdigest()[:24]
    file = kept / f"{key}.npy"
    if not file.is_file():
        read = correct(train(real, synthetic, learning, seed, tell), test)
        with file.with_suffix(".tmp").open("wb") as part:
            np.save(part, read)
        file.with_suffix(".tmp").replace(file)
    return np.asarray(np.load(file, allow_pickle=False))


def figures(
    accuracies: Mapping[str, np.ndarray], groups: Sequence[Hashable] | None = None
) -> dict[str, Estimate]:
    """Accuracy of each arm, and what the generated images add to the real ones. groups: of the test images."""
    estimates = {f"downstream accuracy, {arm}": accuracy(rows, groups) for arm, rows in accuracies.items()}
    gain = accuracies["real and synthetic"].astype(float) - accuracies["real"]
    return estimates | {"downstream gain": accuracy(gain, groups)}


def accuracy(rows: np.ndarray, groups: Sequence[Hashable] | None = None) -> Estimate:
    """The mean of [seeds, N], with both seeds and test images resampled: another classifier, and other images, might
    have come out otherwise. Paired differences go in as they are. groups: whose image each is [N]; patients are then
    resampled in place of images."""
    rows = np.asarray(rows, dtype=float)
    random = np.random.default_rng(0)
    means = []
    for _ in range(ROUNDS):
        seeds = random.integers(0, len(rows), len(rows))
        (images,) = resamples(rows.shape[1], groups, 1, random)
        means.append(float(rows[seeds][:, images].mean()))
    return Estimate(float(rows.mean()), *percentiles(means))


def _batch(
    real: Labelled | None, synthetic: Labelled | None, learning: Learning, step: int, random_: torch.Generator
) -> list[Labelled]:
    """What a step learns from, each source apart."""
    generated = learning.batch if real is None else 0
    if real is not None and synthetic is not None and step <= learning.real_only_after * learning.steps:
        generated = round(learning.synthetic_share * learning.batch)
    parts = []
    for source, count in ((real, learning.batch - generated), (synthetic, generated)):
        if source is not None and count:
            rows = torch.randint(0, len(source), (count,), generator=random_)
            parts.append(Labelled(source.images[rows], tuple(source.labels[row] for row in rows.tolist())))
    return parts
