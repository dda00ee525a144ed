"""A foundation model in training: one step of any recipe that denoises."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from training.adaptation.config import AdaptConfig
from training.adaptation.data import CaptionedSet
from training.adaptation.dropout import dropping
from training.adaptation.latents import LatentSource
from training.adaptation.noised import NoisedBatch
from training.adaptation.prior import PriorImages
from training.adaptation.sheet import SheetDrawer
from training.adaptation.tuning import Tuning
from training.adaptation.validated import ValidatedTrainer
from training.adaptation.validation import ValidationLoss
from training.loop.gradient_step import apply_gradients
from training.loop.session import TrainingSession
from training.objectives import denoising
from training.randomness import numbers, tensors


@dataclass(frozen=True)
class AdaptationLesson:
    """What is learned from: images with their latents, what is to be kept, and what validates; the last two where
    there is any."""

    data: CaptionedSet
    latents: LatentSource
    prior: PriorImages | None = None
    validation: ValidationLoss | None = None


class AdaptationTrainer(ValidatedTrainer):
    """A tuning that learns to denoise the latents of a lesson."""

    def __init__(
        self,
        tuning: Tuning,
        lesson: AdaptationLesson,
        config: AdaptConfig,
        session: TrainingSession,
        sheet: SheetDrawer,
    ) -> None:
        super().__init__(tuning.groups, lesson.validation, config, session, sheet, sheet.looks_for_copies)
        self.tuning, self.lesson, self.drawer = tuning, lesson, sheet

    def step(self, step: int, done: float) -> dict[str, float]:
        """One update, from the gradients of the batch's parts."""
        del done
        name = (self.group.rank_seed(self.config.seed), "adapt", step)
        torch.manual_seed(numbers(*name, "dropout").getrandbits(62))  # a resumed run drops the same
        batch = self._batch(numbers(*name), tensors(*name))
        size = -(-len(batch) // self.config.accumulate)
        self.optimizer.zero_grad(set_to_none=True)
        loss = 0.0
        for start in range(0, len(batch), size):
            loss += self._learn(batch.part(slice(start, start + size)))
        apply_gradients(self.optimizer, self.parameters, self.group)
        self.tuning.after_update()
        if self.ema:
            self.ema.update()
        return {"loss": loss, "lr": self.optimizer.param_groups[0]["lr"]}

    def _batch(self, rng: random.Random, random_: torch.Generator) -> NoisedBatch:
        """Images of this step, noised; after them those of what is to be kept."""
        lesson, config = self.lesson, self.config
        count = self.group.batch_share(config.batch)
        rows = [rng.randrange(len(lesson.data)) for _ in range(count)]
        captions = [self._caption(row, rng) for row in rows]
        batch = self._noised(lesson.latents, rows, captions, 1 / count, rng, random_)
        if lesson.prior is None or not config.prior.weight:
            return batch
        return batch.and_(self._kept(lesson.prior, max(1, round(count * config.prior.share)), rng, random_))

    def _kept(
        self, prior: PriorImages, count: int, rng: random.Random, random_: torch.Generator
    ) -> NoisedBatch:
        """Of images that the base drew: to be denoised, or to be spoken of as the base does."""
        rows = [rng.randrange(len(prior.prompts)) for _ in range(count)]
        prompts = [prior.prompts[row] for row in rows]
        batch = self._noised(prior.latents, rows, prompts, self.config.prior.weight / count, rng, random_)
        if self.config.prior.kind == "drawn":
            return batch
        base = self.tuning.base
        with torch.no_grad(), self.tuning.as_base(), base.autocast():
            said = self.tuning.predict(batch.x.to(base.device), batch.timesteps, batch.captions)
        return replace(batch, wanted=said.float().cpu())

    def _noised(
        self,
        latents: LatentSource,
        rows: Sequence[int],
        captions: list[str],
        weight: float,
        rng: random.Random,
        random_: torch.Generator,
    ) -> NoisedBatch:
        base = self.tuning.base
        clean = latents.clean(rows, [rng.randrange(latents.variants) for _ in rows], random_)
        noise = torch.randn(clean.shape, generator=random_)
        timesteps = torch.randint(0, len(base.alphas), (len(rows),), generator=random_)
        x = denoising.noised(clean, noise, base.alphas, timesteps)
        wanted = denoising.target(base.prediction, clean, noise, base.alphas, timesteps)
        return NoisedBatch(x, timesteps, captions, wanted, weight * self._snr_weight(timesteps))

    def _caption(self, row: int, rng: random.Random) -> str:
        dropped, caption = rng.random() < self.config.drop_caption, self.lesson.data.caption(row, rng)
        return "" if dropped else self.tuning.worded(caption)

    def _snr_weight(self, timesteps: torch.Tensor) -> torch.Tensor:
        base = self.tuning.base
        if not self.config.min_snr:
            return torch.ones(len(timesteps))
        snr = denoising.signal_to_noise(base.alphas, timesteps)
        return denoising.min_snr_weight(snr, base.prediction, self.config.min_snr)

    def _learn(self, part: NoisedBatch) -> float:
        """Adds the gradients of a part; nothing of its graph outlives the call."""
        with dropping(self.tuning.base.pipe.unet, self.config.dropout):
            loss = self._loss(part)
            loss.backward()  # within: with checkpointing it computes activations again
        return float(loss.detach())

    def _loss(self, part: NoisedBatch) -> torch.Tensor:
        """The weighted error, summed over the images."""
        base = self.tuning.base
        with base.autocast():
            output = self.tuning.predict(part.x.to(base.device), part.timesteps, part.captions)
        error = denoising.per_sample_error(output, part.wanted.to(output.device))
        return (part.weight.to(error) * error).sum()
