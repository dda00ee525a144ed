"""What chance alone does to a rollout, and how soon harm is found. Verdicts are simulated, the analysis is real."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.report import Figure, Report
from benchmarks.rollout.plan import MeasurementPlan
from services.rollout.analysis import Events, PairCounts, combined, log_e_events
from services.rollout.evidence import GUARDS, STATISTICS, VERDICTS, log_e_harm
from services.rollout.policy import NEEDED
from training.evaluation.intervals import bootstrap, wilson

DISCORDANT = {
    "plausible": 0.1,
    "experts": 0.2,
    **dict.fromkeys(GUARDS, 0.1),
    **dict.fromkeys(STATISTICS, 0.3),
}
"""Of pairs, by metric, with two equal versions."""
EXPERTS_EVERY = 50
"""One of so many pairs is also seen by experts."""
SHARE = 0.05
EVENTS = {"errors": 0.002, "latency": 0.05}
"""Of requests, on either side; there are as many requests on both sides together as pairs."""


MOST = 4_000
"""Pairs after which a harm that was not found counts as found."""


def measure(report: Report, plan: MeasurementPlan) -> None:
    """`false_rollback_rate` and `pairs_to_detect_5_points`."""
    random = np.random.default_rng(20_261_127)
    rolled_back = sum(_ever_rolled_back(random, plan.pairs) for _ in range(plan.runs))
    low, high = wilson(rolled_back, plan.runs)
    report.add(
        "false_rollback_rate",
        Figure(
            rolled_back / plan.runs, low=low, high=high, unit="of A/A rollouts", must="<= 0.05", aim="<= 0.05"
        ),
    )
    needed = [_pairs_to_detect(random, min(plan.pairs, MOST)) for _ in range(plan.detections)]
    low, high = bootstrap(needed, np.median)
    report.add(
        "pairs_to_detect_5_points",
        Figure(float(np.median(needed)), low=low, high=high, unit="pairs", must="<= 400", aim="<= 250"),
    )
    report.add("pairs_to_detect_5_points_p90", Figure(float(np.percentile(needed, 90)), unit="pairs"))


def _chances(name: str) -> tuple[float, float]:
    """Probabilities of "worse" and "better" of two equal versions."""
    half = DISCORDANT[name] / 2
    return half, half


def _counts(random: np.random.Generator, pairs: int, worse: float, better: float) -> np.ndarray:
    """Cumulative counts [pairs, 2] of worse and better."""
    drawn = random.random(pairs)
    return np.stack([np.cumsum(drawn < worse), np.cumsum((drawn >= worse) & (drawn < worse + better))], 1)


def _looks(pairs: int) -> np.ndarray:
    """Numbers of pairs after which is looked: every one of the first 1,000, then every tenth."""
    return np.concatenate([np.arange(1, min(pairs, 1_000) + 1), np.arange(1_010, pairs + 1, 10)])


def _log_e(
    counts: Mapping[str, np.ndarray], events: Mapping[str, np.ndarray], looks: np.ndarray
) -> np.ndarray:
    """Of all metrics together at each look, by the functions that a rollout is judged by."""
    by_metric: dict[str, np.ndarray] = {}
    for name, rows in counts.items():
        seen = looks // EXPERTS_EVERY if name == "experts" else looks
        worse, better = np.where(seen > 0, rows[seen - 1].T, 0)
        by_metric[name] = log_e_harm(name, PairCounts(worse, better, seen - worse - better))
    for name, rows in events.items():
        candidate, champion = rows[looks - 1].T
        by_metric[name] = log_e_events((Events(candidate, champion, SHARE),))
    combined_e: np.ndarray = combined(by_metric)
    return combined_e


def _ever_rolled_back(random: np.random.Generator, pairs: int) -> bool:
    counts = {name: _counts(random, pairs, *_chances(name)) for name in (*VERDICTS, *GUARDS, *STATISTICS)}
    events = {name: _counts(random, pairs, rate * SHARE, rate * (1 - SHARE)) for name, rate in EVENTS.items()}
    return bool((_log_e(counts, events, _looks(pairs)) >= NEEDED).any())


def _pairs_to_detect(random: np.random.Generator, most: int) -> int:
    """Pairs until a candidate that is plausible 5 points less often, 10 % discordant, is rolled back; all other metrics
    are equal and are measured beside it."""
    counts = {name: _counts(random, most, *_chances(name)) for name in (*GUARDS, *STATISTICS)}
    counts["plausible"] = _counts(random, most, 0.075, 0.025)
    looks = _looks(most)
    found = np.flatnonzero(_log_e(counts, {}, looks) >= NEEDED)
    return int(looks[found[0]]) if len(found) else most
