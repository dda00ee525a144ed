"""The memory forecast is held against what training takes."""

from __future__ import annotations

import pytest

from benchmarks.adaptation.memory import SETTINGS, name_of, report_of


def test_the_report_tells_the_largest_error_and_the_lowest_forecast() -> None:
    figures = report_of([({"batch": 8}, 110.0, 100.0), ({"batch": 32, "ema": 0.0}, 97.0, 100.0)]).figures
    assert figures["memory_forecast_error"].value == pytest.approx(0.10)
    assert figures["memory_forecast_lowest"].value == pytest.approx(-0.03)
    assert figures["batch_32_ema_0_error"].meets(figures["memory_forecast_lowest"].must) is True


def test_twelve_settings_have_names_of_their_own() -> None:
    assert len({name_of(settings) for settings in SETTINGS}) == len(SETTINGS) == 12
