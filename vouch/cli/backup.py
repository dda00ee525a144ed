"""``vouch backup``, ``restore``, ``check``: what a system knows, kept elsewhere, brought back, looked at."""

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
            "--leave-out-damaged", help="Go on where an image or a version is damaged, and say which."
        ),
    ] = False,
) -> None:
    """Copy records, images, model versions and tokens into a new folder. The system may run.

    The form is the same for SQLite and PostgreSQL, so that what one kept can be restored into the other. Every file is
    verified on its way. The folder is readable by its owner alone: it holds images and tokens.
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
        bool, typer.Option("--dry-run", help="Only verify the backup and the target.")
    ] = False,
) -> None:
    """Bring a backup into a state folder and a catalog that hold nothing yet, then check everything.

    Nothing is ever restored over what is there. A backup of an older vouch is brought to the newest form.
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
    _refuse(_look(session, quick=False), but=len(restored.left_out))
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
        bool, typer.Option("--quick", help="Look whether images are there, without reading them.")
    ] = False,
) -> None:
    """Verify every record, image, model file and audit entry. Exits with an error when something is damaged.

    Reads only; a running system is not disturbed.
    """
    findings = _look(session, quick)
    if session.as_json:
        session.emit(findings, lambda: None)
    _refuse(findings)
    if not session.as_json:
        session.emit(findings, lambda: _whole(findings))


def _look(session: Session, quick: bool) -> Findings:
    with local_catalog(session) as (settings, catalog):
        from vouch.storage.blobs import BlobStore
        from vouch.storage.check import check as look
        from vouch.storage.registry import Registry

        registry = Registry(catalog, settings.folder.models, settings.models_url)
        return look(catalog, BlobStore(settings.resolved_blobs_url), registry, quick=quick)


def _refuse(findings: Findings, but: int = 0) -> None:
    """but: how many problems are known from the backup."""
    if len(findings.problems) > but:
        shown = "\n".join(f"  {problem}" for problem in findings.problems[:MOST_SHOWN])
        raise DataLoss(f"{len(findings.problems)} things are damaged or missing:\n{shown}", "CHECK_FAILED")


def _whole(findings: Findings) -> Text:
    return Text(
        f"{findings.images} images, {findings.ratings} ratings, {findings.versions} versions and "
        f"{findings.audit_entries} audit entries are there, each as it was written.",
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
