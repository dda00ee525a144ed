"""What vouch's /metrics page says of a run: the difference between two readings.

A figure that the page does not have is not there, rather than 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.parser import text_string_to_metric_families

Page = dict[str, float]
"""Samples by name; a bucket's name ends with its upper bound: "vouch_engine_batch_images_bucket 8.0"."""
OURS = "vouch_engine_"


def read(text: str) -> Page:
    """The engine's samples of a page in Prometheus' text form, added up over all other labels."""
    page: Page = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith(OURS):
                key = " ".join(filter(None, [sample.name, sample.labels.get("le", "")]))
                page[key] = page.get(key, 0.0) + sample.value
    return page


def between(before: Page, after: Page) -> Page:
    return {key: value - before.get(key, 0.0) for key, value in after.items()}


def added(pages: Iterable[Page]) -> Page:
    total: Page = {}
    for page in pages:
        for key, value in page.items():
            total[key] = total.get(key, 0.0) + value
    return total


def mean(page: Mapping[str, float], name: str) -> float | None:
    """Of a histogram; None where it is not there or saw nothing."""
    count = page.get(f"{name}_count", 0.0)
    return page[f"{name}_sum"] / count if count else None


def percentile(page: Mapping[str, float], name: str, percent: float) -> float | None:
    """The upper bound of the bucket that holds it; None where there is none, or only the last, which has no bound."""
    buckets = sorted(
        (float(key.split(" ")[1]), count) for key, count in page.items() if key.startswith(f"{name}_bucket ")
    )
    if not buckets or not buckets[-1][1]:
        return None
    bound = next(bound for bound, count in buckets if count >= buckets[-1][1] * percent / 100)
    return None if bound == float("inf") else bound
