"""Two Gaussians on a line and a network that draws them: an alignment whose right answer is known."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from training.objectives import denoising
from training.objectives.reward_gradient import ddim_step

STEPS = 50
ALPHAS = torch.cos(torch.linspace(0.02, 1.0, STEPS) * torch.pi / 2) ** 2  # almost no signal at the end
PREDICTION = "v_prediction"
WALK = tuple(range(STEPS - 1, -1, -5))  # timesteps of the sampler
SPREAD = 0.2
Says = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Line(nn.Module):
    """x_t [N, 1, 1, 1] and timesteps [N] to v."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        alpha = ALPHAS[timesteps]
        said: torch.Tensor = self.net(torch.stack([x.flatten(), alpha.sqrt(), (1 - alpha).sqrt()], 1))
        return said.view(-1, 1, 1, 1)


def data(count: int, random: torch.Generator) -> torch.Tensor:
    """Half of it near -2, half near 2."""
    side = torch.randint(0, 2, (count,), generator=random) * 4.0 - 2.0
    return (side + SPREAD * torch.randn(count, generator=random)).view(-1, 1, 1, 1)


def noised(clean: torch.Tensor, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x_t, t and the denoising target of clean values."""
    timesteps = torch.randint(0, STEPS, (len(clean),), generator=random)
    noise = torch.randn(clean.shape, generator=random)
    alpha = ALPHAS[timesteps].view(-1, 1, 1, 1)
    wanted = denoising.target(PREDICTION, clean, noise, ALPHAS, timesteps)
    return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, timesteps, wanted


def error(net: Line, clean: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    x, timesteps, wanted = noised(clean, random)
    return denoising.per_sample_error(net(x, timesteps), wanted)


def train(net: Line, loss: Callable[[torch.Generator], torch.Tensor], steps: int, lr: float) -> Line:
    """`net` after so many steps of Adam on `loss`, which is given the step's random numbers."""
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    for step in range(steps):
        optimizer.zero_grad()
        loss(torch.Generator().manual_seed(step)).backward()
        optimizer.step()
    return net


def pretrained() -> Line:
    torch.manual_seed(0)
    net = Line()
    return train(net, lambda random: error(net, data(512, random), random).mean(), 1500, 3e-3)


def fresh(net: Line) -> Line:
    return copy.deepcopy(net)


def walk(net: Says, x: torch.Tensor, start: int = 0, stop: int = len(WALK)) -> torch.Tensor:
    """What DDIM makes of x between two places of `WALK`: clean values at its end; differentiable."""
    for place in range(start, stop):
        timesteps = torch.full((len(x),), WALK[place])
        alpha = ALPHAS[timesteps].view(-1, 1, 1, 1)
        clean = denoising.predicted_clean(PREDICTION, net(x, timesteps), x, ALPHAS, timesteps)
        noise = (x - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        previous = WALK[place + 1] if place + 1 < len(WALK) else -1
        x = ddim_step(clean, noise, ALPHAS, torch.full((len(x),), previous))
    return x


@torch.no_grad()
def drawn(net: Says, count: int = 2000, seed: int = 1) -> torch.Tensor:
    """What the network draws, [N]."""
    return walk(net, torch.randn(count, 1, 1, 1, generator=torch.Generator().manual_seed(seed))).flatten()


def exact(beta: float) -> Says:
    """The optimum of DiffusionNFT in closed form, where what is right of 0 has the reward 1 and the rest 0.

    With π the posterior of the right one given x_t, the parent says v = π·v₊ + (1-π)·v₋, and (2/β)·E[r·δ] is
    (2/β)·π·(1-π)·(v₊ - v₋).
    """

    def says(x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        alpha = ALPHAS[timesteps].view(-1, 1, 1, 1)
        variance = alpha * SPREAD**2 + 1 - alpha
        right = torch.sigmoid(4 * alpha.sqrt() * x / variance)
        both = []
        for side in (2.0, -2.0):
            clean = side + alpha.sqrt() * SPREAD**2 / variance * (x - alpha.sqrt() * side)
            both.append((alpha.sqrt() * x - clean) / (1 - alpha).sqrt())
        parent = right * both[0] + (1 - right) * both[1]
        return parent + 2 / beta * right * (1 - right) * (both[0] - both[1])

    return says
