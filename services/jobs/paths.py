"""Which files of the server a training run may be told to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vouch.errors import PermissionDenied
from vouch.recipes import path_settings
from vouch.settings import Settings


def readable_paths(settings: Settings, kind: str, config: Mapping[str, Any]) -> dict[str, object]:
    """The config with its paths made absolute.

    With `training.data` set, a path is a name inside that folder. Without it, a system on a loopback address takes any
    path, for its callers are on this machine and hold the operator's token; any other system takes none.

    Raises:
        PermissionDenied: a path that the caller may not name. The answer is the same whether it exists or not.
    """
    named = {name: str(config[name]) for name in path_settings(kind) if config.get(name) is not None}
    return {**config, **{name: _readable(settings, name, path) for name, path in named.items()}}


def _readable(settings: Settings, name: str, path: str) -> str:
    folder = settings.training.data
    if folder is None:
        if settings.server.on_loopback:
            return path
        raise PermissionDenied(
            f"Setting {name}: this system reads no files for callers of other machines. Its administrator can name a "
            "folder of image sets with VOUCH_TRAINING__DATA.",
            "PATH_NOT_ALLOWED",
        )
    root = folder.expanduser().resolve()
    target = (root / path).resolve()  # an absolute path replaces the root here, and is then compared with it
    if target.is_relative_to(root):
        return str(target)
    raise PermissionDenied(
        f"Setting {name}: {path[:200]!r} is not inside this system's folder of image sets. Name a file relative to it.",
        "PATH_NOT_ALLOWED",
    )
