"""May a version take the place of what serves? Decided from paired evidence alone: figures in, a verdict out.

The judge's plausible rate has to rise, and nothing that a reward could be fooled by may be lost for it: recognised
classes, variety, novelty, and what real images look like to anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from training.evaluation.intervals import Estimate
from training.evaluation.pixels import STATISTICS

LOST = 0.02
"""Coverage and β-recall that may be lost."""
DRIFT = 0.25
"""How much further from real images a statistic of the pixels may move, in their standard deviations."""


@dataclass(frozen=True)
class Rule:
    """What is asked of the change of one figure."""

    name: str
    rises: bool
    """Whether more of it is better."""
    allowed: float = 0.0
    """How far it may go the wrong way."""
    shown: bool = False
    """The whole interval has to be good. Else a change is bad when it is more than `allowed` and more than chance."""
    points: bool = True
    """A share, told in points; else in standard deviations of real images."""


RULES = (
    Rule("plausible", rises=True, shown=True),
    Rule("recognised", rises=True),
    Rule("coverage", rises=True, allowed=LOST),
    Rule("beta recall", rises=True, allowed=LOST),
    Rule("authentic", rises=True),
    Rule("copy alarms", rises=False),
    *(Rule(f"{name}, distance from real", rises=False, allowed=DRIFT, points=False) for name in STATISTICS),
)


@dataclass(frozen=True)
class Check:
    """One rule applied. `change` is None, and so is `passed`, where nothing was measured."""

    name: str
    change: Estimate | None
    limit: str
    passed: bool | None
    told: str


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
        return tuple(check.told for check in self.checks if check.passed is False)


def decide(changes: Mapping[str, Estimate]) -> Gate:
    """`changes`: from what serves to the candidate, of the same prompts and seeds, by the names of RULES."""
    return Gate(tuple(_checked(rule, changes.get(rule.name)) for rule in RULES))


def _checked(rule: Rule, change: Estimate | None) -> Check:
    if change is None or change.value != change.value:
        return Check(rule.name, None, _limit(rule), None, f"{rule.name} was not measured")
    value, low, high = _harm(rule, change)
    passed = high <= 0 if rule.shown else not (value > rule.allowed and low > 0)
    return Check(rule.name, change, _limit(rule), passed, _told(rule, change, passed))


def _harm(rule: Rule, change: Estimate) -> tuple[float, float, float]:
    """The change with more as the worse."""
    if rule.rises:
        return -change.value, -change.high, -change.low
    return change.value, change.low, change.high


def _limit(rule: Rule) -> str:
    if rule.shown:
        return "the whole interval has to be 0 or better"
    way = "fall" if rule.rises else "rise"
    return f"may {way} by {_amount(rule, rule.allowed)}" if rule.allowed else f"may not {way} beyond chance"


def _told(rule: Rule, change: Estimate, passed: bool) -> str:
    unit = " points" if rule.points else " real standard deviations"
    value, low, high = (_amount(rule, one, "+") for one in (change.value, change.low, change.high))
    found = f"{rule.name} changed by {value}{unit} ({low} to {high})"
    return found if passed else f"{found}: {_limit(rule)}"


def _amount(rule: Rule, value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}" if rule.points else f"{value:{sign}.2f}"
