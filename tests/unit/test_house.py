"""The figures of the source, on small sources whose figures are known."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from benchmarks.house import install, junit, mutation, source
from benchmarks.house.mutation import Area

ROOT = Path(__file__).parents[2]

MODULE = '''
from typing import Any

class Twice: ...

def plain(x: int) -> int:
    """Doc."""

    return x

def loose() -> list[Any]: ...

def unsaid(): ...
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for package in source.PACKAGES:
        (tmp_path / package / "pb").mkdir(parents=True)
        (tmp_path / package / "pb" / "made.py").write_text("class Twice: ...\n")
    (tmp_path / "vouch" / "one.py").write_text(MODULE)
    (tmp_path / "services" / "two.py").write_text("class Twice: ...\nclass Once: ...\n")
    return tmp_path


def test_functions_are_measured_from_def_to_their_last_line(project: Path) -> None:
    lengths = {function.name: function.lines for function in source.functions(project)}
    assert lengths == {"plain": 4, "loose": 1, "unsaid": 1}
    assert source.percentile_90(source.functions(project)) == 4


def test_any_inside_another_type_counts_and_a_missing_annotation_does_not(project: Path) -> None:
    assert source.any_returns_share(source.functions(project)) == 0.5


def test_a_class_name_counts_once_with_all_its_places_and_generated_code_not_at_all(project: Path) -> None:
    assert source.repeated_classes(project) == {"Twice": ["vouch/one.py:4", "services/two.py:1"]}


def test_the_forms_of_a_request_are_the_table_or_list_under_their_heading(project: Path) -> None:
    assert source.request_forms(project) is None
    file = project / source.FORMS_FILE
    file.parent.mkdir(parents=True)
    file.write_text("# Architecture\n\n- no form\n")
    assert source.request_forms(project) is None
    file.write_text(
        "## Forms of a generation request\n\nThey are:\n\n1. message\n2. request\n\n## Next\n\n1. no form\n"
    )
    assert source.request_forms(project) == ["message", "request"]
    file.write_text(
        "## Forms of a generation request\n\n| form | where |\n|---|---|\n| `A` or `B` | wire |\n| `C` | engine |\n"
        "\n- no form\n"
    )
    assert source.request_forms(project) == ["`A` or `B`", "`C`"]


def test_import_times_are_those_of_the_module_and_its_parents() -> None:
    lines = [
        "import time: self [us] | cumulative | imported package",
        "import time:       100 |        900 |   typing",
        "import time:      1000 |       2000 | vouch",
        "import time:       500 |       3000 | vouch.client",
    ]
    assert install.cumulative_ms(lines, "vouch") == 2.0
    assert install.cumulative_ms(lines, "vouch.client") == 5.0


def test_the_size_of_an_installation_leaves_out_its_installers_and_caches(tmp_path: Path) -> None:
    for name in ("pip/a.py", "setuptools-65.5.0.dist-info/b", "kept/__pycache__/c.pyc", "kept/d.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(1 << 20))
    assert install.size_mb(tmp_path) == pytest.approx(1.0, abs=0.1)


def test_tests_that_run_side_by_side_take_as_long_as_the_longer_part(tmp_path: Path) -> None:
    for name, seconds in (("a", 60), ("b", 90)):
        (tmp_path / name).write_text(f'<testsuites><testsuite name="pytest" time="{seconds}"/></testsuites>')
    assert junit.minutes_of_tests([tmp_path / "a", tmp_path / "b"]) == 1.5
    (tmp_path / "c").write_text("<testsuites/>")
    with pytest.raises(ValueError, match="--junit-xml"):
        junit.minutes_of_tests([tmp_path / "c"])


SOURCE = '''
LIMIT = 5

def room(taken: int, most: int = 3, names: tuple[int, ...] = ()) -> bool:
    """Whether 1 < 2."""
    total: int = taken + 1
    if not names and total < most:
        return True
    return "a" + "b" in {
        total - 1
    }
'''
TESTS = """
from code_under_test import room

def test_room():
    assert room(0) and not room(2)
    assert not room(0, names=(1,))
"""


@pytest.fixture
def mutated(tmp_path: Path) -> tuple[Path, Area]:
    (tmp_path / "code_under_test.py").write_text(SOURCE)
    (tmp_path / "test_it.py").write_text(TESTS)
    return tmp_path, Area("room", ("code_under_test.py",), ("test_it.py",))


def test_mutants_are_one_line_changes_of_code_and_never_of_names_types_or_texts(
    mutated: tuple[Path, Area],
) -> None:
    made = list(mutation.mutants(*mutated))
    changes = {mutant.after.strip() for mutant in made}
    assert changes == {
        "total: int = (taken - 1)",
        "total: int = taken + (2)",
        "if (not names or total < most):",
        "if (names) and total < most:",
        "if not names and (total <= most):",
        "return (False)",
        "(total + 1)",
        "total - (2)",
    }
    for mutant in made:
        lines = SOURCE.splitlines()
        assert lines[mutant.line - 1] == mutant.before
        lines[mutant.line - 1] = mutant.after
        ast.parse("\n".join(lines))


def test_a_mutant_that_a_test_notices_is_found_and_another_survives_and_the_source_is_restored(
    mutated: tuple[Path, Area],
) -> None:
    folder, _ = mutated
    made = {mutant.after.strip(): mutant for mutant in mutation.mutants(*mutated)}
    chosen = [made["return (False)"], made["total - (2)"]]
    result = mutation.run(folder, chosen, lambda line: None)
    assert (result.found, result.survived) == ([chosen[0]], [chosen[1]])
    assert (folder / "code_under_test.py").read_text() == SOURCE


def test_tests_that_fail_without_a_change_say_nothing(mutated: tuple[Path, Area]) -> None:
    folder, area = mutated
    (folder / "test_it.py").write_text("def test_it():\n    assert False\n")
    with pytest.raises(mutation.BrokenBaseline, match="test_it"):
        mutation.run(folder, list(mutation.mutants(folder, area))[:1], lambda line: None)


def test_the_same_seed_chooses_the_same_mutants_from_every_area() -> None:
    first, again = mutation.choose(ROOT, 40, seed=1), mutation.choose(ROOT, 40, seed=1)
    assert first == again
    assert len(set(first)) == 40
    assert {mutant.area.name for mutant in first} == {area.name for area in mutation.AREAS}
    assert first != mutation.choose(ROOT, 40, seed=2)


def test_every_area_names_files_that_are_there() -> None:
    for area in mutation.AREAS:
        assert all(list(ROOT.glob(pattern)) for pattern in (*area.sources, *area.tests))
