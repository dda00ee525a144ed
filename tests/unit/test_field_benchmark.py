from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks import cases as field_cases
from benchmarks.cases import cases_in, run_cases, starts_systems
from benchmarks.field import measure_cases, measure_fuzz, sum_failures
from benchmarks.mutants import fuzz, mutants, sound_images
from benchmarks.report import Report
from tests.image_files import write_files
from vouch.errors import InvalidInput
from vouch.formats import images

FAST, ALL = 2_000, 100_000


def test_the_images_that_are_damaged_are_sound_before() -> None:
    for kind, data in sound_images().items():
        if kind != "tiff float":  # needs a window
            assert images.decode(data).shape == (24, 24, 3), kind


def test_damaged_images_are_pixels_or_a_refusal() -> None:
    outcome = fuzz(images.decode, FAST)
    assert outcome.failures == {}
    assert outcome.tried == FAST == outcome.decoded + outcome.refused
    assert min(outcome.decoded, outcome.refused) > FAST // 10, "mutants that all fare alike try nothing"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_hundred_thousand_damaged_images_are_pixels_or_a_refusal() -> None:
    assert fuzz(images.decode, ALL, seed=1).failures == {}


def test_a_decoder_that_lets_anything_else_through_is_found_out() -> None:
    def careless(data: bytes) -> np.ndarray:
        try:
            return images.decode(data)
        except InvalidInput as error:
            raise KeyError(str(error)) from error

    outcome = fuzz(careless, 100)
    assert sum(outcome.failures.values()) == 100 - outcome.decoded > 0
    assert all(" KeyError" in failure for failure in outcome.failures)


def test_the_same_seed_makes_the_same_mutants() -> None:
    assert list(mutants(40, seed=3)) == list(mutants(40, seed=3)) != list(mutants(40, seed=4))


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    return write_files(tmp_path / "cases", {
        "01-good/case.py": "import os; print('PASS', os.environ['HUNT_OFFLINE'])",
        "02-bad/case.py": "print('FAIL three of four')",
        "03-broken/case.py": "1 / 0",
        "notes/case.py": "",
    })  # fmt: skip


def test_cases_are_judged_by_their_last_line(cases: Path) -> None:
    results = list(run_cases(cases_in(cases)))
    assert [(r.name, r.passed, r.told) for r in results] == [
        ("01-good", True, "PASS 1"), ("02-bad", False, "FAIL three of four"),
        ("03-broken", False, "ZeroDivisionError: division by zero"),
    ]  # fmt: skip
    assert [case.name for case in cases_in(cases, ["02"])] == ["02-bad"]


def test_a_case_may_use_the_names_of_modules_that_have_moved_since(tmp_path: Path) -> None:
    write_files(tmp_path, {
        "01-old/case.py": "from vouch.images import decode; from vouch.ratings import read_ratings; print('PASS')",
        "02-typo/case.py": "import vouch.imagez",
    })  # fmt: skip
    old, typo = run_cases(cases_in(tmp_path))
    assert old.passed
    assert typo.told == "ModuleNotFoundError: No module named 'vouch.imagez'"


def test_what_libraries_write_beside_a_verdict_does_not_hide_it(tmp_path: Path) -> None:
    write_files(tmp_path, {
        "01-noisy/case.py": "import sys; print('PASS all'); sys.stderr.write('warning\\n' * 9)",
    })  # fmt: skip
    (result,) = run_cases(cases_in(tmp_path))
    assert (result.passed, result.told) == (True, "PASS all")


def test_cases_that_start_systems_are_told_from_those_that_use_one(tmp_path: Path) -> None:
    write_files(tmp_path, {
        "60-proxies/case.py": "from _lib import *; from _up import Up",
        "43-lora/case.py": 'r = run("up", "--state", d)',
        "28-large/case.py": "from _lib import *; vfilter(d, d)",
    })  # fmt: skip
    assert [case.name for case in cases_in(tmp_path) if starts_systems(case)] == ["43-lora", "60-proxies"]


def test_what_a_case_starts_ends_with_it_though_it_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(field_cases, "TIMEOUT_S", 20.0)
    pid = tmp_path / "pid"
    write_files(tmp_path, {
        "01-hangs/case.py": "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'], stdin=subprocess.PIPE,"
        " start_new_session=True)\n"
        f"open({str(pid)!r}, 'w').write(str(p.pid))\n"
        "p.wait()",
    })  # fmt: skip
    (result,) = run_cases(cases_in(tmp_path))
    assert (result.passed, result.told) == (False, "no end within 20 s")
    assert not psutil.pid_exists(int(pid.read_text())) or is_zombie(int(pid.read_text()))


def is_zombie(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_the_report_holds_the_figures(cases: Path) -> None:
    report = Report("field")
    measure_fuzz(report, 20)
    measure_cases(report, cases, [], offline=True)
    sum_failures(report)
    values = {name: figure.value for name, figure in report.figures.items()}
    assert values["fuzz_image_failures"] == values["fuzz_failures"]
    assert (values["fuzz_failures"], values["cases_passed"], values["cases_failed"]) == (0, 1, 2)


def test_cases_that_are_not_there_are_said_to_be_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report("field")
    measure_cases(report, tmp_path / "none", [], None)
    assert report.figures["cases_passed"].value is None
    assert "skipped" in capsys.readouterr().out
