"""Losses on hand-worked numbers, gradients against finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from training.objectives import denoising
from training.objectives.plausibility import masked_cross_entropy
from training.objectives.reward_gradient import conservative, ddim_step, reward_gradient_loss
from training.objectives.reward_weighted import reward_weighted_loss

ALPHAS = torch.tensor([0.99, 0.5, 0.0])


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_the_signal_to_noise_ratio_is_one_at_half_and_nothing_at_the_end() -> None:
    snr = denoising.signal_to_noise(ALPHAS, torch.tensor([1, 2]))
    assert snr.tolist() == [1.0, 0.0]


def test_min_snr_weights_are_the_papers() -> None:
    snr = torch.tensor([10.0, 1.0])
    assert denoising.min_snr_weight(snr, "epsilon").tolist() == pytest.approx([0.5, 1.0])
    assert denoising.min_snr_weight(snr, "v_prediction").tolist() == pytest.approx([5 / 11, 0.5])
    assert denoising.min_snr_weight(snr, "sample").tolist() == [5.0, 1.0]


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_the_clean_image_is_found_again_from_a_perfect_output(prediction: str) -> None:
    clean, noise, at = column(0.7, -0.3), column(1.0, 0.5), torch.tensor([0, 1])
    alpha = ALPHAS[at].view(-1, 1, 1, 1)
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    output = denoising.target(prediction, clean, noise, ALPHAS, at)
    found = denoising.predicted_clean(prediction, output, noisy, ALPHAS, at)
    assert torch.allclose(found, clean, atol=1e-6)


def test_v_at_zero_signal_is_the_negative_image() -> None:
    clean, at = column(0.7), torch.tensor([2])
    assert denoising.target("v_prediction", clean, column(1.0), ALPHAS, at).item() == pytest.approx(-0.7)


def test_a_ddim_step_to_the_end_is_the_clean_image_and_to_pure_noise_the_noise() -> None:
    clean, noise = column(0.7), column(2.0)
    assert ddim_step(clean, noise, ALPHAS, torch.tensor([-1])).item() == pytest.approx(0.7)
    assert ddim_step(clean, noise, ALPHAS, torch.tensor([2])).item() == pytest.approx(2.0)
    half = math.sqrt(0.5) * 0.7 + math.sqrt(0.5) * 2.0
    assert ddim_step(clean, noise, ALPHAS, torch.tensor([1])).item() == pytest.approx(half)


def test_reward_weighting_counts_each_sample_by_its_reward_and_real_ones_by_beta() -> None:
    error, rewards = torch.tensor([2.0, 4.0]), torch.tensor([1.0, 0.25])
    assert reward_weighted_loss(error, rewards, None).item() == pytest.approx(1.5)
    assert reward_weighted_loss(error, rewards, torch.tensor([1.0, 3.0]), beta=0.3).item() == pytest.approx(
        2.1
    )


def test_an_unrewarded_sample_teaches_nothing() -> None:
    error = torch.tensor([2.0, 4.0], requires_grad=True)
    reward_weighted_loss(error, torch.tensor([1.0, 0.0]), None).backward()
    assert error.grad is not None and error.grad.tolist() == [0.5, 0.0]


def test_a_cautious_reward_is_lower_where_the_members_disagree() -> None:
    logits = torch.tensor([[1.0, 3.0], [1.0, -1.0]])
    assert conservative(logits, 0.5).tolist() == [1.0, 0.0]


def test_the_reward_gradient_loss_of_hand_worked_numbers() -> None:
    logits = torch.zeros(2, 1)
    loss = reward_gradient_loss(logits, column(1.0), column(0.5), caution=0.5, anchor=2.0)
    assert loss.item() == pytest.approx(math.log(2) + 2.0 * 0.25)


def test_the_reward_gradient_agrees_with_finite_differences() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    output = torch.randn(4, 1, 2, 2, dtype=torch.double)

    def loss(values: torch.Tensor) -> torch.Tensor:
        return reward_gradient_loss(values, output, output, caution=0.5, anchor=1.0)

    assert torch.autograd.gradcheck(loss, (logits,))


def test_a_question_left_open_is_not_guessed() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    targets = torch.tensor([[1.0, math.nan, 0.0], [0.0, math.nan, math.nan]])
    loss = masked_cross_entropy(logits, targets)
    loss.backward()
    assert loss.item() == pytest.approx(2 * math.log(2))
    assert logits.grad is not None and logits.grad[:, 1].tolist() == [0.0, 0.0]


def test_ratings_with_nothing_but_open_questions_cost_nothing() -> None:
    assert masked_cross_entropy(torch.randn(2, 3), torch.full((2, 3), math.nan)).item() == 0.0
