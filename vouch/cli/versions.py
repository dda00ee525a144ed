"""``vouch versions`` and ``vouch lineage``: model versions and their ancestry."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text
from rich.tree import Tree

from vouch.cli import render
from vouch.cli.session import Session, command

if TYPE_CHECKING:
    from vouch.types.version import VersionDetails

app = typer.Typer()


@command(
    app,
    "versions",
    """
    vouch versions
    vouch versions --kind generator
    vouch versions generator-2 --json
    """,
)
def versions(
    session: Session,
    version: Annotated[
        str | None, typer.Argument(help="Version to show in full: name, digest or prefix.")
    ] = None,
    kind: Annotated[str, typer.Option(help="generator, reward, rater or judge. Default: every kind.")] = "",
) -> None:
    """List model versions, newest first, or show one with its files."""
    with session.connect() as client:
        if version is not None:
            one = client.get_version(version)
            session.emit(one, lambda: _one(one))
            return
        records = list(client.list_versions(kind=kind))
    rows = [
        (
            v.name,
            v.kind,
            v.format,
            render.digest(v.digest),
            v.parent_name,
            render.size(v.size_bytes),
            render.ago(v.created_at),
        )
        for v in records
    ]
    columns = ("name", "kind", "format", "digest", "parent", "#size", "published")
    session.emit(
        {"versions": records}, lambda: render.table(columns, rows, empty="No version has been published.")
    )


def _one(version: VersionDetails) -> Any:
    files = [(f.path, render.size(f.size_bytes), render.digest(f.sha256)) for f in version.files]
    return render.facts(
        {
            "name": version.name,
            "kind": f"{version.kind} ({version.format})",
            "digest": version.digest,
            "parent": version.parent_name,
            "published": version.created_at,
            **_evidence(version.evidence),
            **_rows(version),
            "files": render.table(("path", "#size", "sha256"), files),
        }
    )


def _evidence(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The last evaluation, in a few lines."""
    if not evaluation:
        return {}
    cells: dict[str, Any] = {
        "evaluated": f"{evaluation.get('measured_at', '')}: {evaluation.get('report', '')}"
    }
    gate = evaluation.get("gate")
    if gate:
        cells[f"against {evaluation.get('against_name')}"] = "\n".join([gate["verdict"], *gate["reasons"]])
    rows = [(name, *_percent(figure)) for name, figure in sorted(dict(evaluation.get("figures", {})).items())]
    return cells | {"evidence": render.table(("figure", "#value", "95 % interval"), rows)}


def _percent(figure: Mapping[str, Any]) -> tuple[str, str]:
    value, low, high = (figure.get(part) for part in ("value", "low", "high"))
    interval = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return "" if value is None else f"{value:.3f}", interval


def _rows(version: VersionDetails) -> dict[str, Any]:
    """The meaning of its scores, and its figures with their intervals if known."""
    if version.lineage is None:
        return {}
    scale, metrics = version.lineage.notes.get("scale") or {}, version.lineage.metrics
    rows = [
        (name, f"{value:.4g}", _interval(metrics, name))
        for name, value in sorted(metrics.items())
        if not name.endswith(("_low", "_high"))
    ]
    figures = {"figures": render.table(("figure", "#value", "95 %"), rows)} if rows else {}
    return {"score": scale.get("meaning", ""), **figures}


def _interval(metrics: Mapping[str, float], name: str) -> str:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return "" if low is None or high is None else f"{low:.3g} to {high:.3g}"


@command(
    app,
    "lineage",
    """
    vouch lineage generator-2
    vouch lineage generator-2 --json | jq '.versions[0].lineage.rating_ids'
    """,
)
def lineage(
    session: Session,
    version: Annotated[str, typer.Argument(help="Name, digest, or digest prefix of 8 characters or more.")],
) -> None:
    """Show how a version and its ancestors were made: ratings, data, command and figures."""
    with session.connect() as client:
        chain = client.get_lineage(version)
    session.emit({"versions": chain}, lambda: _tree(chain))


def _tree(chain: Any) -> Tree:
    root = branch = _branch(chain[0], None)
    for ancestor in chain[1:]:
        branch = _branch(ancestor, branch.add(Text("made from", style="dim")))
    return root


def _branch(version: VersionDetails, parent: Tree | None) -> Tree:
    title = Text.assemble(
        (version.name, "bold"), f"  {version.kind}, {version.format}  ", (version.digest[:12], "cyan")
    )
    branch = parent.add(title) if parent else Tree(title)
    branch.add(f"published {version.created_at:%Y-%m-%d %H:%M} UTC" if version.created_at else "published")
    made = version.lineage
    if made is None:
        return branch
    if made.command:
        branch.add(Text.assemble("command  ", (made.command, "green")))
    if made.run_id:
        branch.add(f"run      {made.run_id}")
    if made.rating_count:
        branch.add(f"ratings  {made.rating_count}{_digest_of(made.rating_ids)}")
    for role, digest in made.data.items():
        branch.add(Text(f"data     {role} {render.digest(digest)}"))
    if made.metrics:
        figures = branch.add("figures")
        for name, value in sorted(made.metrics.items()):
            figures.add(f"{name} {value:.4g}")
    return branch


def _digest_of(rating_ids: tuple[str, ...]) -> str:
    """One digest of the set of ratings, to compare two versions."""
    if not rating_ids:
        return ""
    return ", digest " + hashlib.sha256("\n".join(sorted(rating_ids)).encode()).hexdigest()[:12]
