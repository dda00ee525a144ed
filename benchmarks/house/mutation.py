"""Mutation testing: seeded one-line changes of the core, and whether its unit tests notice.

The operators are the usual ones of mutation testing (DeMillo, Lipton and Sayward 1978, "Hints on test data selection"):
another comparison, another arithmetic or Boolean operator, a constant that is one larger, a dropped `not`.
"""

from __future__ import annotations

import ast
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SLACK_S = 60.0
"""Seconds that a mutant's tests may take beyond twice those of the source as it is."""


@dataclass(frozen=True)
class Area:
    """Files of the core, and the unit tests that are concerned with them."""

    name: str
    sources: tuple[str, ...]
    tests: tuple[str, ...]
    options: tuple[str, ...] = ()


AREAS = (
    Area(
        "engine",
        ("services/generation/engine.py", "services/generation/denoise.py", "services/generation/slots.py"),
        (
            "tests/unit/test_engine.py", "tests/unit/test_engine_ends.py", "tests/unit/test_engine_properties.py",
            "tests/unit/test_guidance.py",
        ),
    ),
    Area(
        "scheduler",
        ("services/generation/scheduler.py", "services/generation/fair_sojourn.py"),
        ("tests/unit/test_scheduler.py", "tests/unit/test_fair_sojourn.py", "tests/unit/test_engine_fairness.py"),
    ),
    Area("registry", ("vouch/storage/registry.py",), ("tests/unit/test_registry.py",)),
    Area(
        "catalog",
        tuple(f"vouch/storage/catalog/{name}.py" for name in ("images", "ratings", "runs", "rollouts", "tokens")),
        (
            "tests/unit/test_catalog.py", "tests/unit/test_catalog_images.py", "tests/unit/test_catalog_ratings.py",
            "tests/unit/test_catalog_rollouts.py", "tests/unit/test_catalog_runs.py", "tests/unit/test_tokens.py",
        ),
        ("-k", "not postgresql"),
    ),
    Area("objectives", ("training/objectives/*.py",), ("tests/unit/test_objectives.py",)),
    Area("gate", ("training/evaluation/gate.py",), ("tests/unit/test_gate.py",)),
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One changed line."""

    area: Area
    path: str
    line: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}\n    - {self.before.strip()}\n    + {self.after.strip()}"


@dataclass
class MutationResult:
    """What became of the mutants."""

    found: list[Mutant] = field(default_factory=list)
    survived: list[Mutant] = field(default_factory=list)

    @property
    def tried(self) -> int:
        return len(self.found) + len(self.survived)


class BrokenBaseline(RuntimeError):
    """Tests of an area fail on the source as it is, so that they say nothing of its mutants."""


def choose(root: Path, count: int, seed: int, areas: Sequence[Area] = AREAS) -> list[Mutant]:
    """`count` mutants, spread evenly over the areas; the same seed chooses the same ones of the same source."""
    chance = random.Random(seed)
    waiting = {
        area.name: chance.sample(all_, len(all_)) for area in areas if (all_ := list(mutants(root, area)))
    }
    chosen: list[Mutant] = []
    while len(chosen) < count and any(waiting.values()):
        chosen += [left.pop() for left in waiting.values() if left]
    return chosen[:count]


def mutants(root: Path, area: Area) -> Iterator[Mutant]:
    """Every mutant of an area, in the order of the source."""
    for path in sorted(path for pattern in area.sources for path in root.glob(pattern)):
        text = path.read_text("utf-8")
        lines = text.splitlines()
        for node in _code(ast.parse(text)):
            for old, new in _changes(node):
                if mutant := _changed(lines, old, new):
                    yield Mutant(area, str(path.relative_to(root)), old.lineno, *mutant)


def _code(tree: ast.Module) -> Iterator[ast.AST]:
    """Nodes inside of functions, without their annotations and default values."""
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for statement in function.body:
                yield from _inside(statement)


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return  # `_code` comes to it by itself
    yield node
    skipped = {id(getattr(node, "annotation", None))}
    for child in ast.iter_child_nodes(node):
        if id(child) not in skipped:
            yield from _inside(child)


COMPARISONS: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
}  # fmt: skip


def _changes(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """The node and what takes its place."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        if other := COMPARISONS.get(type(node.ops[0])):
            yield node, ast.Compare(node.left, [other()], node.comparators)
    elif isinstance(node, ast.BinOp) and not _is_text(node):
        if swapped := OPERATORS.get(type(node.op)):
            yield node, ast.BinOp(node.left, swapped(), node.right)
    elif isinstance(node, ast.BoolOp):
        yield node, ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node, node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield node, ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield node, ast.Constant(node.value + 1)


def _is_text(node: ast.BinOp) -> bool:
    """Whether an operand is a string: its sum has no other operator."""
    return any(
        isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str))
        for side in (node.left, node.right)
    )


def _changed(lines: Sequence[str], old: ast.expr, new: ast.expr) -> tuple[str, str] | None:
    """The line before and after; None for an expression of several lines."""
    if old.end_lineno != old.lineno:
        return None
    before = lines[old.lineno - 1]
    raw = before.encode()
    changed = raw[: old.col_offset] + f"({ast.unparse(new)})".encode() + raw[old.end_col_offset :]
    return before, changed.decode()


def run(copy: Path, chosen: Sequence[Mutant], say: Callable[[str], None] = print) -> MutationResult:
    """Run the tests of each mutant's area in `copy`, a copy of the source that is changed and restored.

    Raises:
        BrokenBaseline: the tests of an area fail without any change.
    """
    allowed_s = {
        area.name: _baseline_s(copy, area) for area in dict.fromkeys(mutant.area for mutant in chosen)
    }
    result = MutationResult()
    for number, mutant in enumerate(chosen, 1):
        is_found = _is_found(copy, mutant, allowed_s[mutant.area.name])
        (result.found if is_found else result.survived).append(mutant)
        say(f"{number}/{len(chosen)} {'found' if is_found else 'SURVIVED'} {mutant}")
    return result


def _baseline_s(copy: Path, area: Area) -> float:
    """Seconds that a mutant's tests may take."""
    began = time.monotonic()
    done = _tests(copy, area, None)
    if done.returncode:
        raise BrokenBaseline(
            f"the tests of {area.name} fail on the source as it is:\n{done.stdout.decode()[-2000:]}"
        )
    return 2 * (time.monotonic() - began) + SLACK_S


def _is_found(copy: Path, mutant: Mutant, allowed_s: float) -> bool:
    file = copy / mutant.path
    text = file.read_text("utf-8")
    lines = text.splitlines(keepends=True)
    lines[mutant.line - 1] = mutant.after + "\n"
    file.write_text("".join(lines), "utf-8")
    try:
        return not _pass(copy, mutant.area, allowed_s)
    finally:
        file.write_text(text, "utf-8")


def _pass(copy: Path, area: Area, timeout_s: float) -> bool:
    """Whether the tests pass in time: an endless loop is found by its not ending."""
    try:
        return _tests(copy, area, timeout_s).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _tests(copy: Path, area: Area, timeout_s: float | None) -> subprocess.CompletedProcess[bytes]:
    # Without caches: a mutant of the same size and second as the one before would be taken for it.
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        *area.options,
        *area.tests,
    ]
    return subprocess.run(
        command,
        cwd=copy,
        env=environment,
        timeout=timeout_s,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
