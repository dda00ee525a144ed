"""The reward's heads upon its frozen features: what takes the whole network minutes takes them a second.

Recipe, loss and swapped classes are those of `training.reward`; only the convolutions stay as the parent has them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, stack_module_state

from training.data.digest import digest_of
from training.objectives.plausibility import masked_cross_entropy
from training.randomness import tensors
from training.reward.batches import pseudo
from vouch.models.networks.backbone import to_input
from vouch.models.networks.reward import EnsembleScores, RewardEnsemble
from vouch.recipes import RewardTraining

RECIPE = RewardTraining()


@dataclass(frozen=True)
class HeadFeatures:
    """Images as the frozen members see them: features [K, N, D], encoded prompts [N, P]."""

    features: torch.Tensor
    prompts: torch.Tensor

    def part(self, rows: np.ndarray | Sequence[int]) -> HeadFeatures:
        return HeadFeatures(self.features[:, rows], self.prompts[rows])


class Heads:
    """An ensemble whose heads learn. A new one is as its parent is."""

    def __init__(self, model: RewardEnsemble, digest: str = "") -> None:
        self.model, self.digest = model, digest
        nets = [_without_backbone(member) for member in model.members]
        self._net = nets[0]
        self._weights, _ = stack_module_state(nets)
        self._weights = {name: weight.detach() for name, weight in self._weights.items()}

    @classmethod
    def load(cls, folder: Path) -> Heads:
        return cls(RewardEnsemble.load(folder), digest_of(folder))

    @torch.inference_mode()
    def see(self, images: np.ndarray, prompts: Sequence[str], batch: int = 64) -> HeadFeatures:
        """Images uint8 [N, H, W, 3] and their prompts."""
        inputs = (
            to_input(images[start : start + batch], self.model.size) for start in range(0, len(images), batch)
        )
        parts = [torch.stack([member.backbone(one) for member in self.model.members]) for one in inputs]
        return HeadFeatures(torch.cat(parts, dim=1), self.model.encode(prompts))

    def fitted(self, seen: HeadFeatures, targets: torch.Tensor, *, steps: int, seed: int) -> Heads:
        """New heads, learned from these on what was rated: targets [N, 1 + criteria], nan where open."""
        grown = copy.copy(self)
        grown._weights = {name: weight.clone().requires_grad_(True) for name, weight in self._weights.items()}
        optimizer = torch.optim.AdamW(grown._weights.values(), lr=RECIPE.lr, weight_decay=0.05)
        mean = {name: weight.detach().clone() for name, weight in grown._weights.items()}
        for step in range(1, steps + 1):
            optimizer.param_groups[0]["lr"] = RECIPE.lr * _warm_cosine(step, steps)
            loss = grown._loss(seen, targets, tensors(seed, "heads", step))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            _clip(grown._weights.values(), 2.0)
            optimizer.step()
            follow = max(0.02, 9 / (10 + step))  # as training.loop.ema does
            for name, weight in grown._weights.items():
                mean[name].lerp_(weight.detach(), follow)
        grown._weights = mean
        return grown

    @torch.inference_mode()
    def score(self, seen: HeadFeatures) -> EnsembleScores:
        """As the reward model scores: the mean, and how far the members disagree."""
        found = self._logits(seen.features, seen.prompts.expand(len(seen.features), -1, -1)).sigmoid()
        mean, std = found.mean(0).numpy(), found[:, :, 0].std(0, unbiased=False).numpy()
        return EnsembleScores(
            mean[:, 0], std, {name: mean[:, 1 + i] for i, name in enumerate(self.model.criteria)}
        )

    @torch.inference_mode()
    def hidden(self, seen: HeadFeatures) -> tuple[torch.Tensor, torch.Tensor]:
        """What the parent's last layer sees [K, N, H], and the logits that it makes of it [K, N, 1 + criteria]."""
        hidden, logits = [], []
        for member, features in zip(self.model.members, seen.features, strict=True):
            said = member.prompt(seen.prompts)
            hidden.append(member.head[:-1](torch.cat([features, said, features * said], dim=1)))
            logits.append(member.head[-1](hidden[-1]))
        return torch.stack(hidden), torch.stack(logits)

    def _logits(self, features: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Features [K, N, D] and encoded prompts [K, N, P] to [K, N, 1 + criteria]: all members at once."""

        def one(weights: dict[str, torch.Tensor], seen: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
            return functional_call(self._net, weights, (seen, said))

        return torch.vmap(one)(self._weights, features, prompts)

    def _loss(self, seen: HeadFeatures, targets: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """Of a batch for each member: rated images, a share of them under another class."""
        members = len(seen.features)
        rows = torch.randint(len(targets), (members, RECIPE.batch), generator=rng)
        prompts, wanted = seen.prompts[rows], targets[rows]
        swapped = round(RECIPE.batch * RECIPE.real_share)
        classes = len(self.model.vocabulary.labels)
        prompts[:, :swapped] = _another(prompts[:, :swapped], classes, rng)
        wanted[:, :swapped] = pseudo(self.model, 0.0)
        features = seen.features[torch.arange(members)[:, None], rows]
        return torch.vmap(masked_cross_entropy)(self._logits(features, prompts), wanted).sum()


def _without_backbone(member: nn.Module) -> nn.Module:
    """The member as a network that takes features for images."""
    net = copy.deepcopy(member)
    net.backbone = nn.Identity()
    return net


def _another(prompts: torch.Tensor, classes: int, rng: torch.Generator) -> torch.Tensor:
    """Encoded bare classes [K, N, P] as another class each, drawn at random."""
    further = torch.randint(1, classes, prompts.shape[:-1], generator=rng)
    other = (prompts[..., :classes].argmax(-1) + further) % classes
    return nn.functional.one_hot(other, prompts.shape[-1]).float()


def _warm_cosine(step: int, steps: int) -> float:
    return min(step / 20, 1.0) * (0.51 + 0.49 * math.cos(math.pi * step / steps))


def _clip(weights: Iterable[torch.Tensor], most: float) -> None:
    """Each member's gradient to this norm: they are as independent as when each learns alone."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    norm = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    scale = (most / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *[1] * (gradient.dim() - 1)))
