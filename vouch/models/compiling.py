"""Compiling a U-Net ahead of time, in a process of its own that gives way to everything else.

python -m vouch.models.compiling FOLDER < architecture.json

It makes FOLDER with the packages of `vouch.models.kernels` and what they are worth, whole or not at all, and ends when
its standard input does: nothing is left running when whoever started it has gone. It needs a C++ compiler.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch._inductor

from vouch.models.kernels import (
    BUCKETS,
    MEASURED_FILE,
    MOST,
    Architecture,
    Compiled,
    Eager,
    Measured,
    Network,
    computing,
)

ROUNDS = 15
COMPILERS = ("g++", "clang++")


def start(architecture: Architecture, folder: Path) -> subprocess.Popen[bytes]:
    """Begin to make `folder`. It exists when the process has ended well; its errors are what it prints.

    Raises OSError where there is no room for it.
    """
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "vouch.models.compiling", str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"},
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(architecture)).encode() + b"\n")
    process.stdin.flush()
    return process


def make(architecture: Architecture, folder: Path) -> None:
    """Compile, measure, and put `folder` in its place; nothing to do where it is already.

    A second process that wants the same waits for the first, and finds it done.
    """
    with _alone(folder.with_suffix(".lock")):
        if folder.is_dir():
            return
        for left in folder.parent.glob(f".{folder.name}-*"):  # by one that was ended on its way
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{scratch}/cache"
            made = Path(scratch) / "made"
            made.mkdir()
            unet = _unet(architecture)
            for bucket, rows in BUCKETS.items():
                _package(unet, architecture, rows, made / f"{bucket}.pt2")
            _measure(unet, architecture, made)
            made.rename(folder)


def _unet(architecture: Architecture) -> Any:
    """With random weights: the code must not depend on them."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config(architecture.config).eval().requires_grad_(False)
    return unet.to(memory_format=torch.channels_last)


def _package(unet: Any, architecture: Architecture, rows: int, file: Path) -> None:
    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unet = unet

        def forward(self, x: Any, timesteps: Any, prompts: Any) -> Any:
            return self.unet(x, timesteps, prompts, return_dict=False)[0]

    inputs = architecture.inputs(rows)
    batch = {0: torch.export.Dim("rows", min=2, max=MOST)} if rows > 1 else None
    options = {
        "aot_inductor.package_constants_in_so": False,
        "always_keep_tensor_constants": True,  # else a bias of eight numbers or fewer becomes part of the code
        "cpp.dynamic_threads": True,
    }
    with torch.no_grad(), computing(architecture.precision):
        program = torch.export.export(Plain(), inputs, dynamic_shapes=(batch, batch, batch))
        torch._inductor.aoti_compile_and_package(program, package_path=str(file), inductor_configs=options)


@torch.inference_mode()
def _measure(unet: Any, architecture: Architecture, made: Path) -> None:
    rows = BUCKETS["many"]
    file = made / MEASURED_FILE
    file.write_text(json.dumps(asdict(Measured(rows, 1.0, 1.0, 0.0))))  # Compiled wants to read one
    _change(unet)
    ways = Eager(unet, architecture.precision), Compiled(unet, made)
    differences = [_difference(*ways, architecture.inputs(number)) for number in BUCKETS.values()]
    eager_ms, compiled_ms = _milliseconds(ways, architecture.inputs(rows))
    file.write_text(json.dumps(asdict(Measured(rows, eager_ms, compiled_ms, max(differences)))))


def _difference(one: Network, other: Network, inputs: Sequence[Any]) -> float:
    """The largest of any output."""
    return float((one(*inputs) - other(*inputs)).abs().max())


def _milliseconds(ways: Sequence[Network], inputs: Sequence[Any]) -> list[float]:
    """Medians of calls in turns; the first two do not count."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(ROUNDS):
        for way, spent in zip(ways, times, strict=True):
            started = time.perf_counter()
            way(*inputs)
            spent.append(time.perf_counter() - started)
    return [1000 * statistics.median(spent[2:]) for spent in times]


def _change(unet: Any) -> None:
    """Other weights than those that were compiled with: code that has kept one of them gives itself away."""
    for weight in unet.parameters():
        weight.copy_(weight + 0.02 * torch.randn_like(weight))


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _end_with_the_input() -> None:
    def watch() -> None:
        while os.read(0, 1024):  # not through sys.stdin: Python cannot end while a thread reads from that
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    os.nice(19)
    config = json.loads(sys.stdin.readline())
    _end_with_the_input()
    make(Architecture(**{**config, "prompt": tuple(config["prompt"])}), Path(sys.argv[1]))


if __name__ == "__main__":
    main()
