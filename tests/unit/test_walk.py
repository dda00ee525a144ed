"""The sampler of alignment: it draws what serving draws, and gradients go where they are wanted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import save_generator, save_reward
from training.alignment.student import Student
from training.alignment.walk import Walker
from vouch.pipelines import load_generator

PROMPTS, SEEDS, STEPS = ["neutrophil", "monocyte, cell size big"], [3, 4], 4


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_generator(tmp_path_factory.mktemp("walk") / "base", seed=0)


@pytest.fixture
def student(base: Path, tmp_path: Path) -> Student:
    torch.manual_seed(0)
    return Student(base, None, save_reward(tmp_path / "reward", seed=0), rank=2)


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_it_draws_what_serving_draws(base: Path, student: Student, guidance: float) -> None:
    walker = Walker(student, STEPS, guidance=guidance)
    noise = torch.stack(
        [torch.randn(walker.shape, generator=torch.Generator().manual_seed(s)) for s in SEEDS]
    )
    latents = walker.walk_from(noise, PROMPTS, torch.Generator()).clean
    with torch.no_grad():
        images = student.decode(latents).clamp(-1, 1)
    ours = ((images + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    theirs = load_generator(base).generate(PROMPTS, SEEDS, STEPS, guidance).astype(float)
    assert np.abs(ours - theirs).max() <= 1


def test_guidance_starts_from_what_no_gradient_can_spoil(student: Student) -> None:
    """The gradient of a guided step is that of its caption's part alone, times the guidance."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in student.trained:
            weight.add_(0.05 * torch.randn_like(weight))
    noise = torch.randn((2, *Walker(student, 2).shape))

    def slope(guidance: float) -> torch.Tensor:
        walker = Walker(student, 1, guidance=guidance)
        walker.walk_from(noise, PROMPTS, torch.Generator(), last=1).clean.sum().backward()
        found = torch.cat([weight.grad.flatten() for weight in student.trained if weight.grad is not None])
        student.unet.zero_grad()
        return found

    assert torch.allclose(slope(3.0), 3 * slope(1.0), rtol=1e-3, atol=1e-4)
