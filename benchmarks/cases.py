"""Runs field cases: each is a folder NN-name whose case.py makes its input, tries vouch and ends with PASS or FAIL.

Three kinds: those that start systems of their own, those that use a running system, and those of the library alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.processes import MARK, end_all, new_mark

TIMEOUT_S = 300.0
STARTS_TIMEOUT_S = 1800.0
"""For a case that starts systems, of which it may try six one after another."""
STARTS = re.compile(r"import Up\b|run\(\"up\"")


@dataclass(frozen=True)
class CaseResult:
    """What one case ended with."""

    name: str
    passed: bool
    told: str
    """The case's last line."""


def cases_in(folder: Path, numbers: Sequence[str] = ()) -> list[Path]:
    """The cases of a folder in order; of these `numbers` alone if any are given. None where there is no folder."""
    cases = sorted(path.parent for path in folder.glob("[0-9]*/case.py")) if folder.is_dir() else []
    return [case for case in cases if not numbers or case.name.partition("-")[0] in numbers]


def starts_systems(case: Path) -> bool:
    """Whether this case starts systems of its own, so that no other should run beside it."""
    return STARTS.search((case / "case.py").read_text("utf-8")) is not None


def run_cases(cases: Sequence[Path], *, state: Path | None = None) -> Iterator[CaseResult]:
    """Runs each case in a process of its own, on the system of `state`; without one, on the library alone.

    No process of a case outlives it.
    """
    with tempfile.TemporaryDirectory(prefix="vouch-cases-") as work:
        for case in cases:
            yield _run(case, _environment(case.parent, Path(work), state))


def _run(case: Path, environment: Mapping[str, str]) -> CaseResult:
    mark, timeout_s = new_mark(), STARTS_TIMEOUT_S if starts_systems(case) else TIMEOUT_S
    try:
        done = subprocess.run(
            [sys.executable, str(case / "case.py")],
            capture_output=True, text=True, errors="replace", env={**environment, MARK: mark}, timeout=timeout_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return CaseResult(case.name, False, f"no end within {timeout_s:g} s")
    finally:
        end_all(mark)
    told = _verdict(done.stdout) or _verdict(done.stderr) or _last_line(done.stdout + done.stderr)
    return CaseResult(case.name, told.startswith("PASS"), told)


def _verdict(output: str) -> str:
    """The line with the verdict, among the last three; libraries may write after it."""
    lines = output.strip().splitlines()[-3:]
    return next((line for line in reversed(lines) if line.startswith(("PASS", "FAIL"))), "")


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _environment(folder: Path, work: Path, state: Path | None) -> dict[str, str]:
    root = Path(__file__).parents[1]
    places = [str(folder), str(root / "benchmarks" / "earlier_names"), str(root)]
    path = os.pathsep.join([*places, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    own = {
        "PYTHONPATH": path,
        "VOUCH": str(Path(sys.executable).with_name("vouch")),
        "PYTHON": sys.executable,
        "HUNT_WORK": str(work),
    }
    own |= {"HUNT_STATE": str(state)} if state else {"HUNT_OFFLINE": "1"}
    return {**os.environ, **own}
