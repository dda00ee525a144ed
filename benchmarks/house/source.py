"""Figures that are read from the source, without running it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PACKAGES = ("vouch", "services", "training")
NAMED = (*PACKAGES, "benchmarks", "scripts")
"""Where a class name stands for one thing."""
GENERATED = "pb"
"""Folder of the code that protoc makes."""
FORMS_FILE, FORMS_HEADING = Path("docs/explain/architecture.md"), "Forms of a generation request"

Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Function:
    """A function and its length: lines from `def` to its last, with docstring and blank lines."""

    where: str
    name: str
    lines: int
    returns: str
    """The annotation of what it returns, "" without one."""


def trees(root: Path, packages: Sequence[str] = PACKAGES) -> Iterator[tuple[str, ast.Module]]:
    """The syntax tree of each hand-written module of the packages, with its path inside `root`."""
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            if GENERATED not in path.relative_to(root).parts:
                yield str(path.relative_to(root)), ast.parse(path.read_text("utf-8"))


def functions(root: Path, packages: Sequence[str] = PACKAGES) -> list[Function]:
    """Every function of the packages, nested ones and methods among them."""
    return [
        Function(
            f"{path}:{node.lineno}",
            node.name,
            _lines(node),
            ast.unparse(node.returns) if node.returns else "",
        )
        for path, tree in trees(root, packages)
        for node in ast.walk(tree)
        if isinstance(node, Definition)
    ]


def _lines(node: Definition) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def percentile_90(found: Sequence[Function]) -> float:
    """The 90th percentile of the lengths, in lines."""
    return float(np.percentile([function.lines for function in found], 90, method="higher"))


def any_returns_share(found: Sequence[Function]) -> float:
    """Of the functions that say what they return, the share that says `Any`, alone or inside another type."""
    annotated = [function for function in found if function.returns]
    return sum(bool(re.search(r"\bAny\b", function.returns)) for function in annotated) / len(annotated)


def repeated_classes(root: Path) -> Mapping[str, list[str]]:
    """Class names that are defined more than once outside tests, with the places."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path, tree in trees(root, NAMED):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path}:{node.lineno}")
    return {name: where for name, where in sorted(places.items()) if len(where) > 1}


def request_forms(root: Path) -> list[str] | None:
    """The rows of the first table, or else the items of the first list, under "Forms of a generation request".

    None without that section.
    """
    path = root / FORMS_FILE
    if not path.is_file():
        return None
    _, heading, rest = path.read_text("utf-8").partition(f"{FORMS_HEADING}\n")
    section = re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0] if heading else ""
    rows = re.findall(r"^\| *([^|]*?) *\|", section, flags=re.MULTILINE)
    items = re.findall(r"^(?:\d+\.|[-*]) +(.+)$", section, flags=re.MULTILINE)
    return rows[2:] or items or None  # a table begins with its head and a rule


def readme_lines(root: Path) -> int:
    """Lines of README.md."""
    return len((root / "README.md").read_text("utf-8").splitlines())
