"""The fault behind each alert, as the rates and levels that the metrics then show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from services import metrics

ALERTS = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yaml"

Series = dict[str, float]
"""A series in Prometheus' notation -> its increase in a second (a counter) or its level (a gauge)."""


def counter(name: str, rate: float, **labels: str) -> Series:
    return {_series(name, labels): rate}


def histogram(name: str, rate: float, value: float, **labels: str) -> Series:
    """Observations of one value, so many in a second."""
    metric = next(metric for metric in metrics.ALL if metric.describe()[0].name == name)
    bounds = [*metric._upper_bounds]  # type: ignore[attr-defined]
    buckets = {
        _series(f"{name}_bucket", {**labels, "le": _bound(bound)}): rate if value <= bound else 0.0
        for bound in bounds
    }
    return {
        **buckets,
        _series(f"{name}_sum", labels): rate * value,
        _series(f"{name}_count", labels): rate,
    }


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else str(float(bound))


def _series(name: str, labels: dict[str, str]) -> str:
    assert name in metrics.sample_names(), f"there is no series {name}"
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{inside}}}"


def is_counter(series: str) -> bool:
    return series.split("{")[0].endswith(("_total", "_bucket", "_sum", "_count"))


def healthy() -> Series:
    """A system that draws two images a second, scores them, and is rated now and then."""
    return {
        **counter("vouch_requests_total", 2.0, method="GenerateImages", code="OK"),
        **counter("vouch_requests_total", 0.0, method="GenerateImages", code="INTERNAL"),
        **counter("vouch_requests_total", 0.0, method="GenerateImages", code="RESOURCE_EXHAUSTED"),
        **histogram("vouch_request_seconds", 2.0, 0.8, method="GenerateImages"),
        **histogram("vouch_engine_wait_seconds", 2.0, 0.02),
        **counter("vouch_engine_steps_total", 10.0),
        **counter("vouch_engine_waiting_images", 0.0),
        **counter("vouch_engine_running_images", 4.0),
        **histogram("vouch_engine_step_seconds", 5.0, 0.04, decoding="true"),
        **histogram("vouch_engine_step_seconds", 5.0, 0.04, decoding="false"),
        **counter("vouch_swaps_refused_total", 0.0, slot="generator"),
        **counter("vouch_training_runs_total", 0.0, kind="align", state="FAILED"),
        **histogram("vouch_score_value", 2.0, 0.75, role="champion"),
        **histogram("vouch_score_value", 0.5, 0.75, role="candidate"),
        **counter("vouch_scores_accepted_total", 1.5, role="champion"),
        **counter("vouch_scores_accepted_total", 0.4, role="candidate"),
        **counter("vouch_rater_repeats_total", 0.05, kind="human", same="true"),
        **counter("vouch_rater_repeats_total", 0.005, kind="human", same="false"),
    }


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and what the metrics then show in place of `healthy()`."""

    what: str
    shows: Series
    down: bool = False


FAULTS = {
    "VouchDown": Fault("the gateway does not answer", {}, down=True),
    "VouchErrors": Fault(
        "one call in ten breaks",
        counter("vouch_requests_total", 0.2, method="GenerateImages", code="INTERNAL"),
    ),
    "VouchOverloaded": Fault(
        "a third of the calls finds the queue full",
        counter("vouch_requests_total", 1.0, method="GenerateImages", code="RESOURCE_EXHAUSTED"),
    ),
    "VouchSlowImages": Fault(
        "a call takes 50 seconds", histogram("vouch_request_seconds", 2.0, 50.0, method="GenerateImages")
    ),
    "VouchImagesWait": Fault(
        "images wait 20 seconds for a slot", histogram("vouch_engine_wait_seconds", 2.0, 20.0)
    ),
    "VouchEngineStuck": Fault(
        "the engine's thread hangs",
        {**counter("vouch_engine_steps_total", 0.0), **counter("vouch_engine_waiting_images", 30.0)},
    ),
    "VouchStepJitter": Fault(
        "decoding takes the cores from the steps",
        histogram("vouch_engine_step_seconds", 5.0, 0.4, decoding="true"),
    ),
    "VouchVersionRefused": Fault(
        "a replica cannot load the new version", counter("vouch_swaps_refused_total", 0.02, slot="generator")
    ),
    "VouchTrainingFailed": Fault(
        "a run fails", counter("vouch_training_runs_total", 0.001, kind="align", state="FAILED")
    ),
    "VouchRewardDrift": Fault(
        "the generator draws worse images", histogram("vouch_score_value", 2.0, 0.35, role="champion")
    ),
    "VouchCandidateWorse": Fault(
        "the candidate draws worse images", histogram("vouch_score_value", 0.5, 0.55, role="candidate")
    ),
    "VouchAcceptanceLow": Fault(
        "few images reach the threshold",
        {
            **counter("vouch_scores_accepted_total", 0.1, role="champion"),
            **counter("vouch_scores_accepted_total", 0.02, role="candidate"),
        },
    ),
    "VouchRatersDisagree": Fault(
        "raters answer at random", counter("vouch_rater_repeats_total", 0.1, kind="human", same="false")
    ),
}


def rules() -> list[dict[str, object]]:
    """The alert rules as they are in alerts.yaml."""
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def job(alert: str) -> str:
    """The Prometheus job of the system that has the fault of `alert`; "" is the healthy one."""
    return f"vouch-{alert.lower()}" if alert else "vouch-healthy"


def shown(alert: str) -> Series:
    """What the metrics of that system show."""
    return {**healthy(), **(FAULTS[alert].shows if alert else {})}
