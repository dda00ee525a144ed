"""Every figure on /metrics, in one list. Labels are few and bounded: methods, codes, slots, never users or digests.

Each process writes to files in one folder, which `services/environment.py` names before anything starts; the
gateway's page adds them up.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from services.environment import METRICS_FOLDER
from services.rollout.reading import ROLES, RoleMetrics

if METRICS_FOLDER in os.environ:  # read by prometheus_client when it is imported
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ[METRICS_FOLDER]

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from vouch.types.run import RUN_KINDS

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

REQUESTS = Counter("vouch_requests_total", "Calls answered, by RPC and status code.", ["method", "code"])
REQUEST_SECONDS = Histogram(
    "vouch_request_seconds", "Seconds from call to answer.", ["method"], buckets=_SECONDS
)
IMAGES = Counter("vouch_images_total", "Images generated and stored.")
BATCH_IMAGES = Histogram(
    "vouch_engine_batch_images", "Images in a denoising step.", buckets=(1, 2, 4, 8, 12, 16, 24, 32, 64, 128)
)
STEPS = Counter("vouch_engine_steps_total", "Denoising steps of batches.")
IMAGE_STEPS = Counter(
    "vouch_engine_image_steps_total", "Network evaluations, per image; a guided step takes two."
)
WAIT_SECONDS = Histogram(
    "vouch_engine_wait_seconds", "Seconds that an image waited for a slot.", buckets=_SECONDS
)
ADMISSION_STEPS = Histogram(
    "vouch_engine_admission_steps",
    "Denoising steps between a free slot and the first step of a waiting image.",
    buckets=(0, 1, 2, 3, 5, 10, 100),
)
ENGINE_SECONDS = Histogram(
    "vouch_engine_seconds", "Seconds of an image from its first step to its pixels.", buckets=_SECONDS
)
ROLLOUT_SECONDS = Histogram(
    "vouch_rollout_seconds",
    "Seconds of a generation call whose version the routing table chose, by role: candidate, champion beside one, or "
    "baseline, the champion alone.",
    ["role"],
    buckets=_SECONDS,
)
ROLLOUT_FAILURES = Counter(
    "vouch_rollout_failures_total",
    "Such calls that failed or that the version refused, by role.",
    ["role"],
)
STAGE_SECONDS = Histogram(
    "vouch_engine_stage_seconds", "Seconds of one engine task, by stage.", ["stage"],
    buckets=(0.001, 0.0025, *_SECONDS),
)  # fmt: skip
STEP_SECONDS = Histogram(
    "vouch_engine_step_seconds",
    "Seconds of a denoising step, by whether images were decoded at the same time.",
    ["decoding"],
    buckets=(0.001, 0.0025, *_SECONDS),
)
EVICTIONS = Counter(
    "vouch_engine_evictions_total", "Images cancelled before they were finished, by reason.", ["reason"]
)
WAITING = Gauge("vouch_engine_waiting_images", "Images that wait for a slot.", multiprocess_mode="livesum")
RUNNING = Gauge("vouch_engine_running_images", "Images being denoised.", multiprocess_mode="livesum")
SCORES = Counter("vouch_scores_total", "Images scored.")
SCORE_SECONDS = Histogram("vouch_score_seconds", "Seconds of one reward batch.", buckets=_SECONDS)
SCORE_VALUES = Histogram(
    "vouch_score_value", "Reward scores, by role of the version: champion, candidate or named.", ["role"],
    buckets=(0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0),
)  # fmt: skip
ACCEPTED = Counter(
    "vouch_scores_accepted_total", "Images scored at or above the review threshold, by role.", ["role"]
)
REPEATS = Counter(
    "vouch_rater_repeats_total",
    "Repeated ratings of an image by the same rater, by kind and whether the verdict was the same.",
    ["kind", "same"],
)
RATINGS = Counter("vouch_ratings_total", "Ratings recorded, by kind of rater.", ["kind"])
SWAPS = Counter("vouch_swaps_total", "Swaps of a replica's routing table.", ["slot"])
REFUSALS = Counter("vouch_swaps_refused_total", "Desired states that a replica could not adopt.", ["slot"])
LOAD_SECONDS = Histogram("vouch_load_seconds", "Seconds to load a version.", ["slot"], buckets=_SECONDS)
RUNS = Counter("vouch_training_runs_total", "Training runs that ended, by kind and state.", ["kind", "state"])

for _slot in ("generator", "reward"):
    REFUSALS.labels(_slot)  # an increase is visible only if the series exists with 0
for _kind in RUN_KINDS:
    RUNS.labels(_kind, "FAILED")

ALL = (
    REQUESTS, REQUEST_SECONDS, IMAGES, BATCH_IMAGES, STEPS, IMAGE_STEPS, WAIT_SECONDS, ADMISSION_STEPS, ENGINE_SECONDS,
    STAGE_SECONDS, STEP_SECONDS, EVICTIONS, WAITING, RUNNING, SCORES, SCORE_SECONDS, SCORE_VALUES, ACCEPTED, REPEATS,
    RATINGS, SWAPS, REFUSALS, LOAD_SECONDS, RUNS, ROLLOUT_FAILURES, ROLLOUT_SECONDS,
)  # fmt: skip
"""The metrics for alerts and dashboards."""


def sample_names() -> frozenset[str]:
    """The names of the time series, as Prometheus stores them."""
    endings = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    families = [family for metric in ALL for family in metric.describe()]
    return frozenset(family.name + ending for family in families for ending in endings[family.type])


def page() -> bytes:
    """The metrics of all processes of this node in Prometheus' text format."""
    return generate_latest(_all_processes())


def roles() -> dict[str, RoleMetrics]:
    """The counters of each role, summed over the processes of this node."""
    failed: dict[str, float] = {}
    edges: dict[str, dict[float, float]] = {role: {} for role in ROLES}
    for family in _all_processes().collect():
        for sample in family.samples:
            role = sample.labels.get("role", "")
            if sample.name == _name(ROLLOUT_FAILURES) + "_total":
                failed[role] = sample.value
            elif sample.name == _name(ROLLOUT_SECONDS) + "_bucket":
                edges.setdefault(role, {})[float(sample.labels["le"])] = sample.value
    return {role: RoleMetrics(failed.get(role, 0.0), edges[role]) for role in ROLES}


class _Files(Collector):
    """The files of all processes. The library's own collector takes the folder's path for a pattern, in which
    brackets and stars stand for other characters."""

    def collect(self) -> Iterable[Metric]:
        files = [str(file) for file in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("*.db")]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return merged


def _all_processes() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Files())
    return registry


def _name(metric: Counter | Histogram) -> str:
    """The name of its family, without the suffixes of its series."""
    return next(iter(metric.describe())).name
