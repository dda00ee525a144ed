"""Samplers as tables of coefficients, so that images at different steps of different samplers share one update.

DDIM, Euler and DPM-Solver++(2M) are linear in what a step knows: the latents x, the clean latents x0 that the network
predicts, the x0 of the step before, and fresh noise z. One row of a `Trajectory` says how much of each:

    out = unet(input * x, timestep)
    x0  = clean_of_x * x + clean_of_out * out
    x   = x_weight * x + x0_weight * x0 + before_weight * x0_before + noise_weight * z

The rows come from the pipeline's own scheduler: its timestep spacing, sigmas, prediction type and betas.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from vouch.errors import InvalidInput
from vouch.types.samplers import SAMPLERS


@dataclass(frozen=True)
class Trajectory:
    """How one image goes from noise to clean: a row for each denoising step, float32 [S]."""

    timestep: np.ndarray
    input: np.ndarray
    """What the latents are multiplied with before the network sees them."""
    clean_of_x: np.ndarray
    clean_of_out: np.ndarray
    x_weight: np.ndarray
    x0_weight: np.ndarray
    before_weight: np.ndarray
    noise_weight: np.ndarray
    signal: np.ndarray
    """How much of the clean image the latents hold after the step: what a change of x0 alone would add to them."""
    start: float
    """The first latents are standard normal noise times this."""

    def __len__(self) -> int:
        return len(self.timestep)

    @property
    def stochastic(self) -> bool:
        return bool(self.noise_weight.any())


class UnsupportedScheduler(InvalidInput):
    """A scheduler that no table can stand for; its name and the reason are in the message."""

    reason = "UNSUPPORTED_SCHEDULER"


def sampler_of(scheduler: Any) -> str:
    """The name of a scheduler's sampler; for one that no request can choose, the scheduler's own."""
    kind = type(scheduler).__name__
    return next((name for name, known in SAMPLERS.items() if known == kind), kind.removesuffix("Scheduler"))


def with_sampler(scheduler: Any, sampler: str) -> Any:
    """A scheduler of the same noise levels that walks them with another sampler; "" keeps it.

    Raises InvalidInput for a sampler that is not in SAMPLERS.
    """
    if sampler in ("", sampler_of(scheduler)):
        return scheduler
    if sampler not in SAMPLERS:
        raise InvalidInput(f"sampler is {sampler!r}; choose one of {', '.join(SAMPLERS)}.")
    import diffusers

    # Latents have no bounds to clip at; a DDIM scheduler made from another's config would think so.
    return getattr(diffusers, SAMPLERS[sampler]).from_config(scheduler.config, clip_sample=False)


def check_eta(sampler: str, eta: float) -> None:
    """Raises InvalidInput for a stochastic share that the sampler cannot take."""
    if eta and sampler != "ddim":
        raise InvalidInput(f"eta is {eta:g}; only the sampler ddim takes one, and this is {sampler}.")


def trajectory(scheduler: Any, steps: int, eta: float = 0.0) -> Trajectory:
    """The table of `steps` denoising steps as `scheduler`, one of diffusers', would take them.

    eta: share of DDIM's stochastic term, 0 to 1 (Song et al. 2021, eq. 16). The scheduler itself is left as it is.

    Raises UnsupportedScheduler, and InvalidInput for more steps than the model was trained with.
    """
    name = type(scheduler).__name__
    rows = _ROWS.get(name)
    if rows is None:
        raise UnsupportedScheduler(f"{name} is not among {', '.join(sorted(_ROWS))}.")
    _check_plain(scheduler.config, name)
    if steps > scheduler.config.num_train_timesteps:
        raise InvalidInput(
            f"steps is {steps}; this model knows {scheduler.config.num_train_timesteps} noise levels at the most."
        )
    own = copy.deepcopy(scheduler)
    own.set_timesteps(steps)
    return rows(own, eta)


def _check_plain(config: Any, name: str) -> None:
    """Refuse what is not linear, or not written down here."""
    wanted: dict[str, Sequence[Any]] = {
        "prediction_type": ("epsilon", "v_prediction", "sample"),
        "thresholding": (False, None),
        "clip_sample": (False, None),
        "algorithm_type": ("dpmsolver++", None),
        "solver_order": (1, 2, None),
        "use_flow_sigmas": (False, None),
        "variance_type": (None,),
    }
    for key, known in wanted.items():
        value = config.get(key)
        if value not in known:
            raise UnsupportedScheduler(f"{name} with {key} = {value!r} is not supported.")


# --- the three samplers --------------------------------------------------------------------------------------


def _ddim(scheduler: Any, eta: float) -> Trajectory:
    """Song et al. 2021, eq. 12, over the cumulative products of the scheduler."""
    config = scheduler.config
    levels = scheduler.alphas_cumprod.double().numpy()
    timesteps = scheduler.timesteps.numpy()
    before = timesteps - config.num_train_timesteps // len(timesteps)
    now = levels[timesteps]
    then = np.where(before >= 0, levels[np.maximum(before, 0)], float(scheduler.final_alpha_cumprod))
    alpha, sigma = np.sqrt(now), np.sqrt(1 - now)
    noise = eta * np.sqrt((1 - then) / (1 - now) * (1 - now / then))
    direction = (
        np.sqrt(np.maximum(1 - then - noise**2, 0)) / sigma
    )  # of x - alpha x0, which is sigma times epsilon
    return _table(
        scheduler,
        timesteps,
        clean=_clean(config.prediction_type, alpha, sigma),
        x_weight=direction,
        x0_weight=np.sqrt(then) - direction * alpha,
        noise_weight=noise,
        signal=np.sqrt(then),
    )


def _euler(scheduler: Any, eta: float) -> Trajectory:
    """Karras et al. 2022, algorithm 2 without churn: latents are x0 + sigma * noise, scaled for the network only."""
    sigmas = scheduler.sigmas.double().numpy()
    sigma, ratio = sigmas[:-1], sigmas[1:] / sigmas[:-1]
    scale = 1 / np.sqrt(sigma**2 + 1)
    of_x, of_out = _clean(scheduler.config.prediction_type, scale, sigma * scale)
    return _table(
        scheduler,
        scheduler.timesteps.double().numpy(),
        input=scale,
        clean=(of_x * scale, of_out),
        x_weight=ratio,
        x0_weight=1 - ratio,
        signal=np.ones_like(sigma),
    )


def _dpm(scheduler: Any, eta: float) -> Trajectory:
    """Lu et al. 2022, DPM-Solver++(2M), with the lower orders that diffusers takes at the first and last steps."""
    config = scheduler.config
    sigmas = scheduler.sigmas.double().numpy()
    alpha = 1 / np.sqrt(sigmas**2 + 1)
    noise = sigmas * alpha
    with np.errstate(divide="ignore"):
        level = np.log(alpha) - np.log(
            noise
        )  # half the log signal-to-noise ratio; infinite where no noise is left
    step = np.diff(level)
    clean = -alpha[1:] * np.expm1(-step)
    before = np.zeros(len(step))
    for row in range(len(step)):
        if _second_order(config, row, len(step)):
            reach = step[row] / (level[row] - level[row - 1])
            before[row] = -reach * _curvature(config.solver_type, clean[row], alpha[row + 1], step[row])
    return _table(
        scheduler,
        scheduler.timesteps.double().numpy(),
        clean=_clean(config.prediction_type, alpha[:-1], noise[:-1]),
        x_weight=noise[1:] / noise[:-1],
        x0_weight=clean - before,
        before_weight=before,
        signal=alpha[1:],
    )


def _second_order(config: Any, row: int, rows: int) -> bool:
    last = row == rows - 1 and (
        config.euler_at_final
        or (config.lower_order_final and rows < 15)
        or config.final_sigmas_type == "zero"
    )
    return config.solver_order == 2 and row > 0 and not last


def _curvature(solver: str, clean: float, alpha: float, step: float) -> float:
    """How much the change of x0 since the step before counts."""
    return float(clean / 2 if solver == "midpoint" else alpha * (np.expm1(-step) / step + 1))


_ROWS = {"DDIMScheduler": _ddim, "EulerDiscreteScheduler": _euler, "DPMSolverMultistepScheduler": _dpm}


# --- what they share -----------------------------------------------------------------------------------------


def _clean(prediction: str, alpha: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x0 from x = alpha x0 + sigma epsilon and what the network says: factors of x and of its output."""
    if prediction == "epsilon":
        return 1 / alpha, -sigma / alpha
    if prediction == "v_prediction":
        return alpha, -sigma
    return np.zeros_like(alpha), np.ones_like(alpha)


