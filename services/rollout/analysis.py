"""Anytime-valid tests of a candidate against the champion. Counts in, e-values out; pure.

An e-process is a non-negative process whose expectation is at most 1 at every stopping time while the null hypothesis
holds. By Ville's inequality (Ville 1939) it ever reaches 1/α with probability at most α, so one may look at it after
every pair and stop at any of them (Ramdas et al. 2023, arXiv:2210.01948). All e-values are returned as natural
logarithms: after thousands of pairs the values themselves overflow.

How α is split: one level of 0.05 belongs to rolling back, over all metrics and all looks, and one of 0.05 to
promoting. The e-processes of the metrics are averaged with the fixed weights of `WEIGHTS`. An average of e-processes is
an e-process (Vovk and Wang 2021, arXiv:1912.06116), so the average is compared with 1/α once. A metric of weight w that
is alone in its evidence is thereby tested at level w·α or better. A promotion needs
the null of harm refuted for the verdicts and for each guard. Each is tested at the whole α: a harmful candidate passes
only if the very test of its harm fails (an intersection-union test, Berger 1982).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union

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


Counts = Union[int, np.ndarray]
"""A count, or one at each of many looks."""
LogE = Any
"""The logarithm of an e-value, float for an int; at each look, an array, for arrays."""


@dataclass(frozen=True)
class PairCounts:
    """Paired binary verdicts of candidate and champion on the same prompt and seed, counted.

    worse, better: discordant pairs, in which the candidate alone failed or alone passed. ties: all others.
    """

    worse: Counts = 0
    better: Counts = 0
    ties: Counts = 0

    @property
    def total(self) -> Counts:
        return self.worse + self.better + self.ties

    def __add__(self, other: PairCounts) -> PairCounts:
        return PairCounts(self.worse + other.worse, self.better + other.better, self.ties + other.ties)


@dataclass(frozen=True)
class Events:
    """Bad events (errors, slow requests) of both sides while the candidate took `share` (0..1) of the requests.

    Each request was assigned to its side by itself, with that probability. good: all other requests of both sides.
    """

    candidate: Counts
    champion: Counts
    share: float
    good: Counts = 0

    @property
    def requests(self) -> Counts:
        return self.candidate + self.champion + self.good


def log_e_beta(worse: Counts, better: Counts, share: float = 0.5) -> LogE:
    """Log e-value against "a bad event falls on the candidate with probability ≤ `share`".

        E = ∫ (θ/ρ)^worse ((1-θ)/(1-ρ))^better dπ(θ),  π uniform on (ρ, 1),  ρ = share

    This is the method of mixtures (Robbins 1970) with a truncated beta density, as in the one-sided beta-binomial
    mixture of Howard et al. (2021, arXiv:1810.08240). Each factor has expectation θθ₀/ρ + (1-θ)(1-θ₀)/(1-ρ), which is 1
    at θ₀ = ρ and less below it because θ > ρ; so E is a supermartingale under the whole one-sided null.
    With share = 0.5 this is the sequential sign test of discordant pairs. With any share it compares counts of two
    Poisson processes: given an event, its side is a coin toss (Lindon et al. 2022, arXiv:2205.14762, for error counts).
    """
    a, b = np.add(worse, 1.0), np.add(better, 1.0)
    # The integral over (ρ, 1) is an upper tail of the beta distribution, times B(a, b).
    tail = betaincc(a, b, share)
    with np.errstate(divide="ignore"):
        log_tail = np.where(tail > 0, np.log(tail), 0.0)
    for place in np.argwhere(tail == 0):  # it underflows
        at = tuple(place)
        log_tail[at] = _log_tail(int(np.asarray(worse)[at]), int(np.asarray(better)[at]), share)
    likelihood = betaln(a, b) + log_tail - math.log1p(-share)
    return _plain(likelihood - np.multiply(worse, math.log(share)) - np.multiply(better, math.log1p(-share)))


def _plain(value: np.ndarray) -> LogE:
    return float(value) if np.ndim(value) == 0 else value


def _log_tail(worse: int, better: int, share: float) -> LogE:
    """Log P(Beta(worse+1, better+1) > share) where it underflows: as P(Binomial(n+1, share) ≤ worse)."""
    n, k = worse + better + 1, np.arange(worse + 1)
    log_choose = -np.log(n + 1) - betaln(n - k + 1, k + 1)
    return float(logsumexp(log_choose + k * math.log(share) + (n - k) * math.log1p(-share)))


def log_e_mean(up: Counts, down: Counts, ties: Counts, threshold: float) -> LogE:
    """Log e-value against "mean of D ≤ `threshold`", D = +1 `up` times, -1 `down` times, 0 in ties.

        E = mean over λ of  Π (1 + λ (D_i - threshold)),  0 ≤ λ < 1/(1 + threshold)

    The capital of a bettor, mixed over fixed bets (Waudby-Smith and Ramdas 2024, arXiv:2010.09686, hedged capital).
    Each factor is positive and has expectation ≤ 1 under the null, so every λ and their mixture are supermartingales.
    """
    bets = BETS / (1.0 + threshold)
    logs = (
        np.multiply.outer(up, np.log1p(bets * (1.0 - threshold)))
        + np.multiply.outer(down, np.log1p(-bets * (1.0 + threshold)))
        + np.multiply.outer(ties, np.log1p(-bets * threshold))
    )
    return _plain(logsumexp(logs, axis=-1) - math.log(len(bets)))


def log_e_worse(pairs: PairCounts, margin: float = 0.0) -> LogE:
    """Log e-value against "the candidate is not worse by more than `margin`", P(worse) - P(better) ≤ margin."""
    if margin == 0.0:
        return log_e_beta(pairs.worse, pairs.better)
    return log_e_mean(pairs.worse, pairs.better, pairs.ties, margin)


def log_e_not_worse(pairs: PairCounts, margin: float = MARGIN) -> LogE:
    """Log e-value against "the candidate is worse by `margin` or more": what a promotion has to reach."""
    return log_e_mean(pairs.better, pairs.worse, pairs.ties, -margin)


def log_e_shifted(pairs: PairCounts, margin: float = STATISTIC_MARGIN) -> LogE:
    """Log e-value against "no shift": |P(up) - P(down)| ≤ `margin`. worse, better: pairs moved up and down.

    The mean of both one-sided e-values is an e-value of the two-sided null.
    """
    up = log_e_mean(pairs.worse, pairs.better, pairs.ties, margin)
    down = log_e_mean(pairs.better, pairs.worse, pairs.ties, margin)
    return log_e_average(up, down)


def log_e_average(one: LogE, other: LogE) -> LogE:
    """Log of the mean of two e-values of one null hypothesis, which is an e-value of it."""
    return _plain(np.logaddexp(one, other) - math.log(2.0))


def log_e_not_shifted(pairs: PairCounts, margin: float = STATISTIC_MARGIN) -> LogE:
    """Log e-value against "a shift of `margin` or more, up or down".

    Both directions have to be refuted, so the smaller e-value counts (an intersection-union test).
    """
    return _plain(
        np.minimum(
            log_e_mean(pairs.better, pairs.worse, pairs.ties, -margin),
            log_e_mean(pairs.worse, pairs.better, pairs.ties, -margin),
        )
    )


def log_e_events(stages: tuple[Events, ...]) -> LogE:
    """Log e-value against "the candidate has no more bad events per request"; a stage for each share.

    Stages follow one another, so their e-values multiply. Latency comes here as counts of requests slower than a
    quantile of the champion that was fixed before the rollout began: the comparison of that one quantile.
    """
    logs = [log_e_beta(stage.candidate, stage.champion, stage.share) for stage in stages]
    return _plain(np.sum(logs, axis=0))


def log_e_events_not_worse(stages: tuple[Events, ...], margin: float = GUARD_MARGIN) -> LogE:
    """Log e-value against "a request goes bad more often by `margin` or more with the candidate".

        E = mean over λ of  Π (1 + λ (margin - X_i)),  0 ≤ λ < 1/(1/ρ - margin),  ρ = share
        X = 1/ρ for a bad request of the candidate, -1/(1-ρ) for one of the champion, 0 for a good one

    X weighs by the inverse probability of the assignment (Horvitz and Thompson 1952), so that its expectation is the
    difference of both rates, whatever clients and requests there are. The bets are those of `log_e_mean`.
    """
    logs = sum((_log_capitals(stage, margin) for stage in stages), np.zeros(len(BETS)))
    return _plain(logsumexp(logs, axis=-1) - math.log(len(BETS)))


def _log_capitals(stage: Events, margin: float) -> np.ndarray:
    """Log capital [..., bets] of each bet after one stage."""
    bets = BETS / (1.0 / stage.share - margin)
    return np.asarray(
        np.multiply.outer(stage.candidate, np.log1p(bets * (margin - 1.0 / stage.share)))
        + np.multiply.outer(stage.champion, np.log1p(bets * (margin + 1.0 / (1.0 - stage.share))))
        + np.multiply.outer(stage.good, np.log1p(bets * margin))
    )


def combined(log_e: Mapping[str, LogE]) -> LogE:
    """Log of the weighted mean of e-values by metric; a metric without evidence counts with e = 1.

    Raises:
        KeyError: a metric without a share of α.
    """
    silent = sum(weight for name, weight in WEIGHTS.items() if name not in log_e)
    total = np.asarray(math.log(silent) if silent > 1e-12 else -np.inf)
    for name, value in log_e.items():
        total = np.logaddexp(total, math.log(WEIGHTS[name]) + value)
    return _plain(total)


def false_promotion_bound(analysed: int, alpha: float = ALPHA) -> float:
    """At most so many false promotions are expected among `analysed` rollouts that were tested for promotion.

    Each is falsely promoted with probability ≤ α (Ville), and expectations add without any independence.
    """
    return analysed * alpha
