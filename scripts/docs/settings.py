"""Settings of a system and of a training run, from the pydantic models and the docstrings of their fields."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import griffe
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from scripts.docs.markdown import code, table
from vouch import recipes
from vouch.settings import OTHER_VARIABLES, PREFIX, Settings

COLUMNS = ("setting", "type", "default", "meaning")
HEAD = """# Settings

A setting is read, strongest first, from the command's own option, from an environment variable, and from the
JSON file that `--settings` or `VOUCH_SETTINGS` names. An unknown name is refused in each of the three. The
environment variable of `generation.step_rows` is `VOUCH_GENERATION__STEP_ROWS`: two underscores between group
and name.
"""
TRAINING_HEAD = """# Training settings

`vouch train KIND --name value` sets them. An unknown name, or a value out of its range, is refused before the
run is queued.
"""


def page() -> str:
    """The tree of `vouch.settings.Settings`."""
    single = {name: field for name, field in Settings.model_fields.items() if not _group(field)}
    parts = [
        HEAD,
        "## Top level\n",
        table(COLUMNS, (_row(Settings, name, field) for name, field in single.items())),
    ]
    for name, field in Settings.model_fields.items():
        group = _group(field)
        if group is not None:
            parts += [
                f"## {name}\n",
                _first_paragraph(group) + "\n",
                table(COLUMNS, _rows(group, f"{name}.")),
            ]
    others = ", ".join(code(name) for name in sorted(OTHER_VARIABLES))
    parts.append(
        f"## Other environment variables\n\nRead by the client, the commands and the jobs: {others}.\n"
    )
    return "\n".join(parts)


def training_page() -> str:
    """The recipes of every kind of run."""
    parts = [TRAINING_HEAD]
    for kind, model in kinds().items():
        parts += [f"## {kind}\n", _first_paragraph(model) + "\n", table(COLUMNS, _rows(model))]
    parts += ["## Of every kind but pretrain\n", table(COLUMNS, _rows(recipes.Asked))]
    return "\n".join(parts)


def kinds() -> dict[str, type[BaseModel]]:
    """Recipe of every kind of training run, by the kind's name."""
    return dict(recipes.RECIPES)


def names(kind: str) -> set[str]:
    """Every setting of a kind of run; those in a group with a dot."""
    return {row[0].strip("`") for model in (kinds()[kind], recipes.Asked) for row in _rows(model)}


def _rows(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        group = _group(field)
        if group is None or "domain" in name:
            yield _row(model, name, field, prefix)
        else:
            yield from _rows(group, f"{prefix}{name}.")


def _row(model: type[BaseModel], name: str, field: FieldInfo, prefix: str = "") -> tuple[str, str, str, str]:
    return code(prefix + name), _type(field), _default(field), field.description or _docstring(model, name)


def _group(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _type(field: FieldInfo) -> str:
    limits = [_limit(one) for one in field.metadata]
    return ", ".join(filter(None, (_name(field.annotation), *limits)))


def _name(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " or ".join(code(str(one)) for one in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_name(one) for one in inner if one is not type(None))
    if origin is typing.Annotated:
        return _name(inner[0])
    if origin is tuple:
        return f"list of {_name(inner[0])}"
    return getattr(kind, "__name__", str(kind)).lower()


def _limit(constraint: Any) -> str:
    signs = {"ge": "≥", "gt": "&gt;", "le": "≤", "lt": "&lt;"}
    for name, sign in signs.items():
        value = getattr(constraint, name, None)
        if value is not None:
            return f"{sign} {value:,}" if isinstance(value, int) else f"{sign} {value:g}"
    return ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined:
        return ""
    value = field.default
    return "" if value is None else code(re.sub(r"^\((.*?),?\)$", r"[\1]", str(value)) or '""')


def _first_paragraph(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


@lru_cache
def _module(name: str) -> griffe.Object | griffe.Alias:
    return griffe.load(name)


def _docstring(model: type[BaseModel], name: str) -> str:
    """The text below the field, in the class that declares it."""
    for owner in model.__mro__:
        if not owner.__module__.startswith("vouch"):
            continue
        source = _module(owner.__module__).members.get(owner.__name__)
        field = source.members.get(name) if source else None
        if field is not None and field.docstring:
            return field.docstring.value
    return ""


def variable(path: str) -> str:
    """The environment variable of a setting, such as `generation.replicas`."""
    return PREFIX + path.upper().replace(".", "__")
