"""Training of attribute networks: what a rater or a judge knows, learned from one half of the annotations."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch.nn import functional as F

from training import checkpoint
from training.data import Examples, dihedral, halves, load_examples, to_unit
from training.ema import Ema
from training.randomness import tensors
from training.session import Session
from vouch.models.captions import Vocabulary
from vouch.models.networks.attributes import AttributeNet, Recognition
from vouch.recipes import OfDomain

NO_ANSWER = -100
"""The class index that cross-entropy skips: an attribute that nobody annotated."""


class AttributesConfig(OfDomain):
    """One attribute network."""

    data: Path
    out: Path
    half: Literal["teach", "judge", "all"]
    """Which half of the images it may see. The rater takes "teach", the judge "judge"."""
    seed: int = 0
    threads: int = 2
    size: int = 64
    widths: tuple[int, ...] = (32, 64, 128, 192)
    steps: int = Field(1200, ge=1)
    batch: int = 64
    lr: float = 3e-3
    checkpoint_every: int = 100


def fit(config: AttributesConfig, session: Session) -> dict[str, float]:
    """Trains the network, resuming from the session's folder, and saves it in `config.out`."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    examples = half_of(load_examples(config.data, config.size, config.domain), config.half)
    net = AttributeNet(examples.vocabulary, config.size, config.widths).to(memory_format=torch.channels_last)
    answers = Answers(examples, net.vocabulary)
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=0.05)
    ema = Ema([net], 0.99)
    first = _resume(net, optimizer, ema, session.folder)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, total_steps=config.steps + 1, pct_start=0.2
    )
    for _ in range(first):
        schedule.step()
    started = time.monotonic()
    for step in range(first + 1, config.steps + 1):
        random_ = tensors(config.seed, config.half, step)
        rows = torch.randint(0, len(examples), (config.batch,), generator=random_)
        images = augment(examples.images[rows], config.symmetric, random_)
        loss = answers.loss(net(images), rows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimizer.step()
        schedule.step()
        ema.update()
        session.report(step, config.steps, f"attribute network ({config.half})", loss=float(loss.detach()))
        if step % config.checkpoint_every == 0:
            state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.state_dict()}
            checkpoint.save(session.folder, step, state)
    ema.swap()
    net.eval().save(config.out)
    return {"steps": config.steps, "seconds": time.monotonic() - started, "images": len(examples)}


def half_of(examples: Examples, half: str) -> Examples:
    """The half that teaches, the half that judges, or everything."""
    if half == "all":
        return examples
    teach, judge = halves(examples)
    return teach if half == "teach" else judge


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


def _resume(net: AttributeNet, optimizer, ema: Ema, folder: Path) -> int:
    found = checkpoint.load_latest(folder)
    if found is None:
        return 0
    step, state = found
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    ema.load_state_dict(state["ema"])
    return step


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
