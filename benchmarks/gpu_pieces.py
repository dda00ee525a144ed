"""What a GPU adds, in pieces that each end within nine minutes and leave files of at most 16 MiB: `make gpu`.

    python -m benchmarks.gpu_pieces [--piece tests --piece engine ...] [--out build/gpu] [--data ../shared/data]

Each piece is a process of its own and is ended when its time is up; what it wrote until then stays. The pieces of
adaptation begin with a foundation model of 128 pixels, and go on from their work folder (OUT/work, which holds larger
files) when they are called again. Without a GPU it says so and ends.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 9 * 60
LARGEST = 16 * 2**20
"""Bytes of a file that a piece leaves in OUT."""
WORK = "work"


@dataclass(frozen=True)
class Piece:
    """One process. `arguments` are those of Python; {out}, {work} and {data} stand for folders."""

    name: str
    arguments: tuple[str, ...]

    def command(self, out: Path, data: Path) -> list[str]:
        places = {"out": out, "work": out / WORK, "data": data}
        return [sys.executable, *(argument.format(**places) for argument in self.arguments)]


GPU_TESTS = ("tests/unit/test_graphs.py", "tests/unit/test_device_placement.py")
LADDER = (
    "-m", "benchmarks.adaptation", "--base", "{work}/foundation", "--work", "{work}/adaptation", "--data", "{data}",
    "--size", "128", "--no-probe", "--judge-steps", "300", "--drawn", "96", "--set", "batch=64",
)  # fmt: skip
PIECES: tuple[Piece, ...] = (
    Piece("tests", ("-m", "pytest", "-q", *GPU_TESTS, "--junitxml", "{out}/tests.xml")),
    Piece("engine", ("-m", "benchmarks.gpu", "--sizes", "64", "128", "--json", "{out}/engine.json")),
    Piece("engine-large", ("-m", "benchmarks.gpu", "--sizes", "256", "512", "--json", "{out}/engine-large.json")),
    Piece("foundation", (
        "-m", "benchmarks.adaptation.base", "--data", "{data}", "--out", "{work}/foundation", "--run-dir",
        "{work}/foundation-run", "--vae-minutes", "2.5", "--minutes", "3.5", "--set", "size=128", "--set", "batch=128",
    )),
    Piece("adaptation", (
        *LADDER, "--images", "100", "--recipes", "unet-text,scratch,unet-lora", "--minutes", "1",
        "--json", "{out}/adaptation.json",
    )),
    Piece("adaptation-all", (
        *LADDER, "--images", "all", "--recipes", "unet-text,scratch", "--minutes", "2",
        "--json", "{out}/adaptation-all.json",
    )),
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [piece.name for piece in PIECES]
    parser.add_argument("--piece", action="append", choices=names, help="one of them; repeatable")
    parser.add_argument("--out", type=Path, default=Path("build/gpu"), help="where the figures go")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the image sets")
    asked = parser.parse_args()
    if not has_gpu():
        print("There is no GPU with CUDA here: nothing is run.")
        return 0
    chosen = [piece for piece in PIECES if not asked.piece or piece.name in asked.piece]
    failed = [piece.name for piece in chosen if not run(piece, asked.out.resolve(), asked.data.resolve())]
    large = too_large(asked.out)
    for line in (*(f"{name} did not end well." for name in failed), *large):
        print(line)
    return 1 if failed or large else 0


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def run(piece: Piece, out: Path, data: Path, seconds: float = SECONDS) -> bool:
    """Whether the piece ended by itself, in time and without an error."""
    (out / WORK).mkdir(parents=True, exist_ok=True)
    print(f"== {piece.name}", flush=True)
    try:
        return subprocess.run(piece.command(out, data), timeout=seconds, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"{piece.name} was ended after {seconds:.0f} s; call it again to go on from there.")
        return False


def too_large(out: Path, largest: int = LARGEST) -> Sequence[str]:
    """A line for each file that is left in `out`, the work folder apart, and is larger than a piece may leave."""
    left = (path for path in sorted(out.rglob("*")) if path.is_file() and (out / WORK) not in path.parents)
    return [
        f"{path} has {path.stat().st_size:,} bytes, of {largest:,}."
        for path in left
        if path.stat().st_size > largest
    ]


if __name__ == "__main__":
    sys.exit(main())
