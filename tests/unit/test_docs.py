"""What the documentation says is there: links, commands with their options, figures, generated pages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.docs import cli, grpc, metrics, pages, python, results, settings, stage
from tests.snippets import ROOT, commands, snippets, written_pages
from vouch import recipes

MOST_README_LINES = 120
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+?)(?: \{ ?#(?P<anchor>[\w-]+) ?\})?$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SOURCE = re.compile(r"`((?:vouch|services|training|tests|benchmarks|protos|scripts|docs)/[\w./*-]*)`")
PLACEHOLDER = re.compile(r"^[A-Z][A-Z.]*$")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of the site, laid out."""
    folder = tmp_path_factory.mktemp("site") / "docs"
    stage.stage(folder)
    return folder


def test_every_link_between_pages_leads_somewhere(site: Path) -> None:
    dead = [
        f"{page.relative_to(site)}: {target}" for page in site.rglob("*.md") for target in _dead_links(page)
    ]
    assert dead == []


def test_every_page_is_in_the_menu(site: Path) -> None:
    stage.configure(site)
    menu = yaml.safe_load((site.parent / "mkdocs.yml").read_text("utf-8"))["nav"]
    pages_of_the_site = {path.relative_to(site).as_posix() for path in site.rglob("*.md")}
    assert pages_of_the_site - _entries(menu) == set()


def test_links_lead_somewhere_in_the_repository_too() -> None:
    dead = [f"{page.relative_to(ROOT)}: {target}" for page in written_pages() for target in _dead_links(page)]
    assert dead == []


