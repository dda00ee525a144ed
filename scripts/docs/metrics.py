"""The figures on /metrics, from the objects that count them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scripts.docs.markdown import code, table

HEAD = """# Metrics

`GET /metrics` on the HTTP port returns these figures of all processes in Prometheus' text form. Counters end with
`_total`, histograms add `_bucket`, `_sum` and `_count`. Ray's own metrics are not on this page.
"""


def page() -> str:
    """Every figure with its kind, labels and meaning."""
    rows = [
        (code(_series(one)), one.describe_kind, ", ".join(map(code, one.labels)), one.meaning)
        for one in figures()
    ]
    return HEAD + "\n" + table(("name", "kind", "labels", "meaning"), rows)


class MetricRow:
    """What is known of one prometheus_client object."""

    def __init__(self, metric: Any) -> None:
        (described,) = metric.describe()
        self.name: str = described.name
        self.describe_kind: str = described.type
        self.meaning: str = described.documentation
        self.labels: tuple[str, ...] = tuple(metric._labelnames)  # no public way to read them


def figures() -> Iterator[MetricRow]:
    """In the order of the module."""
    from prometheus_client.metrics import MetricWrapperBase

    from services import metrics

    for value in vars(metrics).values():
        if isinstance(value, MetricWrapperBase):
            yield MetricRow(value)


def _series(figure: MetricRow) -> str:
    return figure.name + ("_total" if figure.describe_kind == "counter" else "")
