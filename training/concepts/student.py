"""The generator while it learns a concept: a LoRA upon a frozen base, and one new word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from training.alignment.step_rng import StepRng
from training.alignment.student import Noised, Student
from training.concepts.batches import ConceptBatch
from training.concepts.words import NewWord
from training.objectives import denoising
from training.objectives.concept import concept_loss


class ConceptStudent(Student):
    """A student with a word of its own. The LoRA is merged when it is saved."""

    def __init__(
        self,
        base: Path,
        parent: Path | None,
        reward: Path,
        rank: int,
        *,
        concept: str,
        kind_of: str,
        device: str = "cpu",
    ) -> None:
        super().__init__(base, parent, reward, rank, device=device)
        self.word = NewWord(self.pipe.tokenizer, self.pipe.text_encoder, concept, kind_of)

    def learning(self, batch: ConceptBatch, sharpness: float, cleanest: int, rng: StepRng) -> torch.Tensor:
        """The loss of the concept, with gradients. Nearer to clean than timestep `cleanest` an image shows what it is,
        and nothing is left for a caption to say."""
        noised = self._noised(batch.images, batch.as_concept, rng, cleanest)
        old = self.predict_parent(replace(noised, embedded_by_parent=self.embed(batch.as_class)))
        return concept_loss(self.predict(noised), old, noised.wanted, batch.yes, sharpness=sharpness)

    def keeping(self, images: torch.Tensor, prompts: Sequence[str], rng: StepRng) -> torch.Tensor:
        """How far it has moved from what its parent says of images of other concepts, [N], with gradients.

        DreamBooth (Ruiz et al. 2022, arXiv 2208.12242, eq. 2) denoises the parent's own draws; what the parent says of
        a noised image is the mean of that target, and has no noise of its own (Li & Hoiem 2016, arXiv 1606.09282).
        """
        noised = self._noised(images, prompts, rng)
        return denoising.per_sample_error(self.predict(noised), self.predict_parent(noised))

    def embed(self, prompts: Sequence[str]) -> torch.Tensor:
        """[N, tokens, width]; with gradients to the word where a prompt holds it."""
        tokens = self.encoder.tokens(prompts)
        return self.encoder.encode(tokens) if (tokens == self.word.id).any() else super().embed(prompts)

    def save(self, out: Path) -> None:
        """Writes the whole generator as a diffusers folder."""
        self.word.keep()
        self.merge(out)

    def _noised(
        self, images: torch.Tensor, prompts: Sequence[str], rng: StepRng, cleanest: int = 0
    ) -> Noised:
        clean = self.encode(images)
        timesteps = torch.randint(cleanest, len(self.alphas), (len(clean),), generator=rng.torch)
        noise = torch.randn(clean.shape, generator=rng.torch)
        return self.noised(clean, prompts, timesteps, noise)
