"""Lays out everything that the site builder reads: hand-written pages, generated ones, and those beside docs/."""

from __future__ import annotations

import posixpath
import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from scripts.docs import pages

ROOT = Path(__file__).parents[2]
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "CHANGELOG.md": "project/changelog.md",
    "vouch/starter/README.md": "project/starter-model.md",
}
"""Pages of the site that are written elsewhere in the repository."""
PLOTS = "benchmarks/reports/"
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def stage(out: Path) -> None:
    """Writes the source of the site into `out`, which is emptied first."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(ROOT / "docs", out)
    for path in (ROOT / "docs").rglob("*.md"):
        place = path.relative_to(ROOT / "docs").as_posix()
        write(out / place, fitted(path.read_text("utf-8"), f"docs/{place}", place))
    for source, place in OUTSIDE.items():
        write(out / place, fitted((ROOT / source).read_text("utf-8"), source, place))
    for plot in (ROOT / PLOTS).glob("*.svg"):
        shutil.copy(plot, out / "results" / plot.name)
    for place, text in pages.reference().items():
        write(out / place, text)


def configure(out: Path) -> None:
    """Writes `mkdocs.yml` beside the pages in `out`: the project's own, with every folder of its menu listed."""
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    told = {
        "INHERIT": str(ROOT / "mkdocs.yml"),
        "docs_dir": out.name,
        "site_dir": "site",
        "nav": _listed(nav, out),
    }
    write(out.parent / "mkdocs.yml", yaml.safe_dump(told, allow_unicode=True, sort_keys=False))


def _listed(entry: Any, out: Path) -> Any:
    if isinstance(entry, list):
        return [_listed(one, out) for one in entry]
    if isinstance(entry, dict):
        return {title: _listed(one, out) for title, one in entry.items()}
    if not entry.endswith("/"):
        return entry
    pages = sorted(path.relative_to(out).as_posix() for path in (out / entry).glob("*.md"))
    return sorted(pages, key=lambda page: not page.endswith("index.md"))


def write(path: Path, text: str) -> None:
    """Makes the folder where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def fitted(markdown: str, source: str, place: str) -> str:
    """The page with its links, written for the repository, made to fit the site; code blocks stay.

    source: the page's path in the repository. place: its path in the site.
    """
    parts, end = [], 0
    for block in FENCE.finditer(markdown):
        parts += [_links(markdown[end : block.start()], source, place), block[0]]
        end = block.end()
    return "".join([*parts, _links(markdown[end:], source, place)])


def _links(text: str, source: str, place: str) -> str:
    return LINK.sub(lambda match: _link(match, source, place), text)


def _link(match: re.Match[str], source: str, place: str) -> str:
    text, target = match.groups()
    if re.match(r"[a-z]+:|#", target):
        return match[0]
    path, _, anchor = target.partition("#")
    meant = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if meant in OUTSIDE:
        inside = OUTSIDE[meant]
    elif meant.startswith(PLOTS) and meant.endswith(".svg"):
        inside = f"results/{posixpath.basename(meant)}"
    elif meant.startswith("docs/"):
        inside = meant.removeprefix("docs/")
    else:
        return _name(text, meant)
    relative = posixpath.relpath(inside, posixpath.dirname(place) or ".")
    return f"{text}({relative}{'#' + anchor if anchor else ''})"


def _name(text: str, meant: str) -> str:
    """A file of the repository that is no page of the site: its name, once it is seen to be there."""
    if not (ROOT / meant).exists():
        raise FileNotFoundError(f"a link names {meant}, which is not in the repository")
    label = text.strip("[]")
    return label if label.startswith("`") else f"{label} (`{meant}`)"
