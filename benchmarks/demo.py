"""`make demo`: the whole loop once, from nothing, with the evidence at the end.

Starts the system on a fresh state folder, generates cells, lets simulated pathologists rate them, retrains the reward
model, aligns the generator, swaps both into serving under traffic, and compares before with after: the same prompts,
the same seeds, by a judge that took no part in the learning.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import vouch
from benchmarks.adaptation.assembled import assembled
from benchmarks.report import Figure, Report, screen
from training.contact_sheet import contact_sheet
from training.evaluation.intervals import bootstrap
from training.evaluation.judge import Judge, JudgeSummary
from training.raters.plausibility import Plausibility
from training.raters.simulated import SimulatedPathologist
from training.starter import PER_CLASS
from vouch.cli.figures import figures_table
from vouch.client import Client
from vouch.domains.criteria import Domain, load_domain
from vouch.errors import VouchError
from vouch.formats import images as codec
from vouch.storage.state import StateFolder
from vouch.types.rating import NewRating

STARTER = Path(vouch.__file__).parent / "starter"
FURTHER = Path(__file__).parent / "adaptation"
"""Where models of other domains than blood cells lie in the checkout, in folders named after them."""
MODELS = ("generator", "reward", "rater", "judge")
RATERS = ("simulated-1", "simulated-2")
START_TIMEOUT_S = 180.0
MINUTES, MINUTES_ELSEWHERE = 15, 30
"""That the demo may take on two cores: with the models that ship, and with those of another domain."""
# Settings of the training were chosen on seeds below a million; the judged images have seeds that nobody looked at.
RATED_SEED, JUDGED_SEED = 10_000, 7_000_000
REQUESTS_A_STEP = 5  # of the traffic, at every step of a rollout, before the next

console = screen()


@dataclass(frozen=True)
class Drawn:
    """Generated images uint8 [N, H, W, 3] with their prompts and digests."""

    images: np.ndarray
    prompts: tuple[str, ...]
    digests: tuple[str, ...]


@dataclass
class Traffic:
    """Requests that go on while versions change."""

    requests: int = 0
    failed: int = 0
    reasons: list[str] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)
    ended: threading.Condition = field(default_factory=threading.Condition)

    def note(self, version: str = "", failure: str = "") -> None:
        with self.ended:
            self.requests += 1
            self.failed += bool(failure)
            if failure:
                self.reasons.append(failure)
            else:
                self.versions.add(version)
            self.ended.notify_all()

    def wait_for(self, more: int, timeout_s: float = 60.0) -> None:
        """Until so many more requests have ended."""
        with self.ended:
            enough = self.requests + more
            self.ended.wait_for(lambda: self.requests >= enough, timeout_s)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="exit when the report is written")
    parser.add_argument("--state", type=Path, default=Path("state/demo"))
    parser.add_argument("--grpc-port", type=int, default=9000)
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--rated", type=int, default=320, help="images that are rated")
    parser.add_argument("--judged", type=int, default=256, help="images that are judged, before and after")
    parser.add_argument(
        "--domain", default="blood_cells", help="a shipped domain, or the folder of another one"
    )
    parser.add_argument(
        "--models",
        type=Path,
        help="folder with generator, reward, rater and judge of that domain; default: those of the checkout",
    )
    arguments = parser.parse_args()
    began = time.monotonic()
    try:
        arguments.models = arguments.models or models_of(arguments.domain)
        check(arguments.domain, arguments.models)
        with system(arguments) as state:
            with vouch.connect(state=state) as client:
                label = client.describe_generator().labels[0]
                report = tell_the_story(client, arguments, began)
            report.finish(arguments.state / "report.json", console=console)
            say(
                f"report: {arguments.state / 'report.json'}   before and after: {arguments.state / 'before-after.png'}"
            )
            if not arguments.once:
                stay(state, label)
    except VouchError as error:
        console.print(f"[red]The demo stopped:[/red] {error.message}")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


# --- the story ---------------------------------------------------------------------------------------------


def tell_the_story(client: Client, arguments: argparse.Namespace, began: float) -> Report:
    labels = client.describe_generator().labels
    base = client.describe_generator().generator_version
    name = client.get_version(base).name
    say(
        f"1. {arguments.rated} images are drawn by {name} over gRPC, as requests that say nothing are, and scored."
    )
    pool = draw(client, labels, arguments.rated, first_seed=RATED_SEED, version=base)
    say(f"2. {len(RATERS)} [bold]simulated[/bold] experts rate them by the checklist.")
    rate(client, pool, arguments.models, load_domain(arguments.domain))
    say("3. The reward model learns from the ratings.")
    reward = train(client, "reward", {"kinds": ["simulated"], "steps": 160})
    say(
        "4. The generator is aligned: by the reward's gradient through the sampler's last steps, and by reward "
        "weighting (paper 1) for comparison."
    )
    learned = {"kinds": ["simulated"], "reward": reward, "minutes": 2}
    aligned = train(client, "align", {**learned, "steps": 60})
    baseline = {
        "method": "reward_weighted",
        "steps": 180,
        "validation": {"every": 0},
    }  # would end it at step 0
    weighted = train(client, "align", {**learned, **baseline})  # in equal time
    say("5. Both new versions are swapped into serving while requests come in.")
    traffic = Traffic()
    with requests_going_on(arguments.state, labels, traffic):
        for version in (reward, aligned):
            roll_out(client, version, traffic)
    say("6. The judge, which took no part, compares: same prompts, same seeds.")
    judge = Judge.load(arguments.models / "judge")
    drawn = {
        name: draw(client, labels, arguments.judged, first_seed=JUDGED_SEED, version=version)
        for name, version in (("before", base), ("after", aligned), ("reward-weighted", weighted))
    }
    verdicts = {name: judge.measure(d.images, d.prompts) for name, d in drawn.items()}
    passed = {name: judge.assess(d.images, d.prompts).plausible.astype(float) for name, d in drawn.items()}
    show_before_after(arguments.state / "before-after.png", labels, drawn["before"], drawn["after"])
    show_methods(verdicts, judge)
    budget = MINUTES if arguments.models == STARTER else MINUTES_ELSEWHERE
    report = report_of(verdicts, judge, traffic, time.monotonic() - began, budget)
    add_gain(report, passed["after"] - passed["before"])
    return report


def draw(client: Client, labels: tuple[str, ...], count: int, *, first_seed: int, version: str) -> Drawn:
    """`count` images, the classes in turn, through the server stream."""
    drawn: list[Any] = []
    each = -(-count // len(labels))
    with bar("drawing", each * len(labels)) as advance:
        for number, label in enumerate(labels):
            first = first_seed + number * 10_000
            for event in client.stream_images(label, count=each, seed=first, version=version):
                if not hasattr(event, "data"):
                    continue
                if event.generator_version != version:
                    raise vouch.errors.Internal(
                        f"asked for {version[:12]}, drawn by {event.generator_version[:12]}"
                    )
                drawn.append(event)
                advance()
    drawn.sort(key=lambda image: image.seed)  # they come as they are done; before and after need one order
    images = [codec.decode(image.data) for image in drawn]
    prompts, digests = [image.prompt for image in drawn], [image.digest for image in drawn]
    return Drawn(np.stack(images), tuple(prompts), tuple(digests))


def rate(client: Client, pool: Drawn, models: Path, domain: Domain) -> None:
    """Each simulated expert rates every image; recorded as simulated."""
    knowledge = Plausibility.load(models / "rater")
    for name in RATERS:
        rater = SimulatedPathologist(knowledge, name, domain)
        opinions = rater.rate(pool.images, pool.prompts, pool.digests)
        ratings = [
            NewRating(
                request_id=f"demo-{name}-{digest}",
                image=digest,
                rater=name,
                kind="simulated",
                verdict=opinion.verdict,
                answers=opinion.answers,
                ui_version="demo",
            )
            for digest, opinion in zip(pool.digests, opinions, strict=True)
        ]
        answer = client.import_ratings(ratings)
        plausible = np.mean([opinion.verdict == "plausible" for opinion in opinions])
        say(f"   {name} (simulated): {answer.recorded} ratings, {plausible:.0%} plausible")


def train(client: Client, kind: str, config: dict[str, Any]) -> str:
    """Starts a run, shows its progress, returns the digest of the version that it published."""
    run = client.start_training(kind, config)
    with bar(kind, None) as advance:
        for run in client.watch_run(run.run_id):  # noqa: B020 - the run as it is now
            advance(run.step, run.total_steps, f"{kind}: {run.message or run.state.lower()}")
    if run.state != "SUCCEEDED":
        raise vouch.errors.FailedPrecondition(f"{run.run_id} ended {run.state.lower()}: {run.error}")
    say(f"   {run.version_name} published.")
    if table := figures_table(kind, run.metrics):
        console.print(table)
    return run.version


def roll_out(client: Client, version: str, traffic: Traffic) -> None:
    """5 %, 25 %, 100 %, waiting at each step until every replica follows and some requests have come in."""
    rollout = client.start_rollout(version, force=True, reason="demo: its gate was not asked")
    while True:
        for rollout in client.watch_rollout(rollout.rollout_id):  # noqa: B020 - the rollout as it is now
            if rollout.replicas_total and rollout.replicas_converged == rollout.replicas_total:
                break
        traffic.wait_for(REQUESTS_A_STEP)
        say(f"   {rollout.version_name}: {rollout.percent} % ({rollout.state.lower()})")
        if rollout.state != "ACTIVE":
            return
        rollout = client.promote_rollout(rollout.rollout_id, reason="demo")


@contextmanager
def requests_going_on(state: Path, labels: tuple[str, ...], traffic: Traffic) -> Iterator[None]:
    """One client that asks for an image, and when it has it for the next."""
    stop = threading.Event()

    def ask() -> None:
        with vouch.connect(state=state, role="client") as client:
            number = 0
            while not stop.is_set():
                number += 1
                try:
                    reply = client.generate_images(labels[number % len(labels)], seed=number, steps=8)
                    traffic.note(version=reply.generator_version)
                except VouchError as error:
                    traffic.note(failure=error.message)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
    for reason in sorted(set(traffic.reasons)):
        console.print(f"   [red]failed:[/red] {reason}")


# --- what it shows -----------------------------------------------------------------------------------------


def show_before_after(
    path: Path, labels: tuple[str, ...], before: Drawn, after: Drawn, columns: int = 12
) -> None:
    """Two rows a class, before above after, the same seeds below each other."""
    rows = []
    for label in labels:
        at = [i for i, prompt in enumerate(before.prompts) if prompt == label][:columns]
        rows += [before.images[at], after.images[at]]
    contact_sheet(np.concatenate(rows), columns, path, scale=2)


def show_methods(verdicts: dict[str, JudgeSummary], judge: Judge) -> None:
    table = Table(title="by the independent judge", title_justify="left")
    for column in (
        "",
        "images",
        "plausible",
        "recognised",
        f"coverage ({PER_CLASS} real images of each label: {judge.floor:.2f})",
    ):
        table.add_column(column)
    for name, v in verdicts.items():
        cells = [f"{f.value:.3f} ({f.low:.3f}-{f.high:.3f})" for f in (v.plausible, v.recognised, v.coverage)]
        table.add_row(name, str(v.images), *cells)
    console.print(table)


def report_of(
    verdicts: dict[str, JudgeSummary], judge: Judge, traffic: Traffic, seconds: float, minutes: int = MINUTES
) -> Report:
    report = Report("demo")
    before, after, weighted = (verdicts[name] for name in ("before", "after", "reward-weighted"))

    def share(found: Any, must: str | None = None) -> Figure:
        return Figure(found.value, "share", found.low, found.high, must)

    report.add("plausible_before", share(before.plausible))
    report.add("plausible_after", share(after.plausible))
    report.add("plausible_after_reward_weighted", share(weighted.plausible))
    report.add("coverage_before", share(before.coverage))
    report.add("coverage_after", share(after.coverage))
    report.add("coverage_floor", Figure(judge.floor, "share"))
    report.add("requests", Figure(traffic.requests, "requests"))
    report.add("failed", Figure(traffic.failed, "requests", must="<= 0"))
    report.add("seconds", Figure(round(seconds, 1), "s", must=f"<= {60 * minutes}"))
    return report


def add_gain(report: Report, gain: np.ndarray) -> None:
    """What the aligned version gained on the base, of images [N] of the same prompts and seeds: pairs are resampled."""
    low, high = (100 * bound for bound in bootstrap(gain, np.mean))
    report.add("gain_points", Figure(100 * float(gain.mean()), "points", low, high))
    report.add("gain_low_points", Figure(low, "points", must=">= 0"))


def say(text: str) -> None:
    console.print(text, highlight=False)


@contextmanager
def bar(name: str, total: int | None) -> Iterator[Any]:
    columns = (TextColumn("   {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=total)

        def advance(step: int | None = None, steps: int | None = None, text: str | None = None) -> None:
            if step is None:
                progress.advance(task)
            else:
                progress.update(task, completed=step, total=steps or None, description=text or name)

        yield advance


# --- the system --------------------------------------------------------------------------------------------


def models_of(domain: str, further: Path = FURTHER) -> Path:
    """The folder of models that the checkout has for a domain; the starter's where it has none."""
    own = further / load_domain(domain).name
    return own if all((own / part).is_dir() for part in MODELS) else STARTER


