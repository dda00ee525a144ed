"""Every training loop by the name of its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from training import pretrain

LOOPS: dict[str, tuple[type[BaseModel], Callable[..., dict[str, Any]]]] = {
    "pretrain": (pretrain.PretrainConfig, pretrain.fit),
}
