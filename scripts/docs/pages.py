"""Every generated page of the reference by its path below docs/."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from scripts.docs import cli, grpc, metrics, python, settings

NOTE = "<!-- Generated from the code by scripts/docs. Do not edit. -->\n\n"
SINGLE: Mapping[str, Callable[[], str]] = {
    "reference/cli.md": cli.page,
    "reference/grpc.md": grpc.page,
    "reference/settings.md": settings.page,
    "reference/training.md": settings.training_page,
    "reference/metrics.md": metrics.page,
}


def reference() -> dict[str, str]:
    """Markdown of the whole reference."""
    pages = {path: make() for path, make in SINGLE.items()}
    pages.update(python.pages())
    return {path: NOTE + text for path, text in pages.items()}
