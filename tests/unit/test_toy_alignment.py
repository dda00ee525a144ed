"""Every objective on two Gaussians of which one is wanted: there the right answer is known."""

from __future__ import annotations

import pytest
import torch

from tests import toy
from training.objectives import denoising
from training.objectives.concept import concept_loss
from training.objectives.ddpo import advantages, ddpo_loss, log_probability
from training.objectives.dpo import dpo_loss
from training.objectives.kto import kto_loss
from training.objectives.nft import nft_loss
from training.objectives.reward_gradient import reward_loss
from training.objectives.reward_weighted import reward_weighted_loss


@pytest.fixture(scope="module")
def parent() -> toy.Line:
    return toy.pretrained()


@pytest.fixture(scope="module")
def samples(parent: toy.Line) -> torch.Tensor:
    """The parent's own draws, [N, 1, 1, 1]: what experts have rated."""
    return toy.drawn(parent, 4000, seed=5).view(-1, 1, 1, 1)


def some(samples: torch.Tensor, random: torch.Generator, count: int = 256) -> torch.Tensor:
    return samples[torch.randint(0, len(samples), (count,), generator=random)]


def share(net: toy.Says) -> float:
    """Of the draws, near the one that is wanted: at 2, within four of its deviations."""
    return float(((toy.drawn(net) - 2).abs() < 0.8).float().mean())


def test_the_parent_draws_both_alike(parent):
    values = toy.drawn(parent)
    assert share(parent) == pytest.approx(0.5, abs=0.06)
    assert float((values.abs() - 2).abs().mean()) < 0.3


def test_reward_weighting_draws_each_as_often_as_its_share_of_the_reward(parent, samples):
    net = toy.fresh(parent)

    def loss(random: torch.Generator) -> torch.Tensor:
        clean = some(samples, random, 512)
        rewards = torch.where(clean.flatten() > 0, 1.0, 0.25)
        return reward_weighted_loss(toy.error(net, clean, random), rewards, None)

    assert share(toy.train(net, loss, 600, 1e-3)) == pytest.approx(0.8, abs=0.05)  # 1 / (1 + 0.25)


def test_verdicts_alone_move_it_to_what_was_found_plausible(parent, samples):
    net = toy.fresh(parent)

    def loss(random: torch.Generator) -> torch.Tensor:
        clean = some(samples, random)
        x, timesteps, wanted = toy.noised(clean, random)
        with torch.no_grad():
            reference = denoising.per_sample_error(parent(x, timesteps), wanted)
        error = denoising.per_sample_error(net(x, timesteps), wanted)
        return kto_loss(error, reference, clean.flatten() > 0, beta=5.0)

    assert share(toy.train(net, loss, 300, 1e-3)) > 0.9


