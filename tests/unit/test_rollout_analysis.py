from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import binom

from services.rollout.analysis import (
    ALPHA,
    GUARD_MARGIN,
    WEIGHTS,
    Events,
    PairCounts,
    combined,
    false_promotion_bound,
    log_e_beta,
    log_e_events,
    log_e_events_not_worse,
    log_e_mean,
    log_e_not_worse,
    log_e_shifted,
    log_e_worse,
)


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
@pytest.mark.parametrize(("worse", "better"), [(0, 0), (1, 0), (0, 3), (7, 2), (20, 31)])
def test_the_beta_mixture_is_the_integral_that_it_says_it_is(worse, better, share):
    def likelihood_ratio(theta: float) -> float:
        return (theta / share) ** worse * ((1 - theta) / (1 - share)) ** better / (1 - share)

    assert math.exp(log_e_beta(worse, better, share)) == pytest.approx(
        quad(likelihood_ratio, share, 1)[0], rel=1e-6
    )


@pytest.mark.parametrize("looks", [[(1, 0)], [(0, 3), (2, 1)], [(7, 2), (20, 31), (0, 12)]])
def test_both_directions_together_are_the_mixture_of_the_reference_implementation(looks):
    savvi = pytest.importorskip("savvi.multinomial", reason="savvi needs Python 3.11")
    theirs = savvi.Multinomial(ALPHA, np.array([0.5, 0.5]), k=2)  # a uniform prior over both directions
    for look in looks:
        theirs.update(np.array(look))
    worse, better = np.sum(looks, axis=0)
    ours = np.logaddexp(log_e_beta(worse, better), log_e_beta(better, worse)) - math.log(2)
    assert ours == pytest.approx(math.log(theirs.odds), rel=1e-9)


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
@pytest.mark.parametrize("discordant", [1, 5, 40])
def test_under_the_null_the_e_value_has_mean_one_at_the_boundary_and_less_inside(share, discordant):
    def mean(theta: float) -> float:
        outcomes = range(discordant + 1)
        values = [math.exp(log_e_beta(worse, discordant - worse, share)) for worse in outcomes]
        return float(np.dot(values, binom.pmf(outcomes, discordant, theta)))

    assert mean(share) == pytest.approx(1.0, rel=1e-9)
    assert mean(0.8 * share) < 1.0
    assert mean(min(1.0, 1.5 * share)) > 1.0


@given(worse=st.integers(0, 12), better=st.integers(0, 12), share=st.sampled_from([0.05, 0.25, 0.5]))
@settings(deadline=None)
def test_one_more_pair_leaves_the_expectation_as_it_was(worse, better, share):
    """A martingale at the boundary of the null, whatever was seen before: so one may look at every pair."""
    now = math.exp(log_e_beta(worse, better, share))
    then = share * math.exp(log_e_beta(worse + 1, better, share))
    then += (1 - share) * math.exp(log_e_beta(worse, better + 1, share))
    assert then == pytest.approx(now, rel=1e-9)


def test_the_chance_to_ever_cross_is_at_most_alpha_by_exact_enumeration():
    """Every path of 60 discordant pairs, with its probability; a path that crosses is absorbed."""
    alive, crossed = {0: 1.0}, 0.0
    for pairs in range(1, 61):
        following: dict[int, float] = {}
        for worse, chance in alive.items():
            for more in (0, 1):
                if log_e_beta(worse + more, pairs - worse - more) >= math.log(1 / ALPHA):
                    crossed += chance / 2
                else:
                    following[worse + more] = following.get(worse + more, 0.0) + chance / 2
        alive = following
    assert 0.005 < crossed <= ALPHA


@given(worse=st.floats(0, 0.5), better=st.floats(0, 0.5), counts=st.tuples(*[st.integers(0, 30)] * 3))
@settings(deadline=None)
def test_the_bettor_gains_nothing_on_average_while_the_null_holds(worse, better, counts):
    margin = 0.02
    if better - worse > -margin:  # not in the null of "worse by 2 points or more"
        return
    w, b, t = counts
    now = log_e_not_worse(PairCounts(w, b, t))
    after = [
        (worse, PairCounts(w + 1, b, t)), (better, PairCounts(w, b + 1, t)),
        (1 - worse - better, PairCounts(w, b, t + 1)),
    ]  # fmt: skip
    assert sum(p * math.exp(log_e_not_worse(pairs) - now) for p, pairs in after) <= 1 + 1e-9


def test_equal_candidates_are_proven_not_worse_and_worse_ones_are_not():
    assert log_e_not_worse(PairCounts(worse=150, better=150, ties=2700)) > math.log(1 / ALPHA)
    assert log_e_not_worse(PairCounts(worse=240, better=60, ties=2700)) < 0
    assert log_e_not_worse(PairCounts()) == 0.0


