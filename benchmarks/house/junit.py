"""How long the tests took and which failed, from the JUnit files that pytest wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree


def minutes_of_tests(files: Sequence[Path]) -> float:
    """Minutes from the first test to the last. `make test` runs one pytest for each file, side by side.

    Raises:
        ValueError: a file that pytest's --junit-xml did not write.
    """
    return max(map(_minutes, files))


def failed_tests(files: Sequence[Path]) -> list[str]:
    """The tests with a failure or an error, such as "tests.unit.test_gate::test_a_loss_is_refused"."""
    cases = (case for file in files for case in ElementTree.parse(file).getroot().iter("testcase"))
    return [
        f"{case.attrib['classname']}::{case.attrib['name']}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]


def _minutes(file: Path) -> float:
    suites = list(ElementTree.parse(file).getroot().iter("testsuite"))
    if not suites:
        raise ValueError(f"{file} holds no testsuite: write it with pytest --junit-xml")
    return sum(float(suite.attrib["time"]) for suite in suites) / 60
