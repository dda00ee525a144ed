"""``vouch gc``: remove what nobody needs any more."""

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
    apply: Annotated[bool, typer.Option("--apply", help="Remove it. Without this, only show it.")] = False,
) -> None:
    """Show what may be removed by the retention settings; with --apply remove it.

    Images that nothing names, checkpoints and folders of runs that ended, old logs, metrics files of a system that is
    down. Never a rating, a rated image, one that a lineage names, or a model version. Images that were drawn and never
    used go only where VOUCH_RETENTION__IMAGES_DAYS says so, and while the system is down.
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
    return render.table((done, "#number", "#size"), rows, empty="Nothing may be removed.")
