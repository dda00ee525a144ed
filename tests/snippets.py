"""Commands and code of the documentation, as the tests run them.

A fenced block of `bash` or `python` in a tutorial is run. A comment in the line before it says what a reader knows:

    <!-- not run: REASON -->            shown only
    <!-- exit: 2 -->                    the command ends with this code
    <!-- input: yyyyyyyynnnnnnnn 10 --> keys that are typed, ten times
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"(?:<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
COMMAND = re.compile(r"^(?:\.venv/bin/|[A-Z_]+=\S+ )*vouch (?P<rest>.*)$")


@dataclass(frozen=True)
class Snippet:
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str
    note: str = ""

    @property
    def place(self) -> str:
        """Page and line, as an editor opens them."""
        return f"{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        return self.language in ("bash", "python") and not self.note.startswith("not run")

    @property
    def exit_code(self) -> int:
        return int(self.note.removeprefix("exit: ")) if self.note.startswith("exit: ") else 0

    @property
    def typed(self) -> str:
        if not self.note.startswith("input: "):
            return ""
        keys, times = self.note.removeprefix("input: ").split()
        return keys * int(times)


def snippets(path: Path) -> list[Snippet]:
    """Every fenced block of a Markdown file, in order."""
    text = path.read_text("utf-8")
    page = path.relative_to(ROOT).as_posix()
    return [
        Snippet(
            page,
            text[: found.start("text")].count("\n"),
            found["language"],
            found["text"],
            found["note"] or "",
        )
        for found in BLOCK.finditer(text)
    ]


def written_pages() -> list[Path]:
    """Every page that people write."""
    beside = [
        ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "vouch/starter/README.md")
    ]
    return [*beside, *sorted((ROOT / "docs").rglob("*.md"))]


def commands(path: Path) -> Iterator[tuple[str, str]]:
    """(place, words after `vouch`) of every command in the code blocks of a page, and in its inline code."""
    text = path.read_text("utf-8")
    for snippet in snippets(path):
        for number, line in enumerate(re.sub(r"\\\n\s*", " ", snippet.text).splitlines()):
            if found := COMMAND.match(line.strip()):
                yield f"{snippet.page}:{snippet.line + number + 1}", found["rest"].split("  #")[0]
    page = path.relative_to(ROOT).as_posix()
    for found in re.finditer(r"`(?:[A-Z_]+=\S+ )*vouch ([^`\n]+)`", BLOCK.sub("", text)):
        yield page, found[1]
