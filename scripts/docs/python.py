"""The Python reference: one page for each room of `vouch/`, whose text mkdocstrings reads from the docstrings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
HIDDEN = frozenset({"pb", "starter", "cli", "migrations", "__main__"})
"""Generated code, data, the commands (a page of their own) and what only Alembic reads."""
INDEX = """# Python

`vouch.connect()` returns a client; [vouch](vouch.md) and [vouch.client](client.md) are all that most programs need.
The other rooms are what server and training stand on. Packages `services` and `training` are programs and have no
stable Python interface.
"""


def pages() -> dict[str, str]:
    """Markdown with the directives of mkdocstrings."""
    made = {
        "reference/python/index.md": _index(),
        "reference/python/vouch.md": _page("vouch", single_modules()),
    }
    for room in rooms():
        made[f"reference/python/{room}.md"] = _page(f"vouch.{room}", modules(room))
    return made


def rooms() -> list[str]:
    """The packages of `vouch/` that hold public code."""
    return sorted(
        one.parent.name for one in (ROOT / "vouch").glob("*/__init__.py") if one.parent.name not in HIDDEN
    )


def modules(room: str) -> list[str]:
    """The modules of a room by import path, the package itself first."""
    folder = ROOT / "vouch" / room
    return [_dotted(path) for path in sorted(folder.rglob("*.py")) if not HIDDEN & {path.stem, *path.parts}]


def single_modules() -> list[str]:
    """`vouch` itself and the modules beside its rooms."""
    paths = sorted((ROOT / "vouch").glob("*.py"))
    return [
        _dotted(path)
        for path in paths
        if (path.stem not in HIDDEN and not path.stem.startswith("_")) or path.stem == "__init__"
    ]


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _page(title: str, names: list[str]) -> str:
    return "\n".join([f"# {title}\n", *(f"::: {name}\n" for name in names)])


def _index() -> str:
    rows = "\n".join(_entries())
    return f"{INDEX}\n| room | holds |\n| --- | --- |\n{rows}\n"


def _entries() -> Iterator[str]:
    for name in ("vouch", *rooms()):
        source = ROOT / "vouch" / ("" if name == "vouch" else name) / "__init__.py"
        yield f"| [{name if name == 'vouch' else f'vouch.{name}'}]({name}.md) | {_first_line(source)} |"


def _first_line(source: Path) -> str:
    import ast

    text = ast.get_docstring(ast.parse(source.read_text("utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")
