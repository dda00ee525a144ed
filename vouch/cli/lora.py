"""``vouch lora``: adapters in and out, in the files of other programs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vouch.cli.session import Session, command
from vouch.errors import InvalidInput
from vouch.extras import require

if TYPE_CHECKING:
    from vouch.storage.registry import Registry

app = typer.Typer(help="LoRA files of other programs: kohya's, PEFT's, diffusers'.", no_args_is_help=True)


@command(
    app,
    "export",
    """
    vouch lora export generator-2 chests.safetensors --form kohya
    vouch lora export generator-2 chests/ --form peft
    """,
)
def export(
    session: Session,
    version: Annotated[str, typer.Argument(help="A LoRA version: name, digest or prefix.")],
    out: Annotated[Path, typer.Argument(help="A file that ends with .safetensors, or a folder.")],
    form: Annotated[str, typer.Option(help="kohya, peft or diffusers.")] = "kohya",
) -> None:
    """Write a LoRA version as other programs read it. Reads the state folder: the system need not run."""
    require("server")
    from vouch.models.lora_files import FORMS, export_lora

    if form not in FORMS:
        raise InvalidInput(f"--form {form}: choose one of {', '.join(FORMS)}.")
    written = export_lora(_registry(session).open(version), out, form)  # type: ignore[arg-type]
    session.emit({"path": str(written)}, lambda: f"wrote {written}")


@command(
    app,
    "import",
    """
    vouch lora import chests.safetensors --base generator-stable-diffusion
    """,
)
def import_(
    session: Session,
    file: Annotated[Path, typer.Argument(help="A LoRA of any of the three forms.", exists=True)],
    base: Annotated[str, typer.Option(help="The version that it was trained upon: name, digest or prefix.")],
    name: Annotated[str | None, typer.Option(help="Name of the new version. Default: numbered.")] = None,
) -> None:
    """Publish a LoRA of another program as a version upon BASE. Writes the state folder: the system need not run."""
    require("server")
    from vouch.models.lora_files import import_lora

    registry = _registry(session)
    parent = registry.get(base)
    if parent.format != "diffusers":
        raise InvalidInput(f"{parent.name} is no whole model: name the one that the LoRA was trained upon.")
    with tempfile.TemporaryDirectory() as scratch:
        import_lora(file, registry.open(parent.digest), Path(scratch))
        lineage = {"command": f"vouch lora import {file.name}", "base": parent.digest}
        version = registry.publish(
            scratch, kind="generator", format="lora", name=name, parent=parent.digest, lineage=lineage
        )
    session.emit(version, lambda: f"published {version.name} ({version.digest[:12]})")


def _registry(session: Session) -> Registry:
    from vouch.settings import load_settings
    from vouch.storage.catalog import Catalog
    from vouch.storage.registry import Registry

    settings = load_settings(state=session.state)
    catalog = Catalog(settings.resolved_catalog_url)
    return Registry(catalog, settings.folder.models, settings.models_url)
