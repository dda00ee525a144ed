"""The sampler of alignment: it draws what serving draws, and gradients go where they are wanted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import save_generator, save_guided_generator, save_reward
from training.alignment.path_sampler import PathSampler
from training.alignment.student import Student
from vouch.errors import InvalidInput
from vouch.models.pipelines import load_generator
from vouch.types.guidance import PLAIN, GuidanceOptions

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
    sampler = PathSampler(student, STEPS, guidance=guidance)
    noise = torch.stack(
        [torch.randn(sampler.shape, generator=torch.Generator().manual_seed(s)) for s in SEEDS]
    )
    latents = sampler.sample_from(noise, PROMPTS, torch.Generator()).clean
    with torch.no_grad():
        images = student.decode(latents).clamp(-1, 1)
    ours = ((images + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    theirs = load_generator(base).generate(PROMPTS, SEEDS, STEPS, guidance).astype(float)
    assert np.abs(ours - theirs).max() <= 1


@pytest.fixture(scope="module")
def guided_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_guided_generator(tmp_path_factory.mktemp("walk") / "guided")


@pytest.mark.parametrize(
    ("guidance", "options"),
    [
        (2.5, GuidanceOptions(start=0.25, stop=0.75)),
        (0.6, GuidanceOptions(method="cfg_pp", stop=0.75)),
        (2.0, GuidanceOptions(method="autoguidance", start=0.25)),
        (2.0, GuidanceOptions(method="autoguidance", adapter_start=0.5)),
        (2.5, GuidanceOptions(adapter_start=0.5)),
        (1.0, GuidanceOptions(adapter_start=1.0)),
    ],
    ids=str,
)
def test_it_draws_what_serving_draws_with_every_option(
    guided_base: Path, tmp_path: Path, guidance: float, options: GuidanceOptions
) -> None:
    torch.manual_seed(0)
    student = Student(guided_base, None, save_reward(tmp_path / "reward", seed=0), rank=2, text_encoder=True)
    with torch.no_grad():
        for weight in student.trained:  # rounded as they are saved
            weight.copy_((weight + 0.02 * torch.randn_like(weight)).half())
    student.save(tmp_path / "lora")
    sampler = PathSampler(student, STEPS, guidance=guidance, options=options)
    noise = torch.stack(
        [torch.randn(sampler.shape, generator=torch.Generator().manual_seed(s)) for s in SEEDS]
    )
    latents = sampler.sample_from(noise, PROMPTS, torch.Generator()).clean
    with torch.no_grad():
        images = student.decode(latents).clamp(-1, 1)
    ours = ((images + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    served = load_generator(tmp_path / "lora", guided_base)
    theirs = served.generate(PROMPTS, SEEDS, STEPS, guidance, options=options).astype(float)
    plain = served.generate(PROMPTS, SEEDS, STEPS, 2.5, options=PLAIN).astype(float)
    # Beside its base an adapter computes what it computes fused into it but for rounding, which random weights amplify.
    assert np.abs(ours - theirs).mean() < 0.05 * np.abs(plain - theirs).mean()


def test_no_gradient_passes_what_the_base_draws_and_the_adapter_learns_on(
    guided_base: Path, tmp_path: Path
) -> None:
    student = Student(guided_base, None, save_reward(tmp_path / "reward", seed=0), rank=2)
    sampler = PathSampler(student, STEPS, guidance=2.0, options=GuidanceOptions(adapter_start=0.5))
    before = student.passes.backward
    sampler.sample(PROMPTS, torch.Generator().manual_seed(0), last=STEPS).clean.sum().backward()
    assert student.passes.backward - before == len(PROMPTS) * STEPS // 2
    assert all(weight.requires_grad for weight in student.trained)
    assert any(weight.grad is not None and weight.grad.abs().max() > 0 for weight in student.trained)


def test_a_base_without_a_guide_cannot_be_autoguided(student: Student) -> None:
    with pytest.raises(InvalidInput, match="has no guide folder"):
        PathSampler(student, STEPS, guidance=2.0, options=GuidanceOptions(method="autoguidance"))


def test_guidance_starts_from_what_no_gradient_can_spoil(student: Student) -> None:
    """The gradient of a guided step is that of its caption's part alone, times the guidance."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in student.trained:
            weight.add_(0.05 * torch.randn_like(weight))
    noise = torch.randn((2, *PathSampler(student, 2).shape))

    def slope(guidance: float) -> torch.Tensor:
        sampler = PathSampler(student, 1, guidance=guidance)
        sampler.sample_from(noise, PROMPTS, torch.Generator(), last=1).clean.sum().backward()
        found = torch.cat([weight.grad.flatten() for weight in student.trained if weight.grad is not None])
        student.unet.zero_grad()
        return found

    assert torch.allclose(slope(3.0), 3 * slope(1.0), rtol=1e-3, atol=1e-4)
