"""One denoising step of a batch: which network is asked what for each image, and what guidance makes of the answers.

x0    = clean latents of the guided output; the next latents come from the sampler's table (vouch.models.sampling)
cfg, autoguidance:  out = against + scale * (main - against)
CFG++:              the same x0, but the noise of the next latents is that of `against`
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
    """A denoising network with its text encoder. Latents float32 [N, C, h, w], encoded prompts [N, L, D]."""

    @property
    def base(self) -> Predictor | None:
        """What an adapted network was before its adapter; None for one that is not adapted."""
        ...

    @property
    def guide(self) -> Predictor | None:
        """The weaker version that autoguidance leads away from, where there is one."""
        ...

    def encode(self, prompt: str) -> torch.Tensor: ...

    def predict(self, x: torch.Tensor, timesteps: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """What the network says of noised latents at timesteps [N]."""
        ...


@dataclass(frozen=True, eq=False)
class Question:
    """A network and the prompt that it is asked with, [1, L, D]."""

    network: Predictor
    prompt: torch.Tensor


@dataclass(frozen=True, eq=False)
class Asking:
    """What one image asks in one step. `against` is what guidance leads away from, None where nothing is guided."""

    main: Question
    against: Question | None = None
    scale: float = 1.0
    renoise: bool = False
    """CFG++: the next latents get the noise that `against` predicts (algorithm 2 of the paper)."""


def asking_of(
    network: Predictor, prompt: str, steps: int, scale: float, options: GuidanceOptions
) -> tuple[Asking, ...]:
    """What an image of `prompt` asks in each of its `steps` steps.

    Before `options.adapter_start` an adapted network leaves the drawing to its base.
    """
    guided, adapted = options.guided_steps(scale, steps), options.adapted_from(steps)

    @functools.cache
    def of(is_adapted: bool, is_guided: bool) -> Asking:
        drawing = network if is_adapted else (network.base or network)
        main = Question(drawing, drawing.encode(prompt))
        if not is_guided:
            return Asking(main)
        return Asking(main, _against(network, drawing, prompt, options), scale, options.method == "cfg_pp")

    return tuple(of(step >= adapted, step in guided) for step in range(steps))


def _against(network: Predictor, drawing: Predictor, prompt: str, options: GuidanceOptions) -> Question:
    if options.method != "autoguidance":
        return Question(drawing, drawing.encode(""))
    assert network.guide is not None, "a request is checked before it is planned"
    return Question(network.guide, network.guide.encode(prompt))


@dataclass(frozen=True)
class Stepped:
    """Latents after a step, the clean latents that it predicted, and those that the next step shall remember."""

    x: torch.Tensor
    x0: torch.Tensor
    before: torch.Tensor


def take_step(
    asking: Sequence[Asking], rows: Rows, x: torch.Tensor, before: torch.Tensor, noise: torch.Tensor
) -> Stepped:
    """One step of N images, each at its own row. `before` and `noise` as in `vouch.models.sampling.advance`."""
    mains = [(place, one.main) for place, one in enumerate(asking)]
    others = [(place, one.against) for place, one in enumerate(asking) if one.against is not None]
    answers = _answers([*mains, *others], rows.input * x, rows.timestep)
    out, against = answers[: len(asking)], answers[len(asking) :]
    guided = [place for place, _ in others]
    renoised = [asking[place].renoise for place in guided]
    unguided = out.clone() if any(renoised) else None
    if guided:
        scale = _column([asking[place].scale for place in guided])
        out[guided] = against + scale * (out[guided] - against)
    x0 = clean_of(rows, x, out)
    if unguided is None:
        return Stepped(advance(rows, x, x0, before, noise), x0, x0)
    # CFG++: the step that `against` alone would take, and then its image part replaced by the guided one.
    unguided[guided] = torch.where(_column(renoised), against, out[guided])
    anchor = clean_of(rows, x, unguided)
    return Stepped(advance(rows, x, anchor, before, noise) + rows.signal * (x0 - anchor), x0, anchor)


def _column(values: Sequence[float | bool]) -> torch.Tensor:
    """One value for each image, [N, 1, 1, 1]."""
    return torch.tensor(values)[:, None, None, None]


def _answers(
    questions: Sequence[tuple[int, Question]], x: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """What the networks say, [len(questions), C, h, w]; each question is about the image at its place in x.

    Each network is called once.
    """
    rows_of: dict[int, list[int]] = {}
    for row, (_, question) in enumerate(questions):
        rows_of.setdefault(id(question.network), []).append(row)
    parts = [_answer([questions[row] for row in rows], x, timesteps) for rows in rows_of.values()]
    if len(parts) == 1:
        return parts[0]
    answers = torch.empty((len(questions), *x.shape[1:]))
    for rows, part in zip(rows_of.values(), parts, strict=True):
        answers[rows] = part
    return answers


def _answer(
    questions: Sequence[tuple[int, Question]], x: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """What their one network says."""
    places = [place for place, _ in questions]
    prompts = torch.cat([question.prompt for _, question in questions])
    network = questions[0][1].network
    if places == list(range(len(x))):
        return network.predict(x, timesteps, prompts)
    return network.predict(x[places], timesteps[places], prompts)
