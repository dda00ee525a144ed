"""The independent judge as a process of its own, behind all others in priority: pictures in, outcomes out, as lines of
JSON. A service imports nothing of training; it only starts it, as it starts its jobs."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from services.rollout.comparison import Outcome
from vouch.errors import Unavailable

NICENESS = 19
OUTCOMES = ("worse", "better", "tie")


def judge_command(judge: Path) -> list[str]:
    """What runs the judge in this folder."""
    return [sys.executable, "-m", "training.judging", "--judge", str(judge)]


class JudgeProcess:
    """Starts when it is first asked, and again after its process has ended."""

    def __init__(self, command: Sequence[str], niceness: int = NICENESS) -> None:
        self._command, self._niceness = list(command), niceness
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def compare(self, prompt: str, champion: bytes, candidate: bytes) -> Mapping[str, Outcome]:
        """Raises Unavailable when the judge ends or answers something else."""
        asked = {"prompt": prompt, "champion": _text(champion), "candidate": _text(candidate)}
        with self._lock:
            answer = self._ask(json.dumps(asked).encode() + b"\n")
            if not answer:
                self._end()
        try:
            reply = json.loads(answer)
            outcomes = {str(name): outcome for name, outcome in reply.items() if outcome in OUTCOMES}
        except (ValueError, AttributeError) as error:
            raise Unavailable("the judge's process ended; it is started again for the next pair") from error
        return cast(Mapping[str, Outcome], outcomes)

    def stop(self) -> None:
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _ask(self, line: bytes) -> bytes:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
            return process.stdout.readline()
        except OSError:  # it has just ended
            return b""

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            launch = [sys.executable, "-m", "services.jobs.launch", str(self._niceness), str(os.getpid())]
            self._process = subprocess.Popen(
                [*launch, *self._command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        return self._process


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