def test_a_guard_forgives_what_its_margin_allows():
    slightly = PairCounts(worse=90, better=10, ties=900)
    assert log_e_worse(slightly) > math.log(1 / ALPHA)
    assert log_e_worse(slightly, margin=0.1) < math.log(1 / ALPHA)
    assert log_e_worse(PairCounts(worse=30, better=0, ties=10), margin=0.1) > math.log(1 / ALPHA)


def test_a_shift_is_found_in_either_direction():
    assert log_e_shifted(PairCounts(worse=20)) == pytest.approx(log_e_shifted(PairCounts(better=20)))
    assert log_e_shifted(PairCounts(worse=20)) > math.log(1 / ALPHA)
    assert log_e_shifted(PairCounts(worse=100, better=100, ties=800)) < 0


def test_events_are_compared_by_the_share_at_which_they_happened():
    assert log_e_events((Events(candidate=1, champion=19, share=0.05),)) < 1
    assert log_e_events((Events(candidate=10, champion=19, share=0.05),)) > math.log(1 / ALPHA)
    first, second = Events(3, 20, 0.05), Events(9, 20, 0.25)
    assert log_e_events((first, second)) == pytest.approx(log_e_events((first,)) + log_e_events((second,)))


def _runs(random: np.random.Generator, excess: float) -> Events:
    """1,000 rollouts of 2,000 requests at 5 %, half of them from one heavy client. Cumulative counts [runs, requests].

    Of its requests 3 in 10 are slow, of others 1 in 50; on the candidate more by `excess`.
    """
    shape, share = (1_000, 2_000), 0.05
    rate = np.where(random.random(shape) < 0.5, 0.3, 0.02)
    on_candidate = random.random(shape) < share
    bad = random.random(shape) < rate + excess * on_candidate
    candidate, champion = np.cumsum(bad & on_candidate, 1), np.cumsum(bad & ~on_candidate, 1)
    return Events(candidate, champion, share, good=np.arange(1, shape[1] + 1) - candidate - champion)


def test_a_heavy_client_makes_no_equal_candidate_look_worse():
    """A/A rollouts in which requests are assigned one by one, looked at after every request."""
    log_e = log_e_events((_runs(np.random.default_rng(1), excess=0.0),))
    assert np.mean((log_e >= math.log(1 / ALPHA)).any(axis=1)) <= ALPHA


def test_a_heavy_client_promotes_no_candidate_that_is_worse_by_the_margin():
    log_e = log_e_events_not_worse((_runs(np.random.default_rng(2), excess=GUARD_MARGIN),))
    assert np.mean((log_e >= math.log(1 / ALPHA)).any(axis=1)) <= ALPHA


@pytest.mark.parametrize("share", [0.05, 0.25, 0.9])
def test_one_more_request_gains_nothing_on_average_while_the_candidate_is_worse_by_the_margin(share):
    """At the boundary of the null, whatever the champion's own rate is."""
    before = Events(1, 7, share, good=40)
    now = log_e_events_not_worse((before,))
    for rate in (0.0, 0.3, 0.9):
        after = [
            (share * (rate + GUARD_MARGIN), Events(2, 7, share, good=40)),
            ((1 - share) * rate, Events(1, 8, share, good=40)),
        ]
        after.append((1 - sum(p for p, _ in after), Events(1, 7, share, good=41)))
        assert sum(p * math.exp(log_e_events_not_worse((one,)) - now) for p, one in after) == pytest.approx(1)


def test_clean_requests_prove_a_candidate_harmless_and_none_prove_nothing():
    assert log_e_events_not_worse(()) == pytest.approx(0.0)
    assert log_e_events_not_worse((Events(0, 0, 0.05, good=1_500),)) > math.log(1 / ALPHA)
    assert log_e_events_not_worse((Events(4, 76, 0.05, good=3_000),)) > math.log(1 / ALPHA)
    assert log_e_events_not_worse((Events(30, 76, 0.05, good=3_000),)) < 0


def test_all_metrics_share_one_alpha():
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)
    assert combined({}) == pytest.approx(0.0)
    assert combined({"plausible": math.log(40.0)}) == pytest.approx(math.log(0.5 * 40 + 0.5))
    with pytest.raises(KeyError):
        combined({"taste": 1.0})


def test_a_long_rollout_does_not_overflow():
    assert log_e_beta(20_000, 0) == pytest.approx(20_000 * math.log(2), rel=1e-3)
    assert log_e_beta(0, 20_000) == pytest.approx(-math.log(20_001))
    assert math.isfinite(log_e_beta(2_000, 18_000, 0.5))
    assert math.isfinite(log_e_mean(0, 20_000, 0, 0.1))


def test_the_bound_on_false_promotions_grows_with_what_was_analysed():
    assert false_promotion_bound(0) == 0.0
    assert false_promotion_bound(20) == pytest.approx(1.0)
