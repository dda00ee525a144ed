"""Optional dependencies: which extra of the distribution brings which package.

`pip install vouch` brings the client and the command line. Packages of the extras are imported where they are used, so
a command that misses one fails there, and `missing_extra` names what to install.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from vouch.errors import FailedPrecondition

Extra = Literal["formats", "server", "train"]

PACKAGES: dict[Extra, tuple[str, ...]] = {
    "formats": ("numpy", "PIL", "pyarrow"),
    "server": (
        "ray", "torch", "diffusers", "transformers", "tokenizers", "peft", "accelerate", "safetensors", "alembic",
        "sqlalchemy", "upath", "fastapi", "grpc_health", "grpc_reflection", "prometheus_client", "psutil", "scipy",
    ),
    "train": ("mlflow", "jinja2", "sklearn", "torchmetrics", "prdc"),
}  # fmt: skip
"""Top-level modules by extra. `server` and `train` share torch and the catalog; what both bring is listed once."""
NEEDED: dict[Extra, tuple[str, ...]] = {
    "formats": PACKAGES["formats"],
    "server": ("ray", "torch", "diffusers", "sqlalchemy", "fastapi"),
    "train": ("torch", "diffusers", "sqlalchemy", "mlflow", "sklearn", "torchmetrics"),
}
"""Modules that must be there before a command starts a process of the server or of a training."""


def missing_extra(error: ModuleNotFoundError) -> FailedPrecondition | None:
    """The error that names the extra for a module that is not installed; None for a module of no extra."""
    module = (error.name or "").partition(".")[0]
    extra = next((extra for extra, modules in PACKAGES.items() if module in modules), None)
    return None if extra is None else _missing(extra, module)


def require(extra: Extra) -> None:
    """Check that an extra is installed, without importing it.

    Raises:
        FailedPrecondition: it is not; names the module and the command that installs it.
    """
    for module in NEEDED[extra]:
        if not _is_there(module):
            raise _missing(extra, module)


def is_installed(extra: Extra) -> bool:
    """Whether an extra is installed, without importing it."""
    return all(map(_is_there, NEEDED[extra]))


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def _missing(extra: Extra, module: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"This command needs the Python package {module}, which is not installed. "
        f"Install it with: pip install 'vouch[{extra}]'",
        "MISSING_EXTRA",
    )