def check(domain: str, models: Path) -> None:
    """Raises `InvalidInput` for models that are missing, or those of the blood cells for another domain."""
    name = load_domain(domain).name
    if models == STARTER and name != "blood_cells":
        raise vouch.errors.InvalidInput(
            f"The models that ship draw and judge blood cells. Name a folder of models of {name} with --models; "
            f"`python -m training models --domain {domain} --data FOLDER --base FOLDER --out FOLDER` makes one."
        )
    if missing := [part for part in MODELS if not (models / part).is_dir()]:
        raise vouch.errors.InvalidInput(
            f"{models} lacks {', '.join(missing)}. `python -m training models --domain {domain} --data FOLDER --base "
            f"FOLDER --out {models}` makes what is missing."
        )
    if models != STARTER and not (models / "generator" / "vocabulary.json").is_file():
        raise vouch.errors.InvalidInput(f"{models / 'generator'} lists no labels (vocabulary.json) to draw.")


@contextmanager
def system(arguments: argparse.Namespace) -> Iterator[Path]:
    """`vouch up` on a fresh state folder, until the block ends."""
    state, models = arguments.state, arguments.models
    fresh(state)
    log = state.with_name(state.name + ".log")
    command = [sys.executable, "-m", "vouch", "up", "--state", str(state)]
    command += ["--grpc-port", str(arguments.grpc_port), "--http-port", str(arguments.http_port)]
    say(f"0. The system starts: {' '.join(command[2:])}   (log: {log})")
    with tempfile.TemporaryDirectory(prefix="vouch-demo-") as scratch:
        if models != STARTER:
            generator = assembled(models / "generator", Path(scratch) / "generator")
            command += ["--generator", str(generator), "--reward", str(models / "reward")]
        with started(command, arguments.domain, log) as process:
            wait_until_it_answers(process, state, log)
            yield state


