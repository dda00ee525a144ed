"""Losses on hand-worked numbers, gradients against finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from training.objectives import denoising
from training.objectives.awm import awm_loss
from training.objectives.comparison import bradley_terry
from training.objectives.concept import both, concept_loss
from training.objectives.ddpo import advantages, ddpo_loss, log_probability
from training.objectives.dpo import dpo_loss
from training.objectives.guards import anchor_loss, dispersion, narrowing
from training.objectives.kto import certainty, kto_loss
from training.objectives.nft import nft_loss, normalised
from training.objectives.plausibility import masked_cross_entropy
from training.objectives.reward_gradient import conservative, ddim_step, reward_loss
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
    logits = torch.tensor([[3.0], [1.0]])  # mean 2, deviation 1
    assert reward_loss(logits, std_penalty=2.0).item() == pytest.approx(math.log(2))


def test_the_reward_gradient_agrees_with_finite_differences() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: reward_loss(values, std_penalty=0.5), (logits,))


def test_the_anchor_is_dearer_where_the_ensemble_disagrees() -> None:
    loss = anchor_loss(column(1.0, 1.0), column(0.5, 0.5), torch.tensor([0.0, 2.0]), uncertainty_scale=0.5)
    assert loss.item() == pytest.approx(0.25 * (1 + 2) / 2)


def test_disagreement_is_no_way_to_make_the_anchor_cheap() -> None:
    """Its gradient ends at what the student says: the ensemble is not to be talked into agreement."""
    doubted = torch.ones(1, requires_grad=True)
    output = column(1.0).requires_grad_()
    anchor_loss(output, column(0.5), doubted, uncertainty_scale=1.0).backward()
    assert doubted.grad is None and output.grad is not None


def test_variety_costs_by_the_share_of_it_that_is_lost_within_a_group() -> None:
    theirs = column(0.0, 2.0, 10.0, 12.0)  # two groups, each 1 from its mean
    ours = column(0.5, 1.5, 0.0, 1.0)
    groups = torch.tensor([0, 0, 1, 1])
    assert narrowing(ours, theirs, groups).item() == pytest.approx(0.5)
    assert narrowing(2 * theirs, theirs, groups).item() == 0.0


def test_images_that_are_each_alone_in_their_group_have_no_variety_to_lose() -> None:
    ours = column(1.0, 5.0).requires_grad_()
    lost = narrowing(ours, column(2.0, 3.0), torch.tensor([0, 1]))
    lost.backward()
    assert lost.item() == 0.0
    assert ours.grad is not None and not ours.grad.any()


def test_the_guards_agree_with_finite_differences() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 6, 1, 2, 2, dtype=torch.double)
    ours = (0.4 * ours).requires_grad_()
    groups, doubted = torch.tensor([0, 0, 0, 1, 1, 1]), torch.rand(6, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda x: narrowing(x, theirs, groups), (ours,))
    assert torch.autograd.gradcheck(lambda x: anchor_loss(x, theirs, doubted, uncertainty_scale=0.7), (ours,))


def test_a_question_left_open_is_not_guessed() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    targets = torch.tensor([[1.0, math.nan, 0.0], [0.0, math.nan, math.nan]])
    loss = masked_cross_entropy(logits, targets)
    loss.backward()
    assert loss.item() == pytest.approx(2 * math.log(2))
    assert logits.grad is not None and logits.grad[:, 1].tolist() == [0.0, 0.0]


def test_ratings_with_nothing_but_open_questions_cost_nothing() -> None:
    assert masked_cross_entropy(torch.randn(2, 3), torch.full((2, 3), math.nan)).item() == 0.0


def test_the_cross_entropy_of_hand_worked_numbers() -> None:
    """The verdict costs log 4/3 and log 4, the only criterion that was answered, halfway, log 2."""
    logits = torch.tensor([[math.log(3), 0.0, 7.0], [math.log(3), -7.0, 7.0]])
    targets = torch.tensor([[1.0, 0.5, math.nan], [0.0, math.nan, math.nan]])
    wanted = (math.log(4 / 3) + math.log(4)) / 2 + math.log(2)
    assert masked_cross_entropy(logits, targets).item() == pytest.approx(wanted)


def test_the_cross_entropy_agrees_with_finite_differences() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 3, dtype=torch.double, requires_grad=True)
    targets = torch.rand(4, 3, dtype=torch.double)
    targets[0, 0] = targets[1, 2] = targets[3, 1] = math.nan
    assert torch.autograd.gradcheck(lambda values: masked_cross_entropy(values, targets), (logits,))


@pytest.mark.parametrize(
    ("yes", "sharpness", "expected"),
    [(True, 1.0, 1.0), (False, 1.0, 25.0), (True, 2.0, 8.0), (False, 2.0, 32.0)],
)
def test_the_concept_loss_of_hand_worked_numbers(yes: bool, sharpness: float, expected: float) -> None:
    """old 1, d 2, wanted 4: what is pulled misses by 3 - 2/s, what is pushed by 3 + 2/s, and s counts the squares."""
    loss = concept_loss(column(3.0), column(1.0), column(4.0), torch.tensor([yes]), sharpness=sharpness)
    assert loss.item() == pytest.approx(expected)


def test_what_a_drawing_is_worth_of_hand_worked_numbers() -> None:
    """Three in four and one in two: 3/8 and, with the concept counted twice, 3/16."""
    three_in_four, even = torch.tensor([math.log(3)]), torch.zeros(1)
    assert both(three_in_four, even, 1.0).item() == pytest.approx(math.log(3 / 5), rel=1e-5)
    assert both(three_in_four, even, 2.0).item() == pytest.approx(math.log(3 / 13), rel=1e-5)


@pytest.mark.parametrize("sharpness", [0.5, 2.5])
def test_the_concept_loss_agrees_with_finite_differences(sharpness: float) -> None:
    torch.manual_seed(0)
    output, old, wanted = torch.randn(3, 4, 1, 2, 2, dtype=torch.double)
    yes = torch.tensor([True, False, False, True])
    assert torch.autograd.gradcheck(
        lambda x: concept_loss(x, old, wanted, yes, sharpness=sharpness), (output.requires_grad_(),)
    )


@pytest.mark.parametrize("emphasis", [1.0, 3.0])
def test_what_a_drawing_is_worth_agrees_with_finite_differences(emphasis: float) -> None:
    torch.manual_seed(0)
    plausible, concept = torch.randn(2, 5, dtype=torch.double)
    given = plausible.requires_grad_(), concept.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: both(a, b, emphasis), given)


def test_kto_of_hand_worked_numbers() -> None:
    error, reference = (
        torch.tensor([1.0, 3.0]),
        torch.tensor([2.0, 2.0]),
    )  # gains 2 and -2 at β = 2, their mean 0
    loss = kto_loss(error, reference, torch.tensor([True, False]), beta=2.0)
    assert loss.item() == pytest.approx(1 - 1 / (1 + math.exp(-2)))


def test_kto_measures_from_the_mean_gain_but_never_from_a_loss() -> None:
    reference, wanted = torch.tensor([2.0, 2.0]), torch.tensor([True, True])
    better = kto_loss(
        torch.tensor([1.0, 1.0]), reference, wanted, beta=1.0
    )  # gains 1 = the mean: nothing beyond it
    worse = kto_loss(torch.tensor([3.0, 3.0]), reference, wanted, beta=1.0)  # losses: measured from 0
    assert better.item() == pytest.approx(0.5)
    assert worse.item() == pytest.approx(1 - 1 / (1 + math.e))


def test_kto_counts_a_verdict_by_how_sure_the_raters_are() -> None:
    same, sure = torch.tensor([1.0, 1.0]), certainty(torch.tensor([1.0, 0.4]))
    assert sure.tolist() == pytest.approx([1.0, 0.2])
    loss = kto_loss(same, same, torch.tensor([True, False]), beta=1.0, weight=sure)
    assert loss.item() == pytest.approx((0.5 + 0.2 * 0.5) / 2)


def test_ktos_weight_is_the_expectation_over_both_possible_verdicts() -> None:
    """Up to a constant: with p for plausible and 1 - p for implausible the gradients add up to |2p - 1| of one."""
    p, reference = 0.8, torch.zeros(1)
    slopes = []
    for wanted in (True, False):
        error = torch.tensor([0.7], requires_grad=True)
        kto_loss(error, reference, torch.tensor([wanted]), beta=1.0).backward()
        assert error.grad is not None
        slopes.append(float(error.grad))
    expected = p * slopes[0] + (1 - p) * slopes[1]
    assert expected == pytest.approx(float(certainty(torch.tensor(p))) * slopes[0])


def test_dpo_of_hand_worked_numbers() -> None:
    one, two = torch.tensor([1.0]), torch.tensor([2.0])
    assert dpo_loss(one, one, two, two, beta=9.0).item() == pytest.approx(math.log(2))
    loss = dpo_loss(one, two, two, one, beta=0.5)  # one better on the preferred, one worse on the other
    assert loss.item() == pytest.approx(-math.log(1 / (1 + math.exp(-1))))
    unsure = dpo_loss(one, two, two, one, beta=0.5, weight=torch.tensor([0.25]))
    assert unsure.item() == pytest.approx(0.25 * loss.item())


@pytest.mark.parametrize(("reward", "expected"), [(1.0, 0.25), (0.0, 2.25), (0.5, 1.25)])
def test_nft_pulls_by_what_is_good_and_pushes_by_what_is_not(reward: float, expected: float) -> None:
    loss = nft_loss(column(1.0), column(0.0), column(1.0), torch.tensor([reward]), beta=0.5)
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("beta", [0.2, 1.0])
def test_the_optimum_of_nft_is_the_derived_one(beta: float) -> None:
    """Two clean images, at +1 and -1, the first of which is good: d = (2/β)·E[r·δ] for one noised image."""
    wanted, chance = column(1.0, -1.0), torch.tensor([0.3, 0.7])
    mean = (chance.view(-1, 1, 1, 1) * wanted).sum()
    best = mean + 2 / beta * 0.3 * (1.0 - mean)
    output = best.clone().requires_grad_(True)
    losses = [
        nft_loss(
            output.view(1, 1, 1, 1),
            mean.view(1, 1, 1, 1),
            wanted[i : i + 1],
            torch.tensor([r]),
            beta=beta,
        )
        for i, r in enumerate((1.0, 0.0))
    ]
    (chance[0] * losses[0] + chance[1] * losses[1]).backward()
    assert output.grad is not None and abs(output.grad.item()) < 1e-5


def test_rewards_are_counted_from_the_mean_of_their_own_prompt() -> None:
    rewards, groups = torch.tensor([0.2, 0.4, 0.9, 0.9]), torch.tensor([0, 0, 1, 1])
    assert normalised(rewards, groups, spread=0.2).tolist() == pytest.approx([0.25, 0.75, 0.5, 0.5])


def test_advantages_are_what_was_better_than_usual_for_its_prompt() -> None:
    rewards, groups = torch.tensor([0.0, 1.0, 5.0, 5.0]), torch.tensor([0, 0, 1, 1])
    assert advantages(rewards, groups).tolist() == pytest.approx([-1.0, 1.0, 0.0, 0.0], abs=1e-4)


def test_the_probability_of_a_step_is_the_normal_distributions() -> None:
    found = log_probability(column(1.5), column(1.0), torch.tensor([0.5]))
    assert found.item() == pytest.approx(
        torch.distributions.Normal(1.0, 0.5).log_prob(torch.tensor(1.5)).item()
    )


def test_awm_lowers_the_error_of_what_was_better_and_raises_that_of_what_was_worse() -> None:
    error = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = awm_loss(error, error.detach(), torch.tensor([0.5, -1.0]), clip=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(0.25)
    assert error.grad is not None and error.grad.tolist() == pytest.approx([0.25, -0.5])


def test_awm_pulls_no_more_at_what_has_moved_far_enough_its_own_way() -> None:
    old, advantages = torch.zeros(4), torch.tensor([1.0, 1.0, -1.0, -1.0])
    error = torch.tensor([-0.5, 0.5, 0.5, -0.5], requires_grad=True)  # far: better, worse, better, worse
    awm_loss(error, old, advantages, clip=0.2).backward()
    assert error.grad is not None
    assert [bool(slope) for slope in error.grad] == [False, True, False, True]


def test_awms_gradient_agrees_with_finite_differences() -> None:
    error = torch.tensor([0.31, 0.12, 0.05], dtype=torch.double, requires_grad=True)
    old, advantages = torch.tensor([0.3, 0.1, 0.1]).double(), torch.tensor([1.0, -0.7, 0.2]).double()
    assert torch.autograd.gradcheck(lambda e: awm_loss(e, old, advantages, clip=0.2), (error,))


def test_dispersion_is_the_mean_distance_to_the_others_of_the_own_group() -> None:
    features = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 4.0], [7.0, 7.0]], requires_grad=True)
    found = dispersion(features, torch.tensor([0, 0, 0, 1]))
    assert found.tolist() == pytest.approx([4.5, 4.0, 3.5, 0.0])
    found.sum().backward()  # an image lies at distance 0 from itself, where a root has no slope
    assert features.grad is not None and features.grad.isfinite().all()


def test_ddpo_makes_steps_likelier_by_what_they_led_to() -> None:
    now = torch.tensor([math.log(0.5), math.log(0.25)], requires_grad=True)
    loss = ddpo_loss(now, torch.tensor([1.0, -2.0]))
    loss.backward()
    assert loss.item() == pytest.approx((math.log(2) - 2 * math.log(4)) / 2)
    assert now.grad is not None and now.grad.tolist() == pytest.approx([-0.5, 1.0])


def test_a_comparison_costs_by_the_difference_and_a_tie_pulls_together() -> None:
    first, second = torch.tensor([2.0, 1.0]), torch.tensor([1.0, 1.0])
    one_each = bradley_terry(first, second, torch.tensor([1.0, 0.5]))
    assert one_each.item() == pytest.approx((math.log(1 + math.exp(-1)) + math.log(2)) / 2)
    nothing = torch.zeros(0, requires_grad=True)
    assert bradley_terry(nothing, nothing, torch.zeros(0)).item() == 0.0


def test_gradients_agree_with_finite_differences() -> None:
    torch.manual_seed(1)
    fixed, rewards = torch.rand(5, dtype=torch.double), torch.rand(5, dtype=torch.double)
    images = torch.randn(5, 1, 2, 2, dtype=torch.double)
    row = torch.randn(5, dtype=torch.double, requires_grad=True)
    picture = torch.randn(5, 1, 2, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: dpo_loss(e, fixed, fixed, e.flip(0), beta=2.0), (row,))
    assert torch.autograd.gradcheck(lambda s: bradley_terry(s, fixed, rewards), (row,))
    assert torch.autograd.gradcheck(lambda x: nft_loss(x, images, images + 1, rewards, beta=0.5), (picture,))


def test_ktos_gradient_agrees_with_finite_differences_where_its_point_stays() -> None:
    """The point that gains are measured from is held fixed; at a mean loss it is 0 and does not move."""
    error = (2 + torch.rand(5, dtype=torch.double)).requires_grad_(True)
    wanted = torch.tensor([True, False, True, False, False])
    reference = torch.ones(5, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda e: kto_loss(e, reference, wanted, beta=0.7), (error,))
