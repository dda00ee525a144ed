"""The tests that run on both kinds of stores: which of them pass on PostgreSQL and an object store?

They take the fixture `settings` of tests/conftest.py, or one that is made of it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
TESTS = ("tests/unit", "tests/ray/test_stores.py")
ON_CLUSTER = re.compile(r"\[(?:.*-)?(postgresql|s3)(?:-.*)?\]$")
"""How a test's name says that it ran on PostgreSQL, S3, or both."""


def run() -> tuple[int, int]:
    """(those that passed, all that have a twin on SQLite and a folder)."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tests.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-k",
            "postgresql or s3",
            f"--junit-xml={file}",
        ]
        subprocess.run([*command, *TESTS], cwd=ROOT, check=False)
        return count(file.read_text("utf-8"))


def count(junit: str) -> tuple[int, int]:
    """As `run`, from a JUnit report. A skipped test has not passed."""
    # The report was written by pytest a moment ago.
    cases = [
        case
        for case in ElementTree.fromstring(junit).iter("testcase")
        if ON_CLUSTER.search(case.get("name", ""))
    ]
    passed = [
        case
        for case in cases
        if not len([part for part in case if part.tag in ("failure", "error", "skipped")])
    ]
    return len(passed), len(cases)
