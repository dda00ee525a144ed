"""The tables walk the way that diffusers' own schedulers walk."""

from __future__ import annotations

import itertools

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
)

from vouch.errors import InvalidInput
from vouch.models.sampling import Rows, Trajectory, UnsupportedScheduler, advance, clean_of, trajectory

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SHAPE = (1, 4, 8, 8)
KINDS = {
    "ddim": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False}),
    "ddim trailing": (DDIMScheduler, {"clip_sample": False, "timestep_spacing": "trailing"}),
    "ddim zero snr": (
        DDIMScheduler,
        {"clip_sample": False, "timestep_spacing": "trailing", "rescale_betas_zero_snr": True},
    ),
    "euler": (EulerDiscreteScheduler, {}),
    "euler karras trailing": (
        EulerDiscreteScheduler,
        {"use_karras_sigmas": True, "timestep_spacing": "trailing"},
    ),
    "dpm": (DPMSolverMultistepScheduler, {}),
    "dpm karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "dpm heun": (DPMSolverMultistepScheduler, {"solver_type": "heun", "timestep_spacing": "leading"}),
    "dpm first order": (DPMSolverMultistepScheduler, {"solver_order": 1}),
    "dpm to the smallest sigma": (DPMSolverMultistepScheduler, {"final_sigmas_type": "sigma_min"}),
}


PREDICTIONS = ("epsilon", "v_prediction", "sample")
# Without any signal left, predicted noise says nothing of the clean image: nobody trains that.
CASES = [case for case in itertools.product(KINDS, PREDICTIONS) if case != ("ddim zero snr", "epsilon")]


def scheduler(kind: str, prediction: str):
    made, config = KINDS[kind]
    return made(**{**BETAS, "prediction_type": prediction, **config})


def network(x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """Something that is not linear, and minds the time."""
    return torch.tanh(x * 0.7 + timestep.reshape(-1, 1, 1, 1) / 1000) + 0.1 * x


def diffusers_walk(own, steps: int, seed: int, eta: float = 0.0) -> torch.Tensor:
    own.set_timesteps(steps)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(SHAPE, generator=generator) * own.init_noise_sigma
    more = {"eta": eta, "generator": generator} if isinstance(own, DDIMScheduler) else {}
    for timestep in own.timesteps:
        out = network(own.scale_model_input(x, timestep), timestep.float()[None])
        x = own.step(out, timestep, x, **more).prev_sample
    return x


def our_walk(path: Trajectory, seed: int) -> torch.Tensor:
    return batch_walk([path], [seed])[0]


def batch_walk(paths: list[Trajectory], seeds: list[int]) -> list[torch.Tensor]:
    """All together, each ending when its own trajectory ends."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    draw = [
        torch.randn(SHAPE, generator=one) * path.start for one, path in zip(generators, paths, strict=True)
    ]
    before = [torch.zeros(SHAPE) for _ in paths]
    for step in range(max(map(len, paths))):
        alive = [i for i, path in enumerate(paths) if step < len(path)]
        rows = Rows.of([(paths[i], step) for i in alive])
        x = torch.cat([draw[i] for i in alive])
        x0 = clean_of(rows, x, network(rows.input * x, rows.timestep))
        noise = torch.cat(
            [
                torch.randn(SHAPE, generator=generators[i]) if paths[i].stochastic else torch.zeros(SHAPE)
                for i in alive
            ]
        )
        x = advance(rows, x, x0, torch.cat([before[i] for i in alive]), noise)
        for place, i in enumerate(alive):
            draw[i], before[i] = x[place : place + 1], x0[place : place + 1]
    return draw


@pytest.mark.parametrize("steps", [1, 2, 5, 14, 20])
@pytest.mark.parametrize(("kind", "prediction"), CASES)
def test_every_step_is_the_one_of_diffusers(kind, prediction, steps):
    theirs = diffusers_walk(scheduler(kind, prediction), steps, seed=3)
    ours = our_walk(trajectory(scheduler(kind, prediction), steps), seed=3)
    assert torch.isfinite(theirs).all()
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_the_stochastic_term_takes_its_noise_in_the_same_order(eta):
    theirs = diffusers_walk(scheduler("ddim", "v_prediction"), 10, seed=5, eta=eta)
    ours = our_walk(trajectory(scheduler("ddim", "v_prediction"), 10, eta), seed=5)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_images_of_all_samplers_and_lengths_share_one_update():
    kinds = itertools.product(KINDS, (4, 11))
    paths = [trajectory(scheduler(kind, "v_prediction"), steps) for kind, steps in kinds]
    together = batch_walk(paths, list(range(len(paths))))
    for seed, (path, ours) in enumerate(zip(paths, together, strict=True)):
        torch.testing.assert_close(ours, our_walk(path, seed), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("own", "says"),
    [
        (EulerAncestralDiscreteScheduler(), "EulerAncestralDiscreteScheduler is not among"),
        (DDIMScheduler(), "clip_sample = True"),
        (DPMSolverMultistepScheduler(solver_order=3), "solver_order = 3"),
        (DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"), "sde-dpmsolver"),
        (DDIMScheduler(clip_sample=False, thresholding=True), "thresholding = True"),
    ],
)
def test_what_no_table_can_stand_for_is_refused_by_name(own, says):
    with pytest.raises(UnsupportedScheduler, match=says):
        trajectory(own, 5)


def test_more_steps_than_noise_levels_are_refused():
    with pytest.raises(InvalidInput, match="1000 noise levels"):
        trajectory(scheduler("ddim", "epsilon"), 1001)


def test_the_scheduler_itself_is_left_as_it_is():
    own = scheduler("dpm", "epsilon")
    own.set_timesteps(7)
    trajectory(own, 3)
    assert len(own.timesteps) == 7
