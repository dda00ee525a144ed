"""Which setting a peer is compared with: the best of a small grid."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.serving.contenders import Setting
from benchmarks.serving.runs import ServingRun
from benchmarks.serving.scores import good_images, percentile, rate


def best(tried: Mapping[Setting, ServingRun]) -> Setting:
    """That of the most good images; among equals, of the lower 95th percentile."""

    def merit(setting: Setting) -> tuple[float, float]:
        run = tried[setting]
        return rate([run], good_images) or 0.0, -(percentile([run], 95) or 0.0)

    return max(tried, key=merit)
