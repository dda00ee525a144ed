"""One denoising step of a batch: network evaluations, guidance, and the sampler's update.

x0    = clean latents of the guided output; the next latents come from the sampler's table (vouch.models.sampling)
cfg, autoguidance:  out = negative + scale * (main - negative)
CFG++:              the same x0, but the noise of the next latents is that of the negative prediction
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from vouch.models.sampling import Rows, advance, clean_of
from vouch.types.guidance import GuidanceOptions


class Predictor(Protocol):
    """A denoising network with its text encoder. Latents float32 [N, C, h, w], prompt embeddings [N, L, D]."""

    @property
    def base(self) -> Predictor | None:
        """The network without its adapter; None for one that has no adapter."""
        ...

    @property
    def guide(self) -> Predictor | None:
        """The weaker network of autoguidance, where there is one."""
        ...

    def encode(self, prompt: str) -> torch.Tensor: ...

    def predict(self, x: torch.Tensor, timesteps: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """The output [N, C, h, w] for noised latents x [N, C, h, w] at timesteps [N]."""
        ...


@dataclass(frozen=True, eq=False)
class Conditioning:
    """A network and its prompt embeddings, [1, L, D]."""

    network: Predictor
    prompt_embeds: torch.Tensor


@dataclass(frozen=True, eq=False)
class GuidedStep:
    """The evaluations of one image in one step, and how guidance combines them."""

    main: Conditioning
    negative: Conditioning | None = None
    """What guidance leads away from: the empty prompt, or the weaker network. None in an unguided step."""
    scale: float = 1.0
    renoise: bool = False
    """CFG++: the next latents get the noise of the negative prediction (algorithm 2 of the paper)."""


def guided_steps(
    network: Predictor, prompt: str, steps: int, scale: float, options: GuidanceOptions
) -> tuple[GuidedStep, ...]:
    """The evaluations of every step of an image. Before `options.adapter_start` an adapted network's base draws."""
    guided, adapted = options.guided_steps(scale, steps), options.adapted_from(steps)

    @functools.cache
    def step_of(is_adapted: bool, is_guided: bool) -> GuidedStep:
        drawing = network if is_adapted else (network.base or network)
        main = Conditioning(drawing, drawing.encode(prompt))
        if not is_guided:
            return GuidedStep(main)
        negative = _negative(network, drawing, prompt, options)
        return GuidedStep(main, negative, scale, options.method == "cfg_pp")

    return tuple(step_of(step >= adapted, step in guided) for step in range(steps))


def _negative(network: Predictor, drawing: Predictor, prompt: str, options: GuidanceOptions) -> Conditioning:
    if options.method != "autoguidance":
        return Conditioning(drawing, drawing.encode(options.negative_prompt))
    assert network.guide is not None, "a request is checked before its steps are made"
    return Conditioning(network.guide, network.guide.encode(prompt))


@dataclass(frozen=True)
class Stepped:
    """The result of a step, each [N, C, h, w]."""

    x: torch.Tensor
    """Latents after the step."""
    x0: torch.Tensor
    """Predicted clean latents."""
    previous_x0: torch.Tensor
    """Clean latents that the next step takes as `previous_x0`."""


def take_step(
    steps: Sequence[GuidedStep],
    rows: Rows,
    x: torch.Tensor,
    previous_x0: torch.Tensor,
    noise: torch.Tensor,
) -> Stepped:
    """One step of N images, each at its own row. `previous_x0` and `noise` as in `vouch.models.sampling.advance`."""
    main = [(index, step.main) for index, step in enumerate(steps)]
    negative = [(index, step.negative) for index, step in enumerate(steps) if step.negative is not None]
    outputs = _evaluate([*main, *negative], rows.input * x, rows.timestep)
    out, negative_out = outputs[: len(steps)], outputs[len(steps) :]
    guided = [index for index, _ in negative]
    renoised = [steps[index].renoise for index in guided]
    unguided = out.clone() if any(renoised) else None
    if guided:
        scale = _column([steps[index].scale for index in guided])
        out[guided] = negative_out + scale * (out[guided] - negative_out)
    x0 = clean_of(rows, x, out)
    if unguided is None:
        return Stepped(advance(rows, x, x0, previous_x0, noise), x0, x0)
    # CFG++: the step of the negative prediction alone, and then its image part replaced by the guided one.
    unguided[guided] = torch.where(_column(renoised), negative_out, out[guided])
    anchor = clean_of(rows, x, unguided)
    return Stepped(advance(rows, x, anchor, previous_x0, noise) + rows.signal * (x0 - anchor), x0, anchor)


def _column(values: Sequence[float | bool]) -> torch.Tensor:
    """One value for each image, [N, 1, 1, 1]."""
    return torch.tensor(values)[:, None, None, None]


def _evaluate(
    evaluations: Sequence[tuple[int, Conditioning]], x: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """Outputs [len(evaluations), C, h, w]. Each evaluation names an image by its index in x; each network is called
    once."""
    rows_of: dict[int, list[int]] = {}
    for row, (_, conditioning) in enumerate(evaluations):
        rows_of.setdefault(id(conditioning.network), []).append(row)
    parts = [_evaluate_one([evaluations[row] for row in rows], x, timesteps) for rows in rows_of.values()]
    if len(parts) == 1:
        return parts[0]
    outputs = torch.empty((len(evaluations), *x.shape[1:]))
    for rows, part in zip(rows_of.values(), parts, strict=True):
        outputs[rows] = part
    return outputs


def _evaluate_one(
    evaluations: Sequence[tuple[int, Conditioning]], x: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """Outputs of evaluations that share a network."""
    indices = [index for index, _ in evaluations]
    prompt_embeds = torch.cat([conditioning.prompt_embeds for _, conditioning in evaluations])
    network = evaluations[0][1].network
    if indices == list(range(len(x))):
        return network.predict(x, timesteps, prompt_embeds)
    return network.predict(x[indices], timesteps[indices], prompt_embeds)
