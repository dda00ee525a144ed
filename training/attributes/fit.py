"""Training of attribute networks: what a rater or a judge knows, learned from one half of the annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch.nn import functional as F

from training.data.examples import Examples, dihedral, halves, load_examples, to_unit
from training.loop.ema import Ema
from training.loop.gradient_step import gradient_step
from training.loop.learning_rates import cycle_momentum, one_cycle
from training.loop.session import TrainingSession
from training.loop.trainer import Trainer
from training.loop.training_loop import TrainingLoop
from training.randomness import tensors
from vouch.models.captions import Vocabulary
from vouch.models.networks.attributes import AttributeNet, Recognition
from vouch.recipes import OfDomain

NO_ANSWER = -100
"""The class index that cross-entropy skips: an attribute that nobody annotated."""


class AttributesConfig(OfDomain):
    """One attribute network."""

    data: Path
    out: Path
    split: Literal["teach", "judge", "all"]
    """Which half of the images it may see. The rater takes "teach", the judge "judge"."""
    seed: int = 0
    threads: int = 2
    size: int = 64
    widths: tuple[int, ...] = (32, 64, 128, 192)
    steps: int = Field(1200, ge=1)
    batch: int = 64
    lr: float = 3e-3
    checkpoint_every: int = 100


def fit(config: AttributesConfig, session: TrainingSession) -> dict[str, float]:
    """Trains the network, resuming from the session's folder, and saves it in `config.out`."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    examples = split_of(load_examples(config.data, config.size, config.domain), config.split)
    trainer = AttributeTrainer(config, examples, session)
    result = TrainingLoop(
        trainer, session, f"attribute network ({config.split})", session.folder, config.steps,
        checkpoint_every=config.checkpoint_every,
    ).run()  # fmt: skip
    trainer.ema.swap()
    trainer.net.eval().save(config.out)
    return {"steps": result.steps, "seconds": result.seconds, "images": len(examples)}


class AttributeTrainer(Trainer):
    """An attribute network, its optimiser and its average."""

    parts = ("net", "optimizer", "ema")

    def __init__(self, config: AttributesConfig, examples: Examples, session: TrainingSession) -> None:
        self.config, self.images, self.group = config, examples.images, session.group
        self.net = AttributeNet(examples.vocabulary, config.size, config.widths)
        self.net.to(memory_format=torch.channels_last)
        self.answers = Answers(examples, self.net.vocabulary)
        self.parameters = list(self.net.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.lr, weight_decay=0.05)
        self.ema = Ema([self.net], 0.99)

    def rate(self, done: float, step: int) -> float:
        return one_cycle(done)

    def step(self, step: int, done: float) -> dict[str, float]:
        cycle_momentum(self.optimizer, one_cycle(done))
        random_ = tensors(self.config.seed, self.config.split, step)
        rows = torch.randint(0, len(self.images), (self.config.batch,), generator=random_)
        images = augment(self.images[rows], self.config.symmetric, random_)
        loss = self.answers.loss(self.net(images), rows)
        gradient_step(loss, self.optimizer, self.parameters, self.group, limit=2.0)
        self.ema.update()
        return {"loss": float(loss.detach())}


def split_of(examples: Examples, split: str) -> Examples:
    """The half that teaches, the half that judges, or everything."""
    if split == "all":
        return examples
    teach, judge = halves(examples)
    return teach if split == "teach" else judge


class Answers:
    """The annotations of a data set as class indices."""

    def __init__(self, examples: Examples, vocabulary: Vocabulary) -> None:
        self.labels = torch.tensor([vocabulary.labels.index(label) for label in examples.labels])
        self.attributes = {
            name: torch.tensor(
                [values.index(row[name]) if name in row else NO_ANSWER for row in examples.attributes]
            )
            for name, values in vocabulary.attributes.items()
        }

    def loss(self, said: Recognition, rows: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the label plus the mean over the attributes that were annotated."""
        total = F.cross_entropy(said.labels, self.labels[rows], label_smoothing=0.02)
        parts = []
        for name, logits in said.attributes.items():
            wanted = self.attributes[name][rows]
            if (wanted != NO_ANSWER).any():
                parts.append(F.cross_entropy(logits, wanted, ignore_index=NO_ANSWER))
        return total + torch.stack(parts).mean() if parts else total

    def accuracy(self, said: Recognition) -> dict[str, float]:
        """Share of right answers over all images, for the label and for each attribute."""
        found = {"label": float((said.labels.argmax(1) == self.labels).float().mean())}
        for name, logits in said.attributes.items():
            known = self.attributes[name] != NO_ANSWER
            if known.any():
                found[name] = float((logits.argmax(1)[known] == self.attributes[name][known]).float().mean())
        return found


def augment(images: torch.Tensor, symmetric: bool, random_: torch.Generator) -> torch.Tensor:
    """uint8 [N, 3, S, S] to float in [-1, 1], turned, shifted, with brightness and contrast changed a little.

    Never blurred: blur removes granules and chromatin, and a network that learned to ignore it cannot see that they are
    missing.
    """
    images = dihedral(images, random_) if symmetric else images
    x = to_unit(images)
    n = len(x)
    shift = torch.randint(-3, 4, (2,), generator=random_).tolist()
    x = torch.roll(x, shift, (2, 3))
    gain = 1.0 + 0.1 * torch.randn(n, 1, 1, 1, generator=random_)
    offset = 0.08 * torch.randn(n, 3, 1, 1, generator=random_)
    x = (x * gain + offset).clamp_(-1, 1)
    return x.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def recognise(net: AttributeNet, images: torch.Tensor, batch: int = 256) -> Recognition:
    """What `net` says of uint8 images [N, 3, S, S]."""
    from vouch.models.networks.backbone import to_input

    parts = [net(to_input(images[i : i + batch], net.size)) for i in range(0, len(images), batch)]
    return Recognition(
        torch.cat([p.labels for p in parts]),
        {name: torch.cat([p.attributes[name] for p in parts]) for name in parts[0].attributes},
        torch.cat([p.features for p in parts]),
    )
