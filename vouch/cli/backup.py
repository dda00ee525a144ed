"""``vouch backup``, ``restore`` and ``check``: back up, restore and verify the data of a system."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from vouch.cli import render
from vouch.cli.local import local_catalog, local_settings
from vouch.cli.session import Session, command
from vouch.errors import DataLoss
from vouch.extras import require

if TYPE_CHECKING:
    from vouch.storage.backup import Backup
    from vouch.storage.check import Findings

app = typer.Typer()

MOST_SHOWN = 20


@command(
    app,
    "backup",
    """
    vouch backup /backups/2026-11-27
    VOUCH_CATALOG_URL=postgresql://vouch@db/vouch vouch backup /backups/2026-11-27
    """,
)
def backup(
    session: Session,
    target: Annotated[Path, typer.Argument(help="New folder for the backup.", metavar="FOLDER")],
    leave_out_damaged: Annotated[
        bool,
        typer.Option(
            "--leave-out-damaged",
            help="Leave damaged images and versions out and list them, instead of failing.",
        ),
    ] = False,
) -> None:
    """Copy records, images, model versions and tokens into a new folder. The system may be running.

    The format is the same for SQLite and PostgreSQL, so that a backup of one can be restored into the other. Every file
    is verified while it is copied. The folder holds images and tokens; only its owner can read it.
    """
    settings = local_settings(session)
    from vouch.storage.backup import make_backup

    made = make_backup(settings, target, leave_out_damaged=leave_out_damaged)
    session.emit(_as_json(made), lambda: _summary("Backed up", made, target))


@command(
    app,
    "restore",
    """
    vouch restore /backups/2026-11-27 --state /data/vouch
    vouch restore /backups/2026-11-27 --dry-run
    """,
)
def restore(
    session: Session,
    source: Annotated[Path, typer.Argument(help="Folder that `vouch backup` made.", metavar="FOLDER")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Verify the backup and the target, and restore nothing.")
    ] = False,
) -> None:
    """Restore a backup into an empty state folder and catalog, then verify everything.

    Existing data are never overwritten. A backup of an older version of vouch is migrated.
    """
    require("server")
    from vouch.settings import load_settings
    from vouch.storage import backup as storage

    settings = load_settings(state=session.state)
    if dry_run:
        backup = storage.read_backup(source)
        storage.check_empty(settings)
        session.emit(_as_json(backup), lambda: _summary("Would restore", backup, source))
        return
    restored = storage.restore(settings, source)
    _refuse(_run_check(session, quick=False), but=len(restored.left_out))
    session.emit(_as_json(restored), lambda: _summary("Restored", restored, source))


@command(
    app,
    "check",
    """
    vouch check
    vouch check --quick --json
    """,
)
def check(
    session: Session,
    quick: Annotated[
        bool, typer.Option("--quick", help="Check existence only, without reading the images.")
    ] = False,
) -> None:
    """Verify every record, image, model file and audit entry. Exits with an error if something is damaged.

    It only reads, and can be run beside a running system.
    """
    findings = _run_check(session, quick)
    if session.as_json:
        session.emit(findings, lambda: None)
    _refuse(findings)
    if not session.as_json:
        session.emit(findings, lambda: _verified(findings))


def _run_check(session: Session, quick: bool) -> Findings:
    with local_catalog(session) as (settings, catalog):
        from vouch.storage.audit_head import noted_head
        from vouch.storage.blobs import BlobStore
        from vouch.storage.check import check as look
        from vouch.storage.registry import Registry

        registry = Registry(catalog, settings.folder.models, settings.models_url)
        blobs, head = BlobStore(settings.resolved_blobs_url), noted_head(settings.folder)
        return look(catalog, blobs, registry, quick=quick, audit_head=head)


def _refuse(findings: Findings, but: int = 0) -> None:
    """but: number of problems known from the backup."""
    if len(findings.problems) > but:
        shown = "\n".join(f"  {problem}" for problem in findings.problems[:MOST_SHOWN])
        raise DataLoss(f"{len(findings.problems)} things are damaged or missing:\n{shown}", "CHECK_FAILED")


def _verified(findings: Findings) -> Text:
    return Text(
        f"{findings.images} images, {findings.ratings} ratings, {findings.versions} versions and "
        f"{findings.audit_entries} audit entries verified.",
        style="green",
    )


def _as_json(made: Backup) -> dict[str, object]:
    return {
        "digest": made.digest,
        "created_at": made.created_at,
        "form": made.form,
        "records": made.records,
        "images": len(made.images),
        "versions": len(made.versions),
        "left_out": list(made.left_out),
    }


def _summary(what: str, made: Backup, folder: Path) -> Text:
    text = Text(
        f"{what} {made.records} records, {len(made.images)} images and {len(made.versions)} versions ({folder}, "
        f"{render.digest(made.digest)})."
    )
    for line in made.left_out:
        text.append(f"\nleft out: {line}", style="red")
    return text
