"""`make demo`: the whole loop once, as `vouch demo` runs it, with models of further domains and a report of figures.

python -m benchmarks.demo [--once] [--domain chest_xray] [--state DIR]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.adaptation.assembled import assembled
from benchmarks.report import Figure, Report, screen
from training.demo.__main__ import demo_parser, options_of, run
from training.demo.loop import DemoResult
from training.demo.system import MODELS, STARTER, DemoOptions
from training.evaluation.intervals import Estimate
from vouch.domains.criteria import load_domain

FURTHER = Path(__file__).parent / "adaptation"
"""Where models of other domains than blood cells lie in the checkout, in folders named after them."""
MINUTES, MINUTES_ELSEWHERE = 15, 30
"""That the demo may take on two cores: with the models that ship, and with those of another domain."""


def main() -> int:
    given = demo_parser().parse_args()
    given.models = given.models or models_of(given.domain)
    minutes = MINUTES if given.models == STARTER else MINUTES_ELSEWHERE
    return run(options_of(given), partial(write_report, minutes=minutes), whole_generator)


def models_of(domain: str, further: Path = FURTHER) -> Path:
    """The folder of models that the checkout has for a domain; the starter's where it has none."""
    own = further / load_domain(domain).name
    return own if all((own / part).is_dir() for part in MODELS) else STARTER


@contextmanager
def whole_generator(options: DemoOptions) -> Iterator[DemoOptions]:
    """With a generator that is kept as a LoRA upon the foundation model put together in a folder of the time being."""
    models = options.models
    options.check(whole=False)
    if models == STARTER:
        yield options
        return
    with tempfile.TemporaryDirectory(prefix="vouch-demo-") as scratch:
        folder = Path(scratch)
        for part in MODELS[1:]:
            (folder / part).symlink_to((models / part).resolve())
        generator = assembled(models / "generator", folder / "generator")
        if generator.parent != folder:
            (folder / "generator").symlink_to(generator.resolve())
        yield replace(options, models=folder)


def write_report(result: DemoResult, path: Path, minutes: int) -> None:
    report = Report("demo")
    for name, found in (
        ("plausible_before", result.before.plausible),
        ("plausible_after", result.after.plausible),
        ("plausible_after_reward_weighted", result.reward_weighted.plausible),
        ("coverage_before", result.before.coverage),
        ("coverage_after", result.after.coverage),
    ):
        report.add(name, _figure(found, "share"))
    report.add("coverage_floor", Figure(result.coverage_floor, "share"))
    low = 100 * result.gain.low
    report.add("gain_points", Figure(100 * result.gain.value, "points", low, 100 * result.gain.high))
    report.add("gain_low_points", Figure(low, "points", must=">= 0"))
    report.add("requests", Figure(result.requests, "requests"))
    report.add("failed", Figure(result.failed, "requests", must="<= 0"))
    report.add("seconds", Figure(round(result.seconds, 1), "s", must=f"<= {60 * minutes}"))
    report.finish(path, console=screen())


def _figure(found: Estimate, unit: str) -> Figure:
    return Figure(found.value, unit, found.low, found.high)


if __name__ == "__main__":
    sys.exit(main())