def _table(
    scheduler: Any, timesteps: np.ndarray, *, clean: tuple[np.ndarray, np.ndarray], **rows: np.ndarray
) -> Trajectory:
    zeros = np.zeros(len(timesteps))
    given = {"input": np.ones(len(timesteps)), "before_weight": zeros, "noise_weight": zeros, **rows}
    columns = {"timestep": timesteps, "clean_of_x": clean[0], "clean_of_out": clean[1], **given}
    return Trajectory(
        **{name: np.asarray(column, np.float32) for name, column in columns.items()},
        start=float(scheduler.init_noise_sigma),
    )


# --- the update ----------------------------------------------------------------------------------------------

COLUMNS = tuple(field.name for field in fields(Trajectory) if field.name != "start")


@dataclass(frozen=True)
class Rows:
    """One row for each of N images, float32 [N, 1, 1, 1]; `timestep` [N]."""

    timestep: torch.Tensor
    input: torch.Tensor
    clean_of_x: torch.Tensor
    clean_of_out: torch.Tensor
    x_weight: torch.Tensor
    x0_weight: torch.Tensor
    before_weight: torch.Tensor
    noise_weight: torch.Tensor
    signal: torch.Tensor

    @classmethod
    def of(cls, places: Sequence[tuple[Trajectory, int]], device: str | torch.device = "cpu") -> Rows:
        """The rows at which the images are: a trajectory and a step of it for each."""
        stacked = np.array([[getattr(path, name)[step] for path, step in places] for name in COLUMNS])
        moved = torch.from_numpy(stacked).to(device)
        return cls(moved[0], *(column[:, None, None, None] for column in moved[1:]))


def clean_of(rows: Rows, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """The clean latents that the network predicts, [N, C, h, w]."""
    return rows.clean_of_x * x + rows.clean_of_out * out


def advance(
    rows: Rows, x: torch.Tensor, x0: torch.Tensor, before: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """The latents after this step. `before`: x0 of the step before; `noise`: standard normal; all [N, C, h, w]."""
    return rows.x_weight * x + rows.x0_weight * x0 + rows.before_weight * before + rows.noise_weight * noise
