"""Trouble from the field: what vouch does with the files and habits that people bring.

    python -m benchmarks.field --json field.json
    python -m benchmarks.field --parts cases --cases DIR --only 01 05
    python -m benchmarks.field --parts cases --cases DIR --offline

Parts: `images` mutates images, `cases` runs a folder of field cases, `doors` measures what requests cost and sends
malformed messages, `faults` kills processes, starts on unloadable models, and looks for what killed starts leave.

`fuzz_failures`   images whose decoding is neither pixels nor a refusal; messages answered INTERNAL, UNKNOWN or never.
`cases_failed`    field cases that do not end with PASS; `cases_passed` counts the others. Cases run on a system that
                  is started for them, on that of --state, or with --offline on the library alone. Those that start
                  systems of their own follow, one at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import field_doors, field_faults
from benchmarks.cases import CaseResult, cases_in, run_cases, starts_systems
from benchmarks.mutants import fuzz
from benchmarks.report import Figure, Report, arguments, screen
from benchmarks.system import running_system
from vouch.formats.images import decode

MUTANTS = 100_000
CASES = Path("../shared/cases")
PARTS = ("images", "cases", "doors", "faults")
FAULTS = {
    "kill_failures_seen": ("failures", "<= 0"),
    "kill_recovery_s_max": ("s", "<= 10"),
    "end_s_max": ("s until a lost system has ended", "<= 10"),
    "start_refusals": ("of 12 folders", ">= 12"),
    "leftovers": ("processes and folders", "<= 0"),
    "sigterm_s_max": ("s", "<= 10"),
}
"""The figures of `benchmarks.field_faults`, with unit and limit."""


def measure_fuzz(report: Report, count: int) -> None:
    """`fuzz_image_failures` of `count` mutated images, and the kinds of failure in words."""
    outcome = fuzz(decode, count)
    report.add("fuzz_images", Figure(outcome.tried, unit="mutated images"))
    report.add("fuzz_decoded", Figure(outcome.decoded, unit="images"))
    report.add(
        "fuzz_image_failures", Figure(sum(outcome.failures.values()), unit="images", must="<= 0", aim="<= 0")
    )
    for failure, times in outcome.failures.most_common():
        screen().print(f"fuzz: {times} × {failure}", markup=False)


def measure_cases(
    report: Report, folder: Path, numbers: Sequence[str], state: Path | None = None, *, offline: bool = False
) -> None:
    """`cases_passed` and `cases_failed`; not measured where the folder is absent.

    state: of a running system; without one, and unless `offline`, a system is started for the cases that use one.
    """
    cases = cases_in(folder, numbers)
    if not cases:
        screen().print(
            f"cases: skipped, for {folder} holds none (--cases DIR names another folder)", markup=False
        )
        report.add("cases_passed", Figure(None, unit="cases"))
        report.add("cases_failed", Figure(None, unit="cases", must="<= 0"))
        return
    beside = [case for case in cases if not starts_systems(case)]
    results = _run_beside(beside, state, offline=offline)
    results += [_told(result) for result in run_cases([case for case in cases if case not in beside])]
    passed = sum(result.passed for result in results)
    report.add("cases_passed", Figure(passed, unit=f"of {len(results)} cases"))
    report.add("cases_failed", Figure(len(results) - passed, unit="cases", must="<= 0", aim="<= 0"))


def _run_beside(cases: Sequence[Path], state: Path | None, *, offline: bool) -> list[CaseResult]:
    """The results of cases that start no system, on the one of `state` or on one of their own."""
    if state is not None or offline or not cases:
        return [_told(result) for result in run_cases(cases, state=state)]
    with (
        tempfile.TemporaryDirectory(prefix="field-cases-") as own,
        running_system(Path(own) / "state", VOUCH_GENERATION__COMPILE="false") as (system, _),
    ):
        return [_told(result) for result in run_cases(cases, state=system.state)]


def measure_faults(report: Report, kills: int, leftovers: int) -> None:
    """The figures of `FAULTS`, from real systems whose processes are killed."""
    with tempfile.TemporaryDirectory(prefix="field-faults-") as folder:
        values = field_faults.measure(Path(folder), kill_repeats=kills, leftover_repeats=leftovers)
    for name, (unit, must) in FAULTS.items():
        report.add(name, Figure(values[name], unit=unit, must=must))


def sum_failures(report: Report) -> None:
    """`fuzz_failures`: of images and messages together, as far as both were tried."""
    found = [report.figures.get(f"fuzz_{kind}_failures") for kind in ("image", "message")]
    counts = [figure.value for figure in found if figure is not None and figure.value is not None]
    if counts:
        report.add("fuzz_failures", Figure(sum(counts), unit="images and messages", must="<= 0"))


def _told(result: CaseResult) -> CaseResult:
    screen().print(f"{result.name}: {result.told[:160]}", markup=False, highlight=False)
    return result


def main() -> None:
    parser = arguments("benchmarks.field", __doc__ or "")
    parser.add_argument("--mutants", type=int, default=MUTANTS, metavar="N", help="mutated images to decode")
    parser.add_argument("--cases", type=Path, default=CASES, metavar="DIR", help="folder of field cases")
    parser.add_argument("--only", nargs="*", default=[], metavar="NN", help="numbers of the cases to run")
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help="state folder of a running system for the cases"
    )
    parser.add_argument("--offline", action="store_true", help="run the cases on the library alone")
    parser.add_argument(
        "--messages", type=int, default=field_doors.MESSAGES, help="malformed messages to send"
    )
    parser.add_argument("--kills", type=int, default=1, help="kills of each kind of process")
    parser.add_argument("--leftovers", type=int, default=20, help="signals of each kind during a start")
    parser.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS, help="only these")
    options = parser.parse_args()
    report = Report("field")
    if "images" in options.parts:
        measure_fuzz(report, options.mutants)
    if "cases" in options.parts:
        measure_cases(report, options.cases, options.only, options.state, offline=options.offline)
    if "doors" in options.parts:
        field_doors.measure(report, options.messages)
    if "faults" in options.parts:
        measure_faults(report, options.kills, options.leftovers)
    sum_failures(report)
    report.finish(options.json)


if __name__ == "__main__":
    main()
