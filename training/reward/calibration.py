"""How far scores can be taken at their word: calibration, its error, reliability, discrimination."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from training.evaluation.intervals import Estimate, bootstrapped, rate
from vouch.scale import Calibration

BINS = 10
PRIOR_RATINGS = 10.0
SLIP = -3.0
"""Where the lapse begins: sigmoid(-3) / 2 is one answer in forty."""
ROUNDS = 500


@dataclass(frozen=True)
class Bin:
    """Images whose scores lie within one tenth: how many, their mean score, and the share that raters passed."""

    images: int
    said: float
    passed: Estimate


def scores(logits: torch.Tensor, calibration: Calibration) -> np.ndarray:
    """The ensemble's probability [N] of logits [K, N]: the mean over the members."""
    said = (logits / calibration.temperature + calibration.offset).sigmoid().mean(0)
    return (calibration.lapse + (1 - 2 * calibration.lapse) * said).numpy()


def fit_calibration(logits: torch.Tensor, wanted: torch.Tensor) -> Calibration:
    """The temperature, offset and lapse that make the ensemble's mean probability most likely.

    The offset takes back what pseudo-labels do to the share of passed images, the lapse what raters get wrong. Priors
    hold a handful that all went right from claiming certainty, for a certain reward has no gradient left to align
    with: log-normal about 1 that weighs as much as ten ratings, standard normal, and about 2 % in the logit.

    Args:
        logits: [K, N] of the members.
        wanted: [N] in [0, 1], what raters said of images that no member learned from. None change nothing.
    """
    if not len(wanted):
        return Calibration()
    log_temperature, offset, slip = (torch.zeros(1, requires_grad=True) for _ in range(3))
    solver = torch.optim.LBFGS([log_temperature, offset, slip], max_iter=200, line_search_fn="strong_wolfe")

    def cost() -> torch.Tensor:
        solver.zero_grad()
        said = (logits / log_temperature.exp() + offset).sigmoid().mean(0)
        lapse = (slip + SLIP).sigmoid() / 2
        said = (lapse + (1 - 2 * lapse) * said).clamp(1e-4, 1 - 1e-4)
        prior = PRIOR_RATINGS * log_temperature.pow(2) + offset.pow(2) + slip.pow(2)
        total = F.binary_cross_entropy(said, wanted, reduction="sum") + prior.sum() / 2
        total.backward()
        return total

    solver.step(cost)
    return Calibration(
        temperature=float(log_temperature.detach().exp()),
        offset=float(offset.detach()),
        lapse=float((slip.detach() + SLIP).sigmoid() / 2),
    )


def crossed_scores(logits: torch.Tensor, wanted: torch.Tensor) -> np.ndarray:
    """Scores [N] of which none was made with a calibration that its own rating helped to fit.

    Each half of the images lends its calibration to the other, so that all of them can measure.
    """
    middle = len(wanted) // 2
    first = scores(logits[:, :middle], fit_calibration(logits[:, middle:], wanted[middle:]))
    second = scores(logits[:, middle:], fit_calibration(logits[:, :middle], wanted[:middle]))
    return np.concatenate([first, second])


def reliability(score: np.ndarray, wanted: np.ndarray, bins: int = BINS) -> list[Bin]:
    """The bins of equal width that hold images, in the order of their scores. `wanted` [N] in [0, 1]: where raters are
    weighed, what they say together is a probability."""
    place = np.minimum((score * bins).astype(int), bins - 1)
    rows = [place == b for b in sorted(set(place.tolist()))]
    return [
        Bin(int(r.sum()), float(score[r].mean()), rate(round(float(wanted[r].sum())), int(r.sum())))
        for r in rows
    ]


def expected_calibration_error(score: np.ndarray, wanted: np.ndarray, bins: int = BINS) -> float:
    """Σ_b n_b/N · |mean score − share of ones| over bins of equal width (Naeini et al. 2015)."""
    place = np.minimum((score * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(place, score - wanted)).sum() / len(score))


def calibration_error(score: np.ndarray, wanted: np.ndarray) -> Estimate:
    """The expected calibration error with the bootstrap's interval."""
    rows = np.column_stack([score, wanted])
    return bootstrapped(rows, lambda r: expected_calibration_error(r[:, 0], r[:, 1]), rounds=ROUNDS)


def error_of_perfect(score: np.ndarray, rounds: int = ROUNDS, seed: int = 0) -> float:
    """The mean calibration error of as many images if every score were exactly true: it is not 0, for images are
    few and verdicts are yes or no."""
    random = np.random.default_rng(seed)
    drawn = random.random((rounds, len(score))) < score
    return float(np.mean([expected_calibration_error(score, wanted) for wanted in drawn]))


def auroc(score: np.ndarray, wanted: np.ndarray, seed: int = 0) -> Estimate | None:
    """How often a passed image scores above a failed one, with the bootstrap's interval over both kinds apart: a
    resample that lacks one of them has no answer. None where one is missing.

    What raters say together counts as passed above a half; where they are even, the image is left out.
    """
    decided = wanted != 0.5
    score, wanted = score[decided], wanted[decided] > 0.5
    yes, no = score[wanted], score[~wanted]
    if not len(yes) or not len(no):
        return None
    wins = (yes[:, None] > no).astype(np.float32) + 0.5 * (yes[:, None] == no)
    random = np.random.default_rng(seed)
    values = [
        wins[random.integers(0, len(yes), len(yes))][:, random.integers(0, len(no), len(no))].mean()
        for _ in range(ROUNDS)
    ]
    low, high = np.percentile(values, [2.5, 97.5])
    return Estimate(float(roc_auc_score(wanted, score)), float(low), float(high))
