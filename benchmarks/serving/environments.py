"""Environments of peers whose packages do not go together with ours: `.venv-peers/NAME`, made when first needed."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.serving.process import ROOT

FOLDER = ROOT / ".venv-peers"
CONSTRAINTS = ROOT / "constraints.txt"
PIPELINE = ("diffusers", "transformers", "accelerate", "safetensors", "tokenizers", "pillow")
PINNED = {"litserve": "0.2.19", "bentoml": "1.4.39", "trl": "0.19.1"}
EARLIER = {"trl": ("transformers==4.57.6", "diffusers==0.35.2", "peft")}
"""What a peer needs that does not go together with our constraints, instead of `PIPELINE`."""


class NoEnvironment(Exception):
    """The environment of a peer could not be made. The message is pip's."""


@functools.cache
def python_of(peer: str) -> Path:
    """The Python that runs `peer`, with everything it needs. Raises NoEnvironment."""
    if peer not in PINNED:
        return Path(sys.executable)
    python = FOLDER / peer / "bin" / "python"
    if not _is_ready(python, peer):
        print(f"making {FOLDER.name}/{peer} (some minutes the first time)")
        _make(python, peer)
    return python


def is_made(peer: str) -> bool:
    """Whether `python_of` would have nothing to make."""
    return peer not in PINNED or _is_ready(FOLDER / peer / "bin" / "python", peer)


def complaints(peer: str) -> str:
    """What pip finds wrong with the peer's own requirements; "" is nothing."""
    if peer not in PINNED:
        return ""
    done = _run(python_of(peer), "-m", "pip", "check")
    return done.stdout.strip() if done.returncode else ""


def _make(python: Path, peer: str) -> None:
    # torch alone and exactly: anything looser could bring a build for another device, gigabytes of it.
    torch = f"torch=={_pinned('torch')}"
    if peer in EARLIER:
        steps = [(torch,), (torch, *EARLIER[peer], f"{peer}=={PINNED[peer]}")]
    else:
        steps = [(torch,), ("-c", str(CONSTRAINTS), *PIPELINE), (f"{peer}=={PINNED[peer]}",)]
    made = _run(Path(sys.executable), "-m", "venv", str(python.parents[1]))
    if made.returncode:
        raise NoEnvironment(made.stderr.strip() or made.stdout.strip())
    for packages in steps:
        done = _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
        if done.returncode:
            raise NoEnvironment(_last_error(done.stderr))


def _is_ready(python: Path, peer: str) -> bool:
    if not python.exists():
        return False
    asked = f"from importlib.metadata import version; import diffusers; print(version({peer!r}))"
    done = _run(python, "-c", asked)
    return done.returncode == 0 and done.stdout.split()[-1:] == [PINNED[peer]]


def _pinned(package: str) -> str:
    found = re.search(rf"^{package}==(\S+)", CONSTRAINTS.read_text(), re.MULTILINE)
    if found is None:
        raise NoEnvironment(f"{CONSTRAINTS.name} names no version of {package}")
    return found[1]


def _last_error(text: str) -> str:
    errors = [line for line in text.splitlines() if line.startswith("ERROR")]
    return (errors or text.splitlines() or ["pip failed and said nothing"])[-1]


def _run(python: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(python), *options], capture_output=True, text=True)
