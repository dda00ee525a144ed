"""The fake server of `vouch.testing` behind the edge of the real gateway."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services import edge
from tests.keys import FixedKeys
from vouch.testing import TOKENS, FakeServer


class EdgedServer(FakeServer):
    """Tokens, limits and errors are the gateway's own; what is behind them is fake."""

    def __init__(self, state: Path) -> None:
        super().__init__(auth=True, state=state)
        self.access = edge.AccessControl(FixedKeys(TOKENS))

    def _handler(self, rpc: str) -> Callable[..., Any]:
        method = getattr(FakeServer, rpc)
        wrap = edge.streaming if inspect.isasyncgenfunction(method) else edge.unary
        return types.MethodType(wrap(method), self)
