"""A domain as a folder: `domain.json`, and what is long in files of its own beside it.

skin/domain.json        {"name": "skin", "title": "Dermoscopic images", "symmetric": true}
skin/criteria.json      [{"id": "border", "question": "Is the border right?"}, …]
skin/captions.json      {"wordings": ["{label}", "dermoscopic image of a {label}"]}       optional
skin/vocabulary.json    {"labels": ["naevus", "melanoma"], "attributes": {}}              optional
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vouch.errors import NotFound

DOMAIN = "domain.json"
PARTS = {"criteria.json": "criteria", "captions.json": "captions", "vocabulary.json": "vocabulary"}
"""Files beside `domain.json`, each with the field that it fills."""
MAX_BYTES = 1 << 20


def is_domain(path: Path) -> bool:
    """Whether a folder describes a domain."""
    return (path / DOMAIN).is_file()


def read_domain(path: Path, name: str) -> dict[str, Any]:
    """The fields of the domain in a folder, or in a JSON file. name: what error messages call it.

    Raises:
        NotFound: no such file, or no text.
        ValueError: not JSON, not an object, larger than a mebibyte, or a field that two files give.
    """
    if not path.is_dir():
        return _object(path, name)
    fields = _object(path / DOMAIN, name)
    for file, field in PARTS.items():
        if not (path / file).exists():
            continue
        if field in fields:
            raise ValueError(f"{field} is given in {DOMAIN} and in {file}: give it once")
        fields[field] = _json(path / file, name)
    return fields


def _object(path: Path, name: str) -> dict[str, Any]:
    value = _json(path, name)
    if not isinstance(value, dict):
        raise ValueError("a JSON object is expected")
    return value


def _json(path: Path, name: str) -> Any:
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path.name} is not JSON ({error})") from error
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(
            f"There is no domain {name!r}: {path.name} cannot be read.", "UNKNOWN_DOMAIN"
        ) from error


def _text(path: Path) -> str:
    """At most a mebibyte of a regular file: a pipe would never end."""
    if not path.is_file():
        raise FileNotFoundError(path)
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ValueError(f"{path.name} is larger than a checklist can be: at most {MAX_BYTES} bytes")
    return raw.decode("utf-8")
