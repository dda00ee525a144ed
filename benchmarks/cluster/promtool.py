"""Unit tests of the alert rules for promtool, written from the faults: hours of virtual time in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from benchmarks.cluster.faults import ALERTS, FAULTS, is_counter, job, shown

HEALTHY_MINUTES, FAULTY_MINUTES = 120, 120


def write_tests(path: Path) -> None:
    """path: the file that `promtool test rules` is to read; the rules are copied beside it."""
    (path.parent / ALERTS.name).write_text(ALERTS.read_text("utf-8"))
    series = [entry for alert in ("", *FAULTS) for entry in _input(alert)]
    tests = [
        _expect(HEALTHY_MINUTES - 1, [], 'ALERTS{alertstate="firing"}'),
        _expect(
            HEALTHY_MINUTES + FAULTY_MINUTES - 1,
            sorted((alert, job(alert)) for alert in FAULTS),
            'count by (alertname, job) (ALERTS{alertstate="firing"})',
        ),
    ]
    content = {
        "rule_files": [ALERTS.name],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": tests}],
    }
    path.write_text(yaml.safe_dump(content), "utf-8")


def _input(alert: str) -> list[dict[str, str]]:
    down = bool(alert) and FAULTS[alert].down
    up = {
        "series": f'up{{job="{job(alert)}"}}',
        "values": f"1x{HEALTHY_MINUTES - 1} {0 if down else 1}x{FAULTY_MINUTES}",
    }
    sound, faulty = shown(""), shown(alert)
    return [
        up,
        *(
            {"series": _labelled(name, alert), "values": _values(name, sound[name], faulty[name])}
            for name in sound
        ),
    ]


def _labelled(series: str, alert: str) -> str:
    name, _, labels = series.partition("{")
    inside = labels.rstrip("}")
    return f'{name}{{{inside}{"," if inside else ""}job="{job(alert)}"}}'


def _values(series: str, sound: float, faulty: float) -> str:
    if not is_counter(series):
        return f"{sound}x{HEALTHY_MINUTES - 1} {faulty}x{FAULTY_MINUTES}"
    before = sound * 60 * (HEALTHY_MINUTES - 1)
    after = before + faulty * 60
    return f"0+{sound * 60}x{HEALTHY_MINUTES - 1} {after}+{faulty * 60}x{FAULTY_MINUTES - 1}"


def _expect(minute: int, firing: list[tuple[str, str]], expression: str) -> dict[str, Any]:
    samples = [{"labels": f'{{alertname="{alert}", job="{name}"}}', "value": 1} for alert, name in firing]
    return {"expr": expression, "eval_time": f"{minute}m", "exp_samples": samples}
