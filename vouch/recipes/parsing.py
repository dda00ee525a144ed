"""Settings as a caller gives them, to checked ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from vouch.domains.criteria import Domain
from vouch.errors import InvalidInput
from vouch.recipes.asked import Asked
from vouch.recipes.base import Recipe
from vouch.recipes.kinds import RECIPES
from vouch.recipes.names import group_of, nested, setting_fields
from vouch.recipes.renamed import renamed


def parse(kind: str, settings: Mapping[str, Any], domain: Domain | None = None) -> tuple[Asked, Recipe]:
    """The settings of a run, checked. A setting in a group is named with a dot (``nft.beta``), or is in a mapping.

    Args:
        domain: the kind of image; default: the shipped one.

    Raises:
        InvalidInput: names the kind (UNKNOWN_KIND) or the setting (BAD_SETTING) and what there is instead.
    """
    recipe = RECIPES.get(kind)
    if recipe is None:
        raise InvalidInput(
            f"There is no training of kind {kind!r}. Known kinds: {', '.join(RECIPES)}.", "UNKNOWN_KIND"
        )
    own = nested({name: value for name, value in settings.items() if name not in Asked.model_fields})
    _check_names(kind, recipe, own)
    try:
        given = {"domain": domain} if domain else {}
        return Asked.model_validate(settings), recipe.model_validate({**given, **own})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "config"
        raise InvalidInput(f"Setting {where}: {first['msg']}. {_known(kind)}", "BAD_SETTING") from error


def _check_names(kind: str, recipe: type[Recipe], own: Mapping[str, Any]) -> None:
    """Raises InvalidInput for names that the recipe does not have."""
    unknown = sorted(set(own) - set(recipe.model_fields))
    for name, value in own.items():
        field = recipe.model_fields.get(name)
        group = None if field is None else group_of(field)
        if group is not None and isinstance(value, Mapping):
            unknown += sorted(f"{name}.{own_name}" for own_name in set(value) - set(group.model_fields))
    if unknown:
        now = renamed(kind, unknown)
        raise InvalidInput(f"There is no setting {', '.join(unknown)}. {now or _known(kind)}", "BAD_SETTING")


def parse_assignments(pairs: Iterable[str]) -> dict[str, Any]:
    """``["steps=500", "nft.beta=0.1"]`` as ``{"steps": 500, "nft.beta": 0.1}``. Values are JSON, or else text.

    Raises:
        InvalidInput: a pair is not of the form NAME=VALUE (BAD_SETTING).
    """
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidInput(f"--set {pair!r} is not of the form NAME=VALUE.", "BAD_SETTING")
        settings[name.replace("-", "_")] = parse_value(value)
    return settings


def parse_value(text: str) -> Any:
    """JSON, or else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _known(kind: str) -> str:
    return f"Settings of {kind}: {', '.join(sorted({*setting_fields(RECIPES[kind]), *Asked.model_fields}))}."
