"""Loads and runs a model folder once in a separate process, so that a start refuses a model that cannot serve.

python -m services.trial KIND FOLDER        # prints {} or {"message": ..., "reason": ...} as one line of JSON

A process of its own, because torch must not stay in the memory of the one that starts the system.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from vouch.errors import FailedPrecondition, InvalidInput, VouchError
from vouch.types.version import VersionKind

TRIAL_S = 600.0
MODULE = "services.trial"


def try_model(kind: VersionKind, folder: Path) -> None:
    """Load `folder` and run one denoising step, or score one image.

    Raises:
        InvalidInput: it cannot be served; says which part, and the remedy.
        FailedPrecondition: the trial itself could not be made, for want of memory or time.
    """
    command = [sys.executable, "-m", MODULE, kind, str(folder)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TRIAL_S,
            check=False,
            env={**os.environ, **QUIET},
        )
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, ValueError) as error:
        raise FailedPrecondition(
            f"The {kind} in {folder} could not be tried: the process that loads it "
            f"{'took too long' if isinstance(error, subprocess.TimeoutExpired) else 'ended early'}. "
            "Remedy: free some memory, or name a smaller model.",
            "TRIAL_FAILED",
        ) from error
    if answer:
        raise InvalidInput(f"The {kind} cannot be served. {answer['message']}", answer["reason"])


QUIET = {"DIFFUSERS_VERBOSITY": "error", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}


def _use(kind: str, folder: Path) -> None:
    if kind == "generator":
        from vouch.models.loading import check_finite
        from vouch.models.pipelines import load_generator

        generator = load_generator(folder)
        words = generator.vocabulary
        check_finite(generator, words.labels[0] if words else "image")
    else:
        from services.reward.models import load_reward

        load_reward(folder)


def main(arguments: list[str]) -> int:
    """Writes the outcome to standard output."""
    try:
        _use(arguments[0], Path(arguments[1]))
        answer = {}
    except VouchError as error:
        answer = {"message": error.message, "reason": error.reason}
    except Exception as error:  # noqa: BLE001 - whatever it is, the folder cannot be served
        message = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        answer = {"message": f"{arguments[1]} fails when it is used ({message}).", "reason": "UNUSABLE_MODEL"}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
