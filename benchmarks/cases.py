"""Runs field cases: each is a folder NN-name whose case.py makes its input, tries vouch and ends with PASS or FAIL."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 300.0


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


def run_cases(cases: Sequence[Path], *, state: Path | None = None) -> Iterator[CaseResult]:
    """Runs each case in a process of its own, on the system of `state`; without one, on the library alone."""
    with tempfile.TemporaryDirectory(prefix="vouch-cases-") as work:
        for case in cases:
            yield _run(case, _environment(case.parent, Path(work), state))


def _run(case: Path, environment: Mapping[str, str]) -> CaseResult:
    try:
        done = subprocess.run(
            [sys.executable, str(case / "case.py")],
            capture_output=True, text=True, errors="replace", env=dict(environment), timeout=TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return CaseResult(case.name, False, f"no end within {TIMEOUT_S:g} s")
    lines = (done.stdout + done.stderr).strip().splitlines()
    last = [line for line in lines[-3:] if line.startswith(("PASS", "FAIL"))]
    told = last[-1] if last else (lines[-1] if lines else "it said nothing")
    return CaseResult(case.name, told.startswith("PASS"), told)


def _environment(folder: Path, work: Path, state: Path | None) -> dict[str, str]:
    root = Path(__file__).parents[1]
    path = os.pathsep.join([str(folder), str(root), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    own = {
        "PYTHONPATH": path,
        "VOUCH": str(Path(sys.executable).with_name("vouch")),
        "PYTHON": sys.executable,
        "HUNT_WORK": str(work),
    }
    own |= {"HUNT_STATE": str(state)} if state else {"HUNT_OFFLINE": "1"}
    return {**os.environ, **own}
