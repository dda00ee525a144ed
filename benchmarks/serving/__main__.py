"""vouch and other servers, one after another on this machine, with the same model, threads and requests.

    python -m benchmarks.serving --json serving.json
    python -m benchmarks.serving --quick          # only shows that it runs; its figures mean nothing

LitServe and BentoML get environments of their own in .venv-peers. What is measured is kept, run by run, in
serving.runs.jsonl beside the report: --resume goes on with it, --tuned takes over the settings that an
earlier session chose for the peers.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import vouch
from benchmarks.report import arguments, screen
from benchmarks.serving.contenders import CONTENDERS, Contender
from benchmarks.serving.environments import NoEnvironment, complaints
from benchmarks.serving.figures import Results, report_on, table
from benchmarks.serving.log import Log, read_lines
from benchmarks.serving.plan import QUICK, ServingPlan
from benchmarks.serving.session import BenchmarkSession

MODEL = Path(vouch.__file__).parent / "starter" / "generator"


def main() -> None:
    given = parsed()
    # As Ctrl-C does: no server outlives its benchmark.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="vouch-serving-") as folder:
        path = given.json.with_suffix(".runs.jsonl") if given.json else Path(folder, "runs.jsonl")
        plan, log = plan_of(given), Log(path, resume=given.resume)
        try:
            log.check(plan)
        except ValueError as error:
            sys.exit(str(error))
        if given.tuned:
            take_over(log, given.tuned)
        contenders = available(given.only)
        measure(BenchmarkSession(plan, log, MODEL, Path(folder)), plan, contenders)
    results = Results(log.runs, [line["image_steps_per_s"] for line in log.find("bare")])
    settings = {name: log.setting(name) for name in CONTENDERS}
    screen().print(table(results))
    report_on(results, {name: found for name, found in settings.items() if found}).finish(given.json)


def parsed() -> argparse.Namespace:
    parser = arguments("benchmarks.serving", "vouch and other servers under the same requests.")
    parser.add_argument(
        "--quick", action="store_true", help="only show that it runs; the figures mean nothing"
    )
    parser.add_argument(
        "--repeats", type=int, metavar="N", help="how often everything is measured (default 3)"
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="length of each load (default 40)")
    parser.add_argument("--only", metavar="NAME,...", help=f"of {', '.join(CONTENDERS)}")
    parser.add_argument("--resume", action="store_true", help="go on with the runs beside the report")
    parser.add_argument(
        "--tuned", type=Path, metavar="FILE", help="runs whose settings of the peers are taken over"
    )
    given = parser.parse_args()
    given.only = given.only.split(",") if given.only else list(CONTENDERS)
    if unknown := set(given.only) - set(CONTENDERS):
        parser.error(f"no such contender: {', '.join(sorted(unknown))}")
    if given.resume and not given.json:
        parser.error("--resume needs --json: the runs lie beside the report")
    return given


def plan_of(given: argparse.Namespace) -> ServingPlan:
    plan = QUICK if given.quick else ServingPlan()
    return replace(plan, repeats=given.repeats or plan.repeats, seconds=given.seconds or plan.seconds)


def take_over(log: Log, earlier: Path) -> None:
    """The settings that another session chose, where this one has none."""
    for line in read_lines(earlier):
        if line["kind"] == "tuning" and log.setting(line["contender"]) is None:
            log.add(**line)


def available(names: Sequence[str]) -> list[Contender]:
    """The contenders that can run here; says which cannot, and why."""
    found = []
    for name in names:
        try:
            if found_wrong := complaints(name):
                print(f"{name} runs, but its environment is not all that it asks for: {found_wrong}")
            found.append(CONTENDERS[name])
        except NoEnvironment as error:
            print(f"{name} is left out, its environment cannot be made: {error}")
    return found


def measure(session: BenchmarkSession, plan: ServingPlan, contenders: Sequence[Contender]) -> None:
    for contender in contenders:
        session.tune(contender)
    for number in range(plan.repeats):
        session.repeat(number, contenders)


if __name__ == "__main__":
    main()