@contextmanager
def started(command: list[str], domain: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process of this command, which is told to end with the block."""
    # Compiling takes two minutes of two cores, which here the learning wants.
    settings = {**os.environ, "VOUCH_GENERATION__COMPILE": "false", "VOUCH_DOMAIN": domain}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=settings, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def fresh(state: Path) -> None:
    """An earlier demo's state goes; one in use, or a folder that is no state, stays."""
    state.parent.mkdir(parents=True, exist_ok=True)
    if not state.exists():
        return
    if not (state / "catalog.db").is_file() and any(state.iterdir()):
        raise vouch.errors.FailedPrecondition(
            f"{state} is not a demo's state folder. Give another with --state."
        )
    with StateFolder(state).lock():
        pass
    shutil.rmtree(state)


def wait_until_it_answers(process: subprocess.Popen[bytes], state: Path, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if (state / "access.json").is_file():
            try:
                with vouch.connect(state=state) as client:
                    label = client.describe_generator().labels[0]
                    client.generate_images(label, seed=0, request_id=f"demo-first-{uuid.uuid4().hex}")
                return
            except VouchError:
                pass
        time.sleep(0.3)
    last = log.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["nothing was logged"]
    raise vouch.errors.Unavailable(f"The system did not start: {last[0]} The whole log is in {log}.")


def stay(state: Path, label: str) -> None:
    access = json.loads((state / "access.json").read_text())
    say(f"\nThe system stays up until Ctrl-C: gRPC {access['address']}, page {access['http']}.")
    say(f"Try: .venv/bin/vouch generate '{label}' --count 4 --state {state}")
    signal.pause()


if __name__ == "__main__":
    sys.exit(main())
