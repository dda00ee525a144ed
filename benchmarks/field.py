"""Trouble from the field: what vouch does with the files and habits that people bring.

    python -m benchmarks.field --json field.json
    python -m benchmarks.field --cases DIR --only 01 05

`fuzz_failures`   images with changed bytes whose decoding is neither pixels nor a refusal.
`cases_failed`    field cases that do not end with PASS; `cases_passed` counts the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.cases import CaseResult, cases_in, run_cases
from benchmarks.mutants import fuzz
from benchmarks.report import Figure, Report, arguments, screen
from vouch.images import decode

MUTANTS = 100_000
CASES = Path("../shared/cases")


def measure_fuzz(report: Report, count: int) -> None:
    """`fuzz_failures` of `count` mutated images, and the kinds of failure in words."""
    outcome = fuzz(decode, count)
    report.add("fuzz_images", Figure(outcome.tried, unit="mutated images"))
    report.add("fuzz_decoded", Figure(outcome.decoded, unit="images"))
    report.add(
        "fuzz_failures", Figure(sum(outcome.failures.values()), unit="images", must="<= 0", aim="<= 0")
    )
    for failure, times in outcome.failures.most_common():
        screen().print(f"fuzz: {times} × {failure}", markup=False)


def measure_cases(report: Report, folder: Path, numbers: Sequence[str], state: Path | None) -> None:
    """`cases_passed` and `cases_failed`; not measured where the folder is absent."""
    cases = cases_in(folder, numbers)
    if not cases:
        screen().print(
            f"cases: skipped, for {folder} holds none (--cases DIR names another folder)", markup=False
        )
        report.add("cases_passed", Figure(None, unit="cases"))
        report.add("cases_failed", Figure(None, unit="cases", must="<= 0"))
        return
    if state is None:
        screen().print("cases: run on the library alone; those that need a system fail (--state names one)")
    results = [_told(result) for result in run_cases(cases, state=state)]
    passed = sum(result.passed for result in results)
    report.add("cases_passed", Figure(passed, unit=f"of {len(results)} cases"))
    report.add("cases_failed", Figure(len(results) - passed, unit="cases", must="<= 0", aim="<= 0"))


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
    options = parser.parse_args()
    report = Report("field")
    measure_fuzz(report, options.mutants)
    measure_cases(report, options.cases, options.only, options.state)
    report.finish(options.json)


if __name__ == "__main__":
    main()
