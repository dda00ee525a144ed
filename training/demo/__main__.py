"""`vouch demo`: the whole loop once, from nothing, with a report at the end.

Starts the system on a fresh state folder, generates images, lets simulated pathologists rate them, retrains the reward
model, aligns the generator, swaps both into serving under traffic, and compares before with after: the same prompts,
the same seeds, by a judge that took no part in the learning.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import vouch
from training.demo.loop import DemoResult, run_loop
from training.demo.screen import console, say
from training.demo.system import DemoOptions, stay, system
from vouch.errors import VouchError

TERMINATED = 128 + signal.SIGTERM
Write = Callable[[DemoResult, Path], None]
Prepare = Callable[[DemoOptions], AbstractContextManager[DemoOptions]]


def demo_parser() -> argparse.ArgumentParser:
    """The options of the demo."""
    default = DemoOptions()
    parser = argparse.ArgumentParser(prog="vouch demo", description="The whole loop once, on a fresh system.")
    parser.add_argument("--once", action="store_true", help="exit when the report is written")
    parser.add_argument("--state", type=Path, default=default.state)
    parser.add_argument("--grpc-port", type=int, default=default.grpc_port)
    parser.add_argument("--http-port", type=int, default=default.http_port)
    parser.add_argument("--rated", type=int, default=default.rated, help="images that are rated")
    parser.add_argument(
        "--judged", type=int, default=default.judged, help="images that are judged, before and after"
    )
    parser.add_argument(
        "--domain", default=default.domain, help="a shipped domain, or the folder of another one"
    )
    parser.add_argument(
        "--models", type=Path, help="folder with generator, reward, rater and judge; default: those that ship"
    )
    return parser


def run(options: DemoOptions, write: Write, prepare: Prepare = nullcontext) -> int:
    """The exit code. write: writes the result to a file. prepare: makes the models ready, until the block ends."""
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # the system ends with the demo
    try:
        with prepare(options) as ready:
            ready.check()
            with system(ready) as state:
                _run(ready, state, began, write)
    except VouchError as error:
        console.print(f"[red]The demo stopped:[/red] {error.message}")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _run(options: DemoOptions, state: Path, began: float, write: Write) -> None:
    with vouch.connect(state=state) as client:
        label = client.describe_generator().labels[0]
        result = run_loop(client, options, began)
    write(result, state / "report.json")
    say(f"report: {state / 'report.json'}   before and after: {state / 'before-after.png'}")
    if not options.once:
        stay(state, label)


def write_result(result: DemoResult, path: Path) -> None:
    """As JSON, under the names of DemoResult."""
    path.write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")


def options_of(given: argparse.Namespace) -> DemoOptions:
    """The typed options; what was left out has its default."""
    typed = {name: value for name, value in vars(given).items() if value is not None}
    return replace(DemoOptions(), **typed)


if __name__ == "__main__":
    sys.exit(run(options_of(demo_parser().parse_args()), write_result))