def test_pairs_move_it_to_what_was_preferred(parent, samples):
    net = toy.fresh(parent)
    good, bad = samples[samples.flatten() > 0], samples[samples.flatten() <= 0]

    def errors(clean: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, timesteps, wanted = toy.noised(clean, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            reference = denoising.per_sample_error(parent(x, timesteps), wanted)
        return denoising.per_sample_error(net(x, timesteps), wanted), reference

    def loss(random: torch.Generator) -> torch.Tensor:
        seed = random.initial_seed()
        better, worse = some(good, random), some(bad, random)
        return dpo_loss(*errors(better, seed), *errors(worse, seed), beta=1.0)

    assert share(toy.train(net, loss, 300, 1e-3)) > 0.9


@pytest.mark.parametrize("beta", [1.0, 2.0, 4.0])
def test_the_forward_process_moves_it_to_the_optimum_in_closed_form(parent, samples, beta):
    net = toy.fresh(parent)

    def loss(random: torch.Generator) -> torch.Tensor:
        clean = some(samples, random, 512)
        x, timesteps, wanted = toy.noised(clean, random)
        with torch.no_grad():
            old = parent(x, timesteps)
        rewards = (clean.flatten() > 0).float()
        return nft_loss(net(x, timesteps), old, wanted, rewards, beta=beta)

    found = share(toy.train(net, loss, 600, 1e-3))
    assert found == pytest.approx(share(toy.exact(beta)), abs=0.06)
    assert found > 0.55


def test_the_gradient_through_the_last_steps_moves_it_to_what_is_rewarded(parent):
    net, last = toy.fresh(parent), len(toy.WALK) - 6

    def loss(random: torch.Generator) -> torch.Tensor:
        noise = torch.randn(256, 1, 1, 1, generator=random)
        with torch.no_grad():
            x = toy.walk(net, noise, stop=last)
        clean = toy.walk(net, x, start=last)
        logits = 2 * clean.flatten().clamp(max=2.0)
        return reward_loss(logits[None], std_penalty=0.0)

    assert share(toy.train(net, loss, 100, 1e-3)) > 0.9


@pytest.mark.parametrize("sharpness", [0.25, 0.5, 1.0])
def test_the_concept_is_drawn_as_far_as_its_optimum_in_closed_form(parent, sharpness):
    """With images that are the concept (at 2) and as many that are not, d = 2s·π(1-π)·(v₊ - v₋): DiffusionNFT's optimum
    for β = 1/s, of samples half of which are good."""
    net = toy.fresh(parent)
    side = torch.tensor([2.0, -2.0]).repeat(256).view(-1, 1, 1, 1)

    def loss(random: torch.Generator) -> torch.Tensor:
        clean = side + toy.SPREAD * torch.randn(side.shape, generator=random)
        x, timesteps, wanted = toy.noised(clean, random)
        with torch.no_grad():
            old = parent(x, timesteps)
        return concept_loss(net(x, timesteps), old, wanted, side.flatten() > 0, sharpness=sharpness)

    found = share(toy.train(net, loss, 600, 1e-3))
    assert found == pytest.approx(share(toy.exact(1 / sharpness)), abs=0.06)
    assert found > 0.55


PEAK = 1.0
"""Where the reward is highest, and where the parent draws nothing: no choice among its draws leads there."""


def peaked(clean: torch.Tensor) -> torch.Tensor:
    """The loss of a reward that falls off on either side of `PEAK`."""
    return reward_loss(-((clean.flatten() - PEAK) ** 2)[None], std_penalty=0.0)


def test_the_gradient_through_the_predicted_clean_image_moves_it_to_the_peak_of_the_reward(parent, samples):
    net = toy.fresh(parent)

    def loss(random: torch.Generator) -> torch.Tensor:
        x, timesteps, _ = toy.noised(some(samples, random), random)
        said = net(x, timesteps)
        return peaked(denoising.predicted_clean(toy.PREDICTION, said, x, toy.ALPHAS, timesteps))

    values = toy.drawn(toy.train(net, loss, 800, 1e-3))
    assert float((values - PEAK).abs().mean()) < 0.1


def test_several_views_of_the_last_step_move_it_to_the_peak_of_the_reward(parent):
    """DRaFT-LV: drawn without a gradient, noised again in several ways to where the last step begins."""
    net, last = toy.fresh(parent), toy.WALK[-1]

    def view(drawn: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        timesteps, alpha = torch.full((len(drawn),), last), toy.ALPHAS[last]
        x = alpha.sqrt() * drawn + (1 - alpha).sqrt() * torch.randn(drawn.shape, generator=random)
        return denoising.predicted_clean(toy.PREDICTION, net(x, timesteps), x, toy.ALPHAS, timesteps)

    def loss(random: torch.Generator) -> torch.Tensor:
        with torch.no_grad():
            drawn = toy.walk(net, torch.randn(256, 1, 1, 1, generator=random))
        return torch.stack([peaked(view(drawn, random)) for _ in range(2)]).mean()

    values = toy.drawn(toy.train(net, loss, 300, 1e-3))
    assert float((values - PEAK).abs().mean()) < 0.1


def test_policy_gradients_move_it_to_what_is_rewarded(parent):
    net = toy.fresh(parent)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for round_ in range(40):
        trajectory, rewards = _walked(net, torch.Generator().manual_seed(round_))
        gains = advantages(rewards, torch.zeros(len(rewards), dtype=torch.long))
        for timesteps, before, after, previous in trajectory:
            mean, deviation = _step(net, before, timesteps, previous)
            now = log_probability(after, mean, deviation)
            optimizer.zero_grad()
            ddpo_loss(now, gains).backward()
            optimizer.step()
    assert share(net) > 0.8


def _step(net: toy.Line, x: torch.Tensor, timestep: int, previous: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of the ancestral step (DDIM with η = 1)."""
    at = torch.full((len(x),), timestep)
    alpha = toy.ALPHAS[timestep]
    before = toy.ALPHAS[previous] if previous >= 0 else torch.tensor(1.0)
    clean = denoising.predicted_clean(toy.PREDICTION, net(x, at), x, toy.ALPHAS, at)
    noise = (x - alpha.sqrt() * clean) / (1 - alpha).sqrt()
    variance = (1 - before) / (1 - alpha) * (1 - alpha / before)
    mean = before.sqrt() * clean + (1 - before - variance).clamp(min=0).sqrt() * noise
    return mean, variance.sqrt().clamp(min=0.02).expand(len(x))


@torch.no_grad()
def _walked(net: toy.Line, random: torch.Generator) -> tuple[list, torch.Tensor]:
    x, trajectory = torch.randn(256, 1, 1, 1, generator=random), []
    for place, timestep in enumerate(toy.WALK):
        previous = toy.WALK[place + 1] if place + 1 < len(toy.WALK) else -1
        mean, deviation = _step(net, x, timestep, previous)
        after = mean + deviation.view(-1, 1, 1, 1) * torch.randn(x.shape, generator=random)
        trajectory.append((timestep, x, after, previous))
        x = after
    return trajectory, (x.flatten() > 0).float()
