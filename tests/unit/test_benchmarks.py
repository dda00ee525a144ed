from __future__ import annotations

import numpy as np
import pytest

from benchmarks.load import Order, Sample
from benchmarks.report import Report
from benchmarks.swap import Windows, judge
from benchmarks.truth import Truth
from vouch.formats import images

ORDER = Order("neutrophil", 1, 4)
DARK, BRIGHT = np.full((8, 8, 3), 20, np.uint8), np.full((8, 8, 3), 200, np.uint8)
TRUTH = Truth(("dark", "bright"), {("dark", ORDER): DARK, ("bright", ORDER): BRIGHT})


def reply(began: float, seconds: float, version: str, image: np.ndarray) -> Sample:
    data = images.encode_png(image)
    return Sample(ORDER, began, began + seconds, version=version, image_version=version, data=data)


def test_a_reply_is_confirmed_only_by_the_image_of_the_version_it_names() -> None:
    assert TRUTH.confirms(reply(0, 1, "dark", DARK + 1))
    assert not TRUTH.confirms(reply(0, 1, "bright", DARK))
    assert not TRUTH.confirms(reply(0, 1, "another", DARK))


def test_the_swap_is_judged_by_failures_lies_and_its_slowest_request() -> None:
    samples = [
        reply(1.0, 0.2, "dark", DARK),
        reply(1.5, 0.6, "bright", BRIGHT),  # slow, and it belongs to the swap's window
        reply(11.0, 0.3, "bright", BRIGHT),
        reply(11.5, 0.2, "dark", BRIGHT),  # a lie
        Sample(ORDER, 12.0, 12.1, error="Unavailable: gone"),
    ]
    report = Report("swap")
    judge(report, samples, Windows(swap=[(0, 5)], calm=[(10, 15)], converged_s=[1.0]), TRUTH)
    assert report.figures["failed"].value == 1
    assert report.figures["wrong_version"].value == 1
    assert report.figures["slowest_ratio"].value == pytest.approx(2.0)
