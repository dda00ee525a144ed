"""``vouch gc``: remove expired files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vouch.cli import render
from vouch.cli.local import local_catalog
from vouch.cli.session import Session, command

if TYPE_CHECKING:
    from vouch.storage.retention import Garbage

app = typer.Typer()


@command(
    app,
    "gc",
    """
    vouch gc
    vouch gc --apply
    VOUCH_RETENTION__IMAGES_DAYS=90 vouch gc --apply
    """,
)
def gc(
    session: Session,
    apply: Annotated[
        bool, typer.Option("--apply", help="Remove the files. Without it, only list them.")
    ] = False,
) -> None:
    """List the files that the retention settings let expire; with --apply remove them.

    These are unreferenced images, checkpoints and folders of ended runs, old logs, and metrics files of a stopped
    system. Ratings, rated images, images in a lineage and model versions are never removed. Generated images without
    any use expire only if VOUCH_RETENTION__IMAGES_DAYS is set, and only while the system is stopped.
    """
    with local_catalog(session) as (settings, catalog):
        from vouch.storage.retention import find_garbage, remove_garbage, totals

        garbage = find_garbage(settings, catalog)
        if apply:
            garbage = remove_garbage(settings, catalog, garbage)
        sums = totals(garbage)
    report = {"applied": apply, "totals": sums, "items": [_as_json(one) for one in garbage]}
    session.emit(report, lambda: _table(sums, apply))


def _as_json(one: Garbage) -> dict[str, Any]:
    return {"kind": one.kind, "path": str(one.path), "bytes": one.bytes}


def _table(sums: dict[str, dict[str, int]], applied: bool) -> Any:
    rows = [(kind, str(sum_["count"]), render.size(sum_["bytes"])) for kind, sum_ in sums.items()]
    done = "removed" if applied else "would remove (--apply)"
    return render.table((done, "#number", "#size"), rows, empty="Nothing has expired.")
