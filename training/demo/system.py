"""`vouch up` on a fresh state folder, for as long as the demo lasts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import vouch
from training.demo.screen import say
from vouch.domains.criteria import load_domain
from vouch.errors import FailedPrecondition, InvalidInput, Unavailable, VouchError
from vouch.models.folders import INDEX
from vouch.storage.state import StateFolder

STARTER = Path(vouch.__file__).parent / "starter"
MODELS = ("generator", "reward", "rater", "judge")
START_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class DemoOptions:
    """What is run, and where. models: folder with the parts of MODELS."""

    state: Path = Path("state/demo")
    domain: str = "blood_cells"
    models: Path = STARTER
    rated: int = 320
    """Images that are rated."""
    judged: int = 256
    """Images that are judged, before and after."""
    grpc_port: int = 9000
    http_port: int = 8000
    once: bool = False
    """Stop the system when the report is written."""

    def check(self, *, whole: bool = True) -> None:
        """Refuse models that are missing, or those of the blood cells for another domain. whole: also a generator that
        is no diffusers folder.

        Raises:
            InvalidInput: with the command that makes what is missing.
        """
        name = load_domain(self.domain).name
        makes = f"`python -m training models --domain {self.domain} --data FOLDER --base FOLDER --out"
        if self.models == STARTER and name != "blood_cells":
            raise InvalidInput(
                f"The models that ship draw and judge blood cells. Name a folder of models of {name} with --models; "
                f"{makes} FOLDER` makes one."
            )
        if missing := [part for part in MODELS if not (self.models / part).is_dir()]:
            raise InvalidInput(
                f"{self.models} lacks {', '.join(missing)}. {makes} {self.models}` makes what is missing."
            )
        generator = self.models / "generator"
        if self.models != STARTER and not (generator / "vocabulary.json").is_file():
            raise InvalidInput(f"{generator} lists no labels (vocabulary.json) to draw.")
        if whole and not (generator / INDEX).is_file():
            raise InvalidInput(
                f"{generator} is no diffusers folder ({INDEX} is missing): merge the LoRA first."
            )


@contextmanager
def system(options: DemoOptions) -> Iterator[Path]:
    """Its state folder, until the block ends."""
    state, models = options.state, options.models
    fresh(state)
    log = state.with_name(state.name + ".log")
    command = [sys.executable, "-m", "vouch", "up", "--state", str(state)]
    command += ["--grpc-port", str(options.grpc_port), "--http-port", str(options.http_port)]
    say(f"0. The system starts: {' '.join(command[2:])}   (log: {log})")
    if models != STARTER:
        command += ["--generator", str(models / "generator"), "--reward", str(models / "reward")]
    with started(command, options.domain, log) as process:
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
        raise FailedPrecondition(f"{state} is not a demo's state folder. Give another with --state.")
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
    raise Unavailable(f"The system did not start: {last[0]} The whole log is in {log}.")


def stay(state: Path, label: str) -> None:
    access = json.loads((state / "access.json").read_text())
    say(f"\nThe system stays up until Ctrl-C: gRPC {access['address']}, page {access['http']}.")
    say(f"Try: .venv/bin/vouch generate '{label}' --count 4 --state {state}")
    signal.pause()
