"""Settings of a training run on the command line: parsing and help."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from vouch import recipes
from vouch.cli import render
from vouch.errors import InvalidInput

WIDEST, MARGIN = 100, 3
"""Columns of the help: the maximum, and the margin left free in a narrower terminal."""


def parse_settings(arguments: list[str]) -> dict[str, Any]:
    """``--steps 500 --method nft --nft.beta=0.1 --no-symmetric --set lr=1e-4`` as ``{"steps": 500, …}``.

    Raises:
        InvalidInput: an argument of any other form.
    """
    settings: dict[str, Any] = {}
    left = list(arguments)
    while left:
        name, equals, value = left.pop(0).partition("=")
        if not name.startswith("--") or len(name) < 3:
            raise InvalidInput(f"{name!r} is not a setting. Settings are given as --name value.")
        key = name[2:].replace("-", "_")
        if key == "set":
            settings |= recipes.parse_assignments([value if equals else left.pop(0) if left else ""])
        elif not equals and (not left or left[0].startswith("--")):
            negated = key.startswith("no_")
            settings[key[3:] if negated else key] = not negated
        else:
            settings[key] = recipes.parse_value(value if equals else left.pop(0))
    return settings


def settings_help(kind: str) -> str:
    """Tables for --help: name, default and description; one table per group."""
    fields = recipes.setting_fields(recipes.RECIPES[kind])
    common = {name: field for name, field in fields.items() if "." not in name and field.description}
    parts = [_table("Settings of the run, as --NAME VALUE or --set NAME=VALUE:", common)]
    for group, about in recipes.groups(kind).items():
        own = {name: field for name, field in fields.items() if name.startswith(f"{group}.")}
        parts.append(_table(f"{group}: {about}", own))
    if kind != "pretrain":
        parts.append(_table("Inputs:", recipes.Asked.model_fields))
    return "".join(parts)


def _table(heading: str, fields: Mapping[str, FieldInfo]) -> str:
    width = max(40, min(WIDEST, shutil.get_terminal_size().columns) - MARGIN)
    rows = [
        (f"--{name.replace('_', '-')}", _default(field), field.description or "")
        for name, field in fields.items()
    ]
    names, defaults = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines = textwrap.wrap(heading, width, subsequent_indent="  ")
    for name, default, about in rows:
        start = f"  {name:<{names}}  {default:<{defaults}}  "
        lines += textwrap.wrap(about, width, initial_indent=start, subsequent_indent=" " * len(start))
    return "\n\n\b\n" + render.escape("\n".join(lines))


def _default(field: FieldInfo) -> str:
    """The default as it is typed; "-" without one: the description then says what applies."""
    if field.default is PydanticUndefined:
        return "required" if field.is_required() else "-"
    if field.default is None or field.default == "":
        return "-"
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return field.default if isinstance(field.default, str) else json.dumps(field.default)