def test_a_dead_link_and_a_dead_anchor_are_found(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# B\n\n## Some words: here\n")
    (tmp_path / "a.md").write_text("[1](b.md) [2](b.md#some-words-here) [3](c.md) [4](b.md#none)\n")
    assert _dead_links(tmp_path / "a.md") == ["c.md", "b.md#none"]


def test_every_command_that_is_named_exists_with_its_options() -> None:
    wrong = [
        f"{place}: vouch {words}"
        for page in written_pages()
        for place, words in commands(page)
        if not _exists(words)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "words",
    ["draw neutrophil", "generate neutrophil --amount 4", "train align --no-such-thing 1", "review next"],
)
def test_a_command_that_does_not_exist_is_found(words: str) -> None:
    assert not _exists(words)


def test_files_that_are_named_are_there() -> None:
    named = {
        (page.relative_to(ROOT).as_posix(), found)
        for page in written_pages()
        for found in re.findall(SOURCE, page.read_text("utf-8"))
        if not re.search(r"[A-Z]{3}", found.removesuffix("README.md"))  # NAME.py stands for any
    }
    assert named
    assert {one for one in named if not any(ROOT.glob(one[1]))} == set()


def test_snippets_in_python_are_python() -> None:
    code = [one for page in written_pages() for one in snippets(page) if one.language == "python"]
    assert code
    for one in code:
        compile(one.text, one.place, "exec")


def test_the_example_of_the_fake_server_is_a_test_that_passes() -> None:
    (example,) = snippets(ROOT / "docs" / "how-to" / "test-your-code.md")
    names: dict[str, Callable[[], None]] = {}
    exec(compile(example.text, example.place, "exec"), names)
    names["test_four_cells_are_drawn"]()


def test_environment_variables_that_are_named_are_settings() -> None:
    groups = {
        f"{name}.{inner}"
        for name, field in settings.Settings.model_fields.items()
        for inner in getattr(field.annotation, "model_fields", ())
    }
    known = {
        settings.variable(name) for name in (*settings.Settings.model_fields, *groups)
    } | settings.OTHER_VARIABLES
    named = {
        (page.name, variable)
        for page in written_pages()
        for variable in re.findall(r"\bVOUCH_[A-Z_]+[A-Z]\b", page.read_text("utf-8"))
    }
    assert named
    assert {one for one in named if one[1] not in known} == set()


def test_results_are_those_of_the_reports() -> None:
    stale = [path for path, text in results.pages().items() if _text(ROOT / "docs" / path) != text]
    kept = {path.name for path in (ROOT / "docs" / "results").glob("*.md")}
    assert stale == [], "`python -m scripts.docs results` makes them anew"
    assert kept == {Path(path).name for path in results.pages()}


def test_the_figures_of_the_readme_are_those_of_the_reports() -> None:
    readme = _text(ROOT / "README.md")
    assert results.BEGIN in readme
    assert results.with_headlines(readme) == readme, "`python -m scripts.docs results` makes them anew"


def test_a_missed_figure_is_marked_and_listed() -> None:
    missed = [(one.name, name) for one in results.reports() for name in one.missed]
    overview = results.pages()["results/index.md"]
    assert missed
    for report, name in missed:
        assert f"| [{report}]({report}.md) | `{name}` |" in overview
        row = next(
            line for line in results.pages()[f"results/{report}.md"].splitlines() if f"| `{name}` |" in line
        )
        assert "**missed**" in row


def test_the_readme_is_short() -> None:
    assert len(_text(ROOT / "README.md").splitlines()) <= MOST_README_LINES


def test_the_reference_names_every_command_and_option() -> None:
    page = cli.page()
    for path, command in cli.commands():
        section = page.partition(f"## {path}\n")[2].partition("\n## ")[0]
        assert section, path
        assert all(f"`{one.opts[0]}`" in section for one in cli.options(command) if not cli.is_shared(one)), (
            path
        )


def test_the_reference_names_every_rpc_and_field() -> None:
    page = grpc.page()
    for file in grpc.descriptors():
        for service in file.service:
            assert all(f"### {method.name}\n" in page for method in service.method)
        for message in file.message_type:
            section = page.partition(f"### {message.name} {{")[2].partition("\n### ")[0]
            assert all(f"| `{field.name}` |" in section for field in message.field), message.name


def test_the_reference_names_every_setting_of_a_system_and_of_a_run() -> None:
    page, training = settings.page(), settings.training_page()
    assert "| `generation.step_rows` | int, ≥ 1, ≤ 1,024 | `16` |" in page
    for kind in recipes.RECIPES:
        section = training.partition(f"## {kind}\n")[2].partition("\n## ")[0]
        assert "| `seed` |" in section, kind


def test_the_reference_names_every_figure_on_the_metrics_page() -> None:
    from prometheus_client import REGISTRY

    from services import metrics as source

    names = {f"{one.name}" for one in REGISTRY.collect() if one.name.startswith("vouch_")}
    assert source.IMAGES.describe()
    assert names
    assert {name for name in names if f"`{name}" not in metrics.page()} == set()


def test_the_reference_has_a_page_for_every_room() -> None:
    rooms = {path.parent.name for path in (ROOT / "vouch").glob("*/__init__.py")} - python.HIDDEN
    assert {f"reference/python/{room}.md" for room in rooms} <= set(pages.reference())


@pytest.mark.parametrize("package", ["vouch", "services", "training"])
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.is_file() else ""


def _entries(menu: Any) -> set[str]:
    """The paths in a menu of mkdocs, however deep."""
    if isinstance(menu, str):
        return {menu}
    inner = menu.values() if isinstance(menu, dict) else menu
    return {path for entry in inner for path in _entries(entry)}


def _dead_links(page: Path) -> list[str]:
    text = FENCE.sub("", page.read_text("utf-8"))
    return [
        target
        for target in LINK.findall(text)
        if not re.match(r"[a-z]+:", target) and not _leads(page, target)
    ]


def _leads(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    meant = page.parent / path if path else page
    if not meant.exists():
        return False
    return not anchor or anchor in _anchors(meant)


def _anchors(page: Path) -> set[str]:
    from markdown.extensions.toc import slugify

    text = FENCE.sub("", page.read_text("utf-8"))
    return {
        found["anchor"] or slugify(re.sub(r"[`*]", "", found[1]), "-") for found in HEADING.finditer(text)
    }


def _exists(words: str) -> bool:
    """Whether the words after `vouch` are a command, or a group of commands, with options that it has."""
    parts = [part for part in shlex.split(words.split(" | ")[0].rstrip(".")) if part]
    known = dict(cli.commands())
    path = "vouch"
    while parts and any(
        one.startswith(f"{path} {parts[0]}") for one in known if _is_below(one, f"{path} {parts[0]}")
    ):
        path += f" {parts.pop(0)}"
    if path == "vouch":
        return not parts or parts[0].startswith("-") or PLACEHOLDER.match(parts[0]) is not None
    given = {part.partition("=")[0] for part in parts if part.startswith("--")}
    if path not in known:  # a group such as `vouch rollout`
        return all(part == "--help" or PLACEHOLDER.match(part) for part in parts)
    return given <= _options(path, known[path])


def _is_below(command: str, path: str) -> bool:
    return command == path or command.startswith(f"{path} ")


def _options(path: str, command: object) -> set[str]:
    names = {name for one in cli.options(command) for name in (*one.opts, *one.secondary_opts)} | {"--help"}
    own = {"vouch concept add": "concept", "vouch adapt": "adapt"}
    kind = own.get(path, path.removeprefix("vouch train "))
    if kind in recipes.RECIPES:  # settings of a run are no options of Typer's
        fields = {field.replace("_", "-") for field in settings.names(kind)}
        names |= {f"--{field}" for field in fields} | {f"--no-{field}" for field in fields}
    return names
