"""`scripts/test`, with a Python that only notes what it was asked for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.flaky import measure
from benchmarks.report import Report

ROOT = Path(__file__).parents[2]
NOTING = """#!/bin/sh
echo "$OMP_NUM_THREADS $*" >>"$(dirname "$0")/calls"
case $* in *tests/ray*) exit ${SYSTEM:-0} ;; *) exit ${OTHERS:-0} ;; esac
"""

FAILS_EVERY_SECOND_TIME = """#!/bin/sh
echo >>runs
test $(($(wc -l <runs) % 2)) = 1 || failure='<failure/>'
cat >"$JUNIT/first.xml" <<END
<testsuite time="60"><testcase classname="tests.a" name="test_b">$failure</testcase></testsuite>
END
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Five unit tests and one of the contract beside the script."""
    for folder in ("scripts", "tests/unit/cli", "tests/contract", "tests/soak", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("unit/test_a", "unit/test_b", "unit/test_c", "unit/cli/test_a", "contract/test_d"):
        (tmp_path / "tests" / f"{name}.py").touch()
    shutil.copy(ROOT / "scripts" / "test", tmp_path / "scripts")
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(NOTING)
    python.chmod(0o755)
    return tmp_path


def run(project: Path, *options: str, **settings: str) -> tuple[int, list[str]]:
    """The script's exit code, and the threads and arguments of each process that it started."""
    done = subprocess.run(
        [str(project / "scripts" / "test"), *options],
        env={"PATH": "/usr/bin:/bin", **settings},
        check=False,
        timeout=60,
    )
    return done.returncode, sorted((project / ".venv" / "bin" / "calls").read_text().splitlines())


def test_every_file_is_run_once_and_those_of_a_system_by_a_process_with_all_threads(project: Path) -> None:
    code, calls = run(project, "-m", "not slow")
    assert code == 0 and len(calls) == 3
    assert " -m pytest -m not slow tests/ray tests/e2e" in calls
    named = [word for call in calls for word in call.split() if word.endswith(".py")]
    assert sorted(named) == sorted(str(file.relative_to(project)) for file in project.rglob("test_*.py"))
    assert sorted(call[0] for call in calls) == [" ", "1", "1"]


@pytest.mark.parametrize(
    ("system", "others", "code"),
    [(0, 0, 0), (1, 0, 1), (0, 1, 1), (5, 0, 0), (0, 5, 0), (5, 5, 5), (1, 5, 1)],
)
def test_it_fails_where_any_process_fails_and_where_nothing_was_chosen(
    project: Path, system: int, others: int, code: int
) -> None:
    assert run(project, SYSTEM=str(system), OTHERS=str(others))[0] == code


def test_a_path_is_run_alone(project: Path) -> None:
    assert run(project, "-x", "tests/unit/test_a.py::test_one")[1] == [
        " -m pytest -x tests/unit/test_a.py::test_one"
    ]


def test_each_process_keeps_its_own_junit_file(project: Path) -> None:
    _, calls = run(project, JUNIT="out")
    for name in ("first", "second", "system"):
        assert sum(f"--junit-xml=out/{name}.xml" in call for call in calls) == 1


def test_a_test_that_fails_now_and_then_is_found_by_running_all_again(project: Path) -> None:
    """It fails in every second run, and the last run shares its core with a busy process."""
    (project / "scripts" / "test").write_text(FAILS_EVERY_SECOND_TIME)
    report = Report("flaky")
    measure(report, project, runs=4)
    assert report.figures["flaky_failures"].value == 2
    assert report.figures["minutes_of_a_run"].value == 1.0
