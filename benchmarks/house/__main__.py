"""Measures the source: size, names, installation, and the share of mutants that its tests find.

    python -m benchmarks.house [--json FILE] [--junit FILE ...] [--no-install] [--mutants [N]] [--areas NAME ...]

Without --junit, `test_minutes` is not measured; without --mutants, `mutants_found` is not.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.house import install, junit, mutation, source
from benchmarks.report import Figure, Report, arguments, median_figure, screen

ROOT = Path(__file__).parents[2]
MUTANTS = 40
console = screen()


def measure_source(report: Report, root: Path) -> None:
    """What is read from the source; lists what is too long or repeated."""
    forms, repeated = source.request_forms(root), source.repeated_classes(root)
    functions = source.functions(root)
    longest = max(function.lines for function in functions)
    report.add("request_forms", Figure(forms and len(forms), "forms", must="<= 6", aim="<= 5"))
    report.add("class_names_twice", Figure(len(repeated), "names", must="<= 0", aim="<= 0"))
    share = 100 * source.any_returns_share(source.functions(root, ("services",)))
    report.add("any_returns_share", Figure(share, "%", must="<= 3", aim="<= 0"))
    p90 = source.percentile_90(functions)
    report.add("function_p90_lines", Figure(p90, "lines", must="<= 17", aim="<= 15"))
    report.add("function_max_lines", Figure(longest, "lines", must="<= 45", aim="<= 40"))
    report.add("readme_lines", Figure(source.readme_lines(root), "lines", must="<= 120", aim="<= 100"))
    for name, places in repeated.items():
        console.print(f"class {name}: {', '.join(places)}", highlight=False)
    for function in sorted(functions, key=lambda function: -function.lines):
        if function.lines > 45:
            console.print(f"{function.lines} lines: {function.name} ({function.where})", highlight=False)


def measure_install(report: Report, root: Path) -> None:
    """What the client takes, and how long it takes to import."""
    with tempfile.TemporaryDirectory(prefix="vouch-house-") as work:
        size_mb = install.client_install_mb(root, Path(work))
    report.add("client_install_mb", Figure(size_mb, "MiB", must="<= 120", aim="<= 60"))
    report.add("client_import_ms", median_figure(install.import_ms(root, "vouch"), "ms", "<= 400", "<= 200"))
    report.add("client_use_import_ms", median_figure(install.import_ms(root, "vouch.client"), "ms"))


def measure_mutants(report: Report, root: Path, count: int, seed: int, areas: Sequence[str]) -> None:
    """The mutants that a failing test finds. Only 40 of all areas have a limit to keep to."""
    with tempfile.TemporaryDirectory(prefix="vouch-mutants-") as work:
        chosen = [area for area in mutation.AREAS if area.name in areas]
        copy = install.copy_source(root, Path(work) / "source")
        result = mutation.run(copy, mutation.choose(copy, count, seed, chosen), console.print)
    limits = (
        {"must": ">= 36", "aim": ">= 40"}
        if result.tried == MUTANTS and len(chosen) == len(mutation.AREAS)
        else {}
    )
    report.add("mutants_found", Figure(len(result.found), f"of {result.tried} mutants", **limits))
    for mutant in result.survived:
        console.print(f"survived: {mutant}", highlight=False, markup=False)


def _options() -> argparse.Namespace:
    parser = arguments("benchmarks.house", "Figures of the source itself.")
    parser.add_argument(
        "--junit", type=Path, nargs="+", metavar="FILE", help="from `make test`: pytest --junit-xml"
    )
    parser.add_argument("--no-install", action="store_true", help="leave out what installs the client")
    parser.add_argument(
        "--mutants",
        type=int,
        nargs="?",
        const=MUTANTS,
        default=0,
        metavar="N",
        help=f"try N mutants ({MUTANTS})",
    )
    names = [area.name for area in mutation.AREAS]
    parser.add_argument("--areas", nargs="+", choices=names, default=names, help="where mutants are made")
    parser.add_argument("--seed", type=int, default=17, help="of the choice of the mutants")
    return parser.parse_args()


def main() -> None:
    options, report = _options(), Report("house")
    measure_source(report, ROOT)
    if not options.no_install:
        measure_install(report, ROOT)
    if options.junit:
        minutes = junit.minutes_of_tests(options.junit)
        report.add("test_minutes", Figure(minutes, "minutes", must="<= 12", aim="<= 8"))
    if options.mutants:
        measure_mutants(report, ROOT, options.mutants, options.seed, options.areas)
    report.finish(options.json, console=console)


if __name__ == "__main__":
    main()
