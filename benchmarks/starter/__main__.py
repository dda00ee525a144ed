"""The starter model against real cells: what its autoencoder keeps, what it draws, what it copies, what it costs.

    python -m benchmarks.starter --json FILE --data FOLDER_WITH_pbc64 [--generator FOLDER] [--old-vae FOLDER]

Any generator folder of blood cells can be measured. Figures are of the sealed judge, which selects nothing, unless
their name says "first judge". Needs the real images (pbc64); says so and measures nothing without them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import vouch
from benchmarks.report import Report, screen
from benchmarks.starter import autoencoder, cost, drawings, novelty
from benchmarks.starter.bench import Bench, Options

STARTER = Path(vouch.__file__).parent / "starter"
PARTS: dict[str, Callable[[Report, Bench], None]] = {
    "autoencoder": autoencoder.measure,
    "drawings": drawings.measure,
    "novelty": novelty.measure,
    "cost": cost.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.starter",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--json", type=Path, metavar="FILE", help="write the figures to this file")
    add("--data", type=Path, default=Path("../shared/data/pbc64"), help="folder of pbc64")
    add("--starter", type=Path, default=STARTER, help="folder with generator and judge")
    add("--generator", type=Path, help="a generator folder in place of the starter's")
    add("--old-vae", type=Path, help="an earlier autoencoder, or its whole generator: it is to be found out")
    add("--per-class", type=int, default=100, help="images of each class")
    add("--guidance", type=float, help="instead of the model's default")
    add("--steps", type=int, help="instead of the model's default")
    add("--sheets", type=Path, help="folder for a contact sheet of each class")
    add("--cache", type=Path, default=Path("state/features"), help="where features are kept")
    add("--parts", default=",".join(PARTS), help=f"only these, by comma: {', '.join(PARTS)}")
    given = parser.parse_args()
    parts = given.parts.split(",")
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if not (given.data / "test.parquet").is_file():
        screen().print(
            f"skipped: {given.data}/test.parquet is not there; give the folder of pbc64 with --data."
        )
        return 0
    report = Report("starter")
    bench = Bench(options(given))
    for part in parts:
        PARTS[part](report, bench)
    report.finish(given.json)
    return 0


def options(given: argparse.Namespace) -> Options:
    return Options(
        data=given.data,
        generator=given.generator or given.starter / "generator",
        judge=given.starter / "judge",
        old=given.old_vae,
        cache=given.cache,
        per_class=given.per_class,
        steps=given.steps,
        guidance=given.guidance,
        sheets=given.sheets,
    )


if __name__ == "__main__":
    sys.exit(main())
