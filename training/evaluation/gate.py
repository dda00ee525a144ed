"""May a version take the place of what serves? Decided from paired evidence alone: figures in, a verdict out.

The judge's plausible rate has to rise. Everything that a reward could be fooled by has to be *non-inferior*: the whole
95 % interval of its change stays within a margin, so a measurement that is too small to tell refuses. The same margins
hold against the first champion, so that many promotions together lose no more than one may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from training.evaluation.intervals import Estimate
from training.evaluation.pixels import STATISTICS
from training.evaluation.sharpness import HIGH_BAND_DISTANCE

SERVING, FIRST = "what serves", "the first champion"


@dataclass(frozen=True)
class Rule:
    """What is asked of the change of one figure."""

    name: str
    rises: bool
    """Whether more of it is better."""
    margin: float
    """How far the whole interval may reach the wrong way."""
    gains: bool = False
    """Against what serves the whole interval has to be 0 or better."""
    points: bool = True
    """A share, told in points; else in standard deviations of real images."""


RULES = (
    Rule("plausible", rises=True, margin=0.03, gains=True),
    Rule("recognised", rises=True, margin=0.03),
    Rule("coverage", rises=True, margin=0.05),
    Rule("beta recall", rises=True, margin=0.05),
    Rule("diversity within a class", rises=True, margin=0.05),
    Rule("copy alarms", rises=False, margin=0.02),
    *(Rule(f"{name}, distance from real", rises=False, margin=0.25, points=False) for name in STATISTICS),
    Rule(HIGH_BAND_DISTANCE, rises=False, margin=0.25, points=False),
)
"""Margins are about twice the half interval of 400 pairs of an unchanged version, so that such a version passes."""


@dataclass(frozen=True)
class Check:
    """One rule applied. baseline: what the change is from, SERVING or FIRST.

    `change` is None, and so is `passed`, where nothing was measured.
    """

    name: str
    baseline: str
    change: Estimate | None
    limit: str
    passed: bool | None
    sentence: str


@dataclass(frozen=True)
class Gate:
    """The verdict: every check that could be made has to pass."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed is not False for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is refused; nothing where it is not."""
        return tuple(check.sentence for check in self.checks if check.passed is False)


def decide(changes: Mapping[str, Estimate], since_first: Mapping[str, Estimate] | None = None) -> Gate:
    """`changes`: from what serves to the candidate, of the same prompts and seeds, by the names of RULES.

    `since_first`: likewise from the first champion; None where that is what serves.
    """
    checks = [_checked(rule, SERVING, changes.get(rule.name)) for rule in RULES]
    if since_first is not None:
        checks += [_checked(rule, FIRST, since_first.get(rule.name)) for rule in RULES]
    return Gate(tuple(checks))


def _checked(rule: Rule, baseline: str, change: Estimate | None) -> Check:
    limit = _limit(rule, baseline)
    if change is None or change.value != change.value:
        return Check(rule.name, baseline, None, limit, None, f"{rule.name} was not measured")
    value, worst = (-change.value, -change.low) if rule.rises else (change.value, change.high)
    passed = worst <= _allowed(rule, baseline)
    return Check(rule.name, baseline, change, limit, passed, _sentence(rule, baseline, change, passed, value))


def _allowed(rule: Rule, baseline: str) -> float:
    return 0.0 if rule.gains and baseline == SERVING else rule.margin


def _limit(rule: Rule, baseline: str) -> str:
    allowed = _allowed(rule, baseline)
    if not allowed:
        return "the whole interval has to be 0 or better"
    return f"the whole interval has to stay {'above -' if rule.rises else 'below '}{_amount(rule, allowed)}"


def _sentence(rule: Rule, baseline: str, change: Estimate, passed: bool, harm: float) -> str:
    unit = " points" if rule.points else " real standard deviations"
    value, low, high = (_amount(rule, one, "+") for one in (change.value, change.low, change.high))
    since = "" if baseline == SERVING else f" since {FIRST}"
    sentence = f"{rule.name} changed by {value}{unit} ({low} to {high}){since}"
    if passed:
        return sentence
    few = "; more images may show that it does" if harm <= _allowed(rule, baseline) else ""
    return f"{sentence}: {_limit(rule, baseline)}{few}"


def _amount(rule: Rule, value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}" if rule.points else f"{value:{sign}.2f}"
