"""How far scores can be taken at their word: calibration, its error, reliability, discrimination."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from training.evaluation.intervals import Estimate, rate
from vouch.models.scale import Calibration

BINS = 10
PRIOR_RATINGS = 10.0
SLIP = -3.0
"""Where the lapse begins: sigmoid(-3) / 2 is one answer in forty."""
ROUNDS = 500


@dataclass(frozen=True)
class Bin:
    """Images whose scores lie within one tenth: how many, their mean score, and the share that raters passed."""

    images: int
    mean_score: float
    passed: Estimate


def scores(logits: torch.Tensor, calibration: Calibration) -> np.ndarray:
    """The ensemble's probability [N] of logits [K, N]: the mean over the members."""
    probability = (logits / calibration.temperature + calibration.offset).sigmoid().mean(0)
    return (calibration.lapse + (1 - 2 * calibration.lapse) * probability).numpy()


def fit_calibration(logits: torch.Tensor, wanted: torch.Tensor, passed: float | None = None) -> Calibration:
    """The temperature, offset and lapse that make the ensemble's mean probability most likely.

    The offset takes back what pseudo-labels do to the share of passed images, the lapse what raters get wrong. Priors
    hold a handful that all went right from claiming certainty, for a certain reward has no gradient left to align
    with: log-normal about 1 that weighs as much as ten ratings, standard normal, and about 2 % in the logit.

    Args:
        logits: [K, N] of the members.
        wanted: [N] in [0, 1], what raters said of images that no member learned from. None change nothing.
        passed: share of passed images among all of which these are a random part. These alone tell it worse: of 160
            images it has a standard error of 2 points, and every score has it too. None: theirs.
    """
    if not len(wanted):
        return Calibration()
    log_temperature, offset, slip = (torch.zeros(1, requires_grad=True) for _ in range(3))
    weight = _post_stratified(wanted, passed)
    solver = torch.optim.LBFGS([log_temperature, offset, slip], max_iter=200, line_search_fn="strong_wolfe")

    def cost() -> torch.Tensor:
        solver.zero_grad()
        probability = (logits / log_temperature.exp() + offset).sigmoid().mean(0)
        lapse = (slip + SLIP).sigmoid() / 2
        probability = (lapse + (1 - 2 * lapse) * probability).clamp(1e-4, 1 - 1e-4)
        prior = PRIOR_RATINGS * log_temperature.pow(2) + offset.pow(2) + slip.pow(2)
        total = F.binary_cross_entropy(probability, wanted, weight, reduction="sum") + prior.sum() / 2
        total.backward()
        return total

    solver.step(cost)
    return Calibration(
        temperature=float(log_temperature.detach().exp()),
        offset=float(offset.detach()),
        lapse=float((slip.detach() + SLIP).sigmoid() / 2),
    )


def _post_stratified(wanted: torch.Tensor, passed: float | None) -> torch.Tensor | None:
    """Weights [N] with which verdicts pass as often as among all images."""
    here = float(wanted.mean())
    if passed is None or not 0 < here < 1:
        return None
    return wanted * passed / here + (1 - wanted) * (1 - passed) / (1 - here)


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
    """Σ_b n_b/N · |mean score − share of ones| over bins of equal width (Naeini et al. 2015), as it shows: noise adds
    to it. `calibration_error` takes that out."""
    place = np.minimum((score * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(place, score - wanted)).sum() / len(score))


def calibration_error(score: np.ndarray, wanted: np.ndarray, seed: int = 0) -> Estimate:
    """The expected calibration error without its upward bias, with a 95 % interval.

    Each bin's |mean score − share of ones| is never negative, so noise adds to it and exact scores do not show 0; a
    bootstrap adds the same noise once more. Here the true error is the one under which the observed error is what is
    expected, and the interval holds all true errors under which the observed one lies within its central 95 % (inverted
    test). The true errors of the bins are taken in proportion to the observed ones, their noise as normal. As in
    Kumar et al. (2019, arXiv 1909.10155) the noise comes from the labels within a bin; their correction for absolute
    errors is one step of this and leaves more than half of the bias of exact scores.
    """
    weight, gap, noise = _binned(score, wanted)
    observed = float((weight * np.abs(gap)).sum())
    shape = np.abs(gap) / observed if observed else np.ones(len(gap))
    true = np.linspace(0.0, observed + 4 * float((weight * noise).sum()), 201)
    drawn = noise * np.random.default_rng(seed).standard_normal((ROUNDS, len(gap)))
    shown = np.stack([np.abs(one * shape + drawn) @ weight for one in true])  # [201, ROUNDS]
    lowest, highest = (np.maximum.accumulate(np.percentile(shown, q, axis=1)) for q in (2.5, 97.5))
    value, low, high = (
        float(np.interp(observed, curve, true))
        for curve in (np.maximum.accumulate(shown.mean(1)), highest, lowest)
    )
    # What is smaller than chance alone would show is luck, and does not bound the true error at 0.
    return Estimate(value, low, max(high, observed))


def _binned(score: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the bins that hold images [B]: their share of all images, mean of (score − label), and the standard deviation
    of that mean. A bin of one image has the deviation of a yes or no that comes true as often as its score says."""
    place = np.minimum((score * BINS).astype(int), BINS - 1)
    rows = [place == one for one in np.unique(place)]
    count = np.array([row.sum() for row in rows])
    gap = np.array([(score[row] - wanted[row]).mean() for row in rows])
    squares = np.array([((score[row] - wanted[row]) ** 2).sum() for row in rows]) - count * gap**2
    mean = np.array([score[row].mean() for row in rows])
    return count / len(score), gap, np.sqrt((squares + mean * (1 - mean)) / count) / np.sqrt(count)


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
