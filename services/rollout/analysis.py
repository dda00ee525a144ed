"""Anytime-valid tests of a candidate against the champion. Counts in, e-values out; pure.

An e-process is a non-negative process whose expectation is at most 1 at every stopping time while the null hypothesis
holds. By Ville's inequality (Ville 1939) it ever reaches 1/α with probability at most α, so one may look at it after
every pair and stop at any of them (Ramdas et al. 2023, arXiv:2210.01948). All e-values are returned as natural
logarithms: after thousands of pairs the values themselves overflow.

How α is split: one level of 0.05 belongs to rolling back, over all metrics and all looks, and one of 0.05 to
promoting. The e-processes of the metrics are averaged with the fixed weights of `WEIGHTS`. An average of e-processes is
an e-process (Vovk and Wang 2021, arXiv:1912.06116), so the average is compared with 1/α once. A metric of weight w that
is alone in its evidence is thereby tested at level w·α or better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincc, betaln, logsumexp

ALPHA = 0.05
"""Of a false roll-back, over all looks and metrics; and likewise of a false promotion."""
MARGIN = 0.02
"""How much lower the candidate's plausible share may be for its promotion."""
GUARD_MARGIN = 0.1
"""How much more often a picture may be worse by a guard than better, before that is held against the candidate."""
STATISTIC_MARGIN = 0.3
"""How much more often a statistic of a picture may move one way than the other. The gate guards small shifts."""
WEIGHTS = {
    "plausible": 0.5,
    "experts": 0.1,
    "errors": 0.08,
    "latency": 0.08,
    "diversity": 0.08,
    "near_duplicates": 0.08,
    "brightness": 0.02,
    "contrast": 0.02,
    "saturation": 0.02,
    "sharpness": 0.02,
}
"""Shares of α by metric; they sum to 1. Chosen before any data, by how much each failure harms."""
BETS = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
"""Shares of the largest admissible bet that are mixed with equal weight."""


@dataclass(frozen=True)
class Pairs:
    """Paired binary verdicts of candidate and champion on the same prompt and seed, counted.

    worse, better: discordant pairs, in which the candidate alone failed or alone passed. ties: all others.
    """

    worse: int = 0
    better: int = 0
    ties: int = 0

    @property
    def total(self) -> int:
        return self.worse + self.better + self.ties

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(self.worse + other.worse, self.better + other.better, self.ties + other.ties)


@dataclass(frozen=True)
class Events:
    """Bad events (errors, slow requests) of both sides while the candidate took `share` (0..1) of the requests."""

    candidate: int
    champion: int
    share: float


def log_e_beta(worse: int, better: int, share: float = 0.5) -> float:
    """Log e-value against "a bad event falls on the candidate with probability ≤ `share`".

        E = ∫ (θ/ρ)^worse ((1-θ)/(1-ρ))^better dπ(θ),  π uniform on (ρ, 1),  ρ = share

    This is the method of mixtures (Robbins 1970) with a truncated beta density, as in the one-sided beta-binomial
    mixture of Howard et al. (2021, arXiv:1810.08240). Each factor has expectation θθ₀/ρ + (1-θ)(1-θ₀)/(1-ρ), which is 1
    at θ₀ = ρ and less below it because θ > ρ; so E is a supermartingale under the whole one-sided null.
    With share = 0.5 this is the sequential sign test of discordant pairs. With any share it compares counts of two
    Poisson processes: given an event, its side is a coin toss (Lindon et al. 2022, arXiv:2205.14762, for error counts).
    """
    a, b = worse + 1.0, better + 1.0
    # The integral over (ρ, 1) is an upper tail of the beta distribution, times B(a, b).
    tail = float(betaincc(a, b, share))
    log_tail = math.log(tail) if tail > 0 else _log_tail(worse, better, share)
    likelihood = float(betaln(a, b)) + log_tail - math.log1p(-share)
    return likelihood - worse * math.log(share) - better * math.log1p(-share)


def _log_tail(worse: int, better: int, share: float) -> float:
    """Log P(Beta(worse+1, better+1) > share) where it underflows: as P(Binomial(n+1, share) ≤ worse)."""
    n, k = worse + better + 1, np.arange(worse + 1)
    log_choose = -np.log(n + 1) - betaln(n - k + 1, k + 1)
    return float(logsumexp(log_choose + k * math.log(share) + (n - k) * math.log1p(-share)))


def log_e_mean(up: int, down: int, ties: int, threshold: float) -> float:
    """Log e-value against "mean of D ≤ `threshold`", D = +1 `up` times, -1 `down` times, 0 in ties.

        E = mean over λ of  Π (1 + λ (D_i - threshold)),  0 ≤ λ < 1/(1 + threshold)

    The capital of a bettor, mixed over fixed bets (Waudby-Smith and Ramdas 2024, arXiv:2010.09686, hedged capital).
    Each factor is positive and has expectation ≤ 1 under the null, so every λ and their mixture are supermartingales.
    """
    bets = BETS / (1.0 + threshold)
    logs = (
        up * np.log1p(bets * (1.0 - threshold))
        + down * np.log1p(-bets * (1.0 + threshold))
        + ties * np.log1p(-bets * threshold)
    )
    return float(logsumexp(logs) - math.log(len(bets)))


def log_e_worse(pairs: Pairs, margin: float = 0.0) -> float:
    """Log e-value against "the candidate is not worse by more than `margin`", P(worse) - P(better) ≤ margin."""
    if margin == 0.0:
        return log_e_beta(pairs.worse, pairs.better)
    return log_e_mean(pairs.worse, pairs.better, pairs.ties, margin)


def log_e_not_worse(pairs: Pairs, margin: float = MARGIN) -> float:
    """Log e-value against "the candidate is worse by `margin` or more": what a promotion has to reach."""
    return log_e_mean(pairs.better, pairs.worse, pairs.ties, -margin)


def log_e_shifted(pairs: Pairs, margin: float = STATISTIC_MARGIN) -> float:
    """Log e-value against "no shift": |P(up) - P(down)| ≤ `margin`. worse, better: pairs moved up and down.

    The mean of both one-sided e-values is an e-value of the two-sided null.
    """
    up = log_e_mean(pairs.worse, pairs.better, pairs.ties, margin)
    down = log_e_mean(pairs.better, pairs.worse, pairs.ties, margin)
    return float(np.logaddexp(up, down) - math.log(2.0))


def log_e_events(stages: tuple[Events, ...]) -> float:
    """Log e-value against "the candidate has no more bad events per request"; a stage for each share.

    Stages follow one another, so their e-values multiply. Latency comes here as counts of requests slower than a
    quantile of the champion that was fixed before the rollout began: the comparison of that one quantile.
    """
    return sum(log_e_beta(stage.candidate, stage.champion, stage.share) for stage in stages)


def combined(log_e: Mapping[str, float]) -> float:
    """Log of the weighted mean of e-values by metric; a metric without evidence counts with e = 1.

    Raises:
        KeyError: a metric without a share of α.
    """
    logs = [math.log(WEIGHTS[name]) + value for name, value in log_e.items()]
    silent = sum(weight for name, weight in WEIGHTS.items() if name not in log_e)
    return float(logsumexp([*logs, math.log(silent)] if silent > 0 else logs))


def false_promotion_bound(analysed: int, alpha: float = ALPHA) -> float:
    """At most so many false promotions are expected among `analysed` rollouts that were tested for promotion.

    Each is falsely promoted with probability ≤ α (Ville), and expectations add without any independence.
    """
    return analysed * alpha
