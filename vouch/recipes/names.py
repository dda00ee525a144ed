"""Settings by their names; those in a group are named ``group.name``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vouch.errors import InvalidInput
from vouch.recipes.asked import Asked
from vouch.recipes.kinds import RECIPES


def setting_fields(recipe: type[BaseModel]) -> dict[str, FieldInfo]:
    """Every setting of a recipe, groups opened. Example: ``{"steps": …, "nft.beta": …}``."""
    fields: dict[str, FieldInfo] = {}
    for name, field in recipe.model_fields.items():
        if group := group_of(field):
            fields |= {f"{name}.{own}": inner for own, inner in group.model_fields.items()}
        else:
            fields[name] = field
    return fields


def group_of(field: FieldInfo) -> type[BaseModel] | None:
    """The group that a field holds; None for a plain setting, and for the domain, which no caller gives."""
    default = field.default
    return type(default) if isinstance(default, BaseModel) else None


def described(kind: str) -> dict[str, str]:
    """The settings that a person would choose, with what they mean."""
    asked = Asked.model_fields if kind != "pretrain" else {}
    fields = {**setting_fields(RECIPES[kind]), **asked}
    return {name: field.description for name, field in fields.items() if field.description}


def path_settings(kind: str) -> tuple[str, ...]:
    """The settings that name files of the machine that trains."""
    fields = setting_fields(RECIPES[kind]).items()
    return tuple(name for name, field in fields if field.annotation in (Path, Path | None))


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """With groups for dotted names: ``{"nft.beta": 0.1}`` as ``{"nft": {"beta": 0.1}}``.

    Raises:
        InvalidInput: a setting is given twice, or a name is both a setting and a group (BAD_SETTING).
    """
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        group, dot, own = name.partition(".")
        branch, key = (tree.setdefault(group, {}), own) if dot else (tree, name)
        if not isinstance(branch, dict):
            raise InvalidInput(f"Setting {group} is a value, so there is no {name}.", "BAD_SETTING")
        if isinstance(value, Mapping) and isinstance(branch.get(key, {}), dict):
            value = _merged(key, branch.get(key, {}), value)
        elif key in branch:
            raise InvalidInput(f"Setting {name} is given twice.", "BAD_SETTING")
        branch[key] = value
    return tree


def _merged(group: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    if twice := sorted(set(first) & set(second)):
        raise InvalidInput(f"Setting {group}.{twice[0]} is given twice.", "BAD_SETTING")
    return {**first, **second}


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The other way round."""
    names: dict[str, Any] = {}
    for name, value in settings.items():
        inner = value.items() if isinstance(value, Mapping) else None
        names |= {name: value} if inner is None else {f"{name}.{own}": one for own, one in inner}
    return names


def groups(kind: str) -> dict[str, str]:
    """The groups of a recipe's settings, each with what it is of."""
    fields = ((name, group_of(field)) for name, field in RECIPES[kind].model_fields.items())
    return {name: " ".join((group.__doc__ or "").split()) for name, group in fields if group is not None}
