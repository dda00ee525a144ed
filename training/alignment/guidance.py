"""Ensemble guidance: the reward steers the sampler, nothing is trained (after Yoon et al. 2023, arXiv 2307.02770)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from training.alignment.path_sampler import Steer
from training.alignment.student import Student
from training.objectives.reward_gradient import reward_loss


def guide(student: Student, prompts: Sequence[str], scale: float, std_penalty: float) -> Steer:
    """Moves the predicted clean latents up the gradient of the penalised reward: x̂₀ + s·(1 - ᾱ)·∇ log σ(r(x̂₀)).

    The gradient is taken where the reward looks, at the predicted clean image (universal guidance, arXiv 2302.07121),
    so the network itself needs no backward pass.
    """

    def steer(clean: torch.Tensor, noisiness: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            place = clean.detach().requires_grad_()
            # Summed, so that an image moves as far alone as among others.
            logits = student.teacher_logits(student.decode(place), prompts)
            (gradient,) = torch.autograd.grad(-reward_loss(logits, std_penalty) * len(prompts), place)
        return clean + scale * noisiness * gradient

    return steer
