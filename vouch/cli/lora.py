"""``vouch lora``: export and import LoRA files of other programs."""

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

app = typer.Typer(help="Export and import LoRA files of kohya, PEFT and diffusers.", no_args_is_help=True)


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
    version: Annotated[str, typer.Argument(help="LoRA version: name, digest or prefix.")],
    out: Annotated[Path, typer.Argument(help="File that ends with .safetensors, or folder.")],
    form: Annotated[str, typer.Option(help="Format of the file: kohya, peft or diffusers.")] = "kohya",
) -> None:
    """Write a LoRA version as a file of another program. Reads the state folder; needs no running system."""
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
    file: Annotated[Path, typer.Argument(help="LoRA file of kohya, PEFT or diffusers.", exists=True)],
    base: Annotated[str, typer.Option(help="Version that the LoRA was trained on: name, digest or prefix.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the new version. Default: the kind and a number.")
    ] = None,
) -> None:
    """Publish a LoRA file as a version on --base. Writes the state folder; needs no running system."""
    require("server")
    from vouch.models.lora_files import import_lora

    registry = _registry(session)
    parent = registry.get(base)
    if parent.format != "diffusers":
        raise InvalidInput(
            f"{parent.name} is not a whole model: name the model that the LoRA was trained on."
        )
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
