from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.report import Figure, Report
from training.evaluation.intervals import bootstrap, bootstrap_ratio, wilson


def test_a_report_is_a_table_and_a_json_of_the_agreed_form(tmp_path: Path) -> None:
    report, screen = Report("swap"), io.StringIO()
    report.add("failed", Figure(0, unit="requests", must="<= 0", aim="<= 0"))
    report.add("slowest_ratio", Figure(1.7, low=1.2, high=2.1, unit="ratio", must="<= 1.5"))
    report.finish(tmp_path / "deep" / "swap.json", console=Console(file=screen, width=120))

    written = json.loads((tmp_path / "deep" / "swap.json").read_text())
    assert list(written) == ["benchmark", "machine", "versions", "date", "figures"]
    assert written["figures"]["slowest_ratio"] == {
        "value": 1.7, "low": 1.2, "high": 2.1, "unit": "ratio", "must": "<= 1.5", "aim": None,
    }  # fmt: skip
    assert "missed" in screen.getvalue() and "aim met" in screen.getvalue()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["swap.json"], "no partial file stays"


def test_the_machine_is_described_without_its_name() -> None:
    described = Report("basics").as_json()["machine"]
    assert set(described) == {"cpu", "cores", "memory_gib", "system", "gpu"}
    assert described["cores"] >= 1 and described["memory_gib"] > 0


def test_a_figure_that_could_not_be_measured_meets_nothing_and_misses_nothing() -> None:
    assert Figure(None, unit="s", must="<= 25").meets("<= 25") is None


@pytest.mark.parametrize("limit", ["1.5", "< 1.5", "about 3", "<="])
def test_a_limit_of_another_form_is_refused(limit: str) -> None:
    with pytest.raises(ValueError):
        Figure(1.0, unit="ratio", must=limit)


@pytest.mark.parametrize(("limit", "met"), [("<= 2", True), (">= 2", True), ("> 2", False), ("> 1.9", True)])
def test_a_value_at_its_limit_keeps_to_it_unless_more_is_asked(limit: str, met: bool) -> None:
    assert Figure(2.0, unit="points").meets(limit) is met


def test_a_figure_is_reported_once() -> None:
    report = Report("basics")
    report.add("pss_mb", Figure(1, unit="MB"))
    with pytest.raises(ValueError):
        report.add("pss_mb", Figure(2, unit="MB"))


def test_wilson_agrees_with_published_values() -> None:
    low, high = wilson(81, 263)  # Newcombe (1998), table I: 0.2553 to 0.3662
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 20)[0] == 0 and wilson(20, 20)[1] == 1 and wilson(0, 0) == (0, 1)


@given(trials=st.integers(1, 10_000), share=st.floats(0, 1))
def test_wilson_always_holds_the_rate_it_was_made_from(trials: int, share: float) -> None:
    successes = int(trials * share)
    low, high = wilson(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1


def test_the_bootstrap_narrows_with_more_samples_and_repeats_itself() -> None:
    random = np.random.default_rng(7)
    few, many = random.normal(10, 2, 20), random.normal(10, 2, 2000)
    low, high = bootstrap(many, np.mean)
    assert low < 10.1 and high > 9.9
    assert high - low < np.ptp(bootstrap(few, np.mean))
    assert bootstrap(few) == bootstrap(few)


def test_the_ratio_of_two_alike_sides_lies_around_one() -> None:
    windows = [list(np.random.default_rng(i).exponential(1.0, 50)) for i in range(20)]
    low, high = bootstrap_ratio(windows[:10], windows[10:], np.median, rounds=400)
    assert low < 1 < high


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError):
        bootstrap([])
    with pytest.raises(ValueError):
        bootstrap_ratio([[]], [[1.0]], np.max)
