"""Whether the tests fail by chance: `make test` again and again, the last time on one core beside a busy process.

    python -m benchmarks.flaky --runs 10 --json flaky.json [-- -k engine]

What follows ``--`` goes to pytest. A run counts as failed when any test of it failed; their names are printed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.house.junit import failed_tests, minutes_of_tests
from benchmarks.report import Figure, Report, arguments, screen

ROOT = Path(__file__).parents[1]
CROWDED_CORE = 0
BUSY = "while True: pass"
console = screen()


def main() -> int:
    parser = arguments("benchmarks.flaky", str(__doc__).splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("options", nargs="*", help="of pytest")
    given = parser.parse_args()
    report = Report("flaky")
    measure(report, ROOT, given.runs, given.options)
    report.finish(given.json, console=console)
    return 0


def measure(report: Report, root: Path, runs: int, options: Sequence[str] = ()) -> None:
    """Adds how many runs failed, and how long they took."""
    failed, minutes = 0, []
    for number in range(runs):
        names, took = one_run(root, options, crowded=number == runs - 1)
        failed += bool(names)
        minutes.append(took)
        console.print(f"run {number + 1}: {len(names)} failed, {took:.1f} minutes", highlight=False)
        for name in names:
            console.print(f"   {name}", highlight=False, markup=False)
    report.add("flaky_failures", Figure(failed, f"of {runs} runs", must="<= 0"))
    report.add("minutes_of_a_run", Figure(sorted(minutes)[len(minutes) // 2], "minutes"))


def one_run(root: Path, options: Sequence[str], *, crowded: bool) -> tuple[list[str], float]:
    """The tests that failed, and the minutes. crowded: on one core, which a busy process wants too.

    Raises:
        RuntimeError: no test ran.
    """
    with tempfile.TemporaryDirectory(prefix="vouch-flaky-") as folder, neighbour(crowded):
        command = ["taskset", "-c", str(CROWDED_CORE)] if crowded else []
        command += ["scripts/test", "-m", "not slow", *options]
        subprocess.run(
            command, cwd=root, env={**os.environ, "JUNIT": folder}, check=False, stdout=subprocess.DEVNULL
        )
        files = sorted(Path(folder).glob("*.xml"))
        if not files:
            raise RuntimeError(f"{' '.join(command)} ran no test; run it by itself to see why.")
        return failed_tests(files), minutes_of_tests(files)


@contextmanager
def neighbour(crowded: bool) -> Iterator[None]:
    """A busy process on the crowded core, until the block ends."""
    if not crowded:
        yield
        return
    busy = subprocess.Popen(["taskset", "-c", str(CROWDED_CORE), sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


if __name__ == "__main__":
    sys.exit(main())
