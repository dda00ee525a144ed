"""RPCs of other deployments: the gateway forwards each message with the caller's identity."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from services import edge
from services.gateway.handles import stream
from services.identity import Identity
from vouch.client.rpcs import METHODS
from vouch.rpcs import RPCS, Rpc

T = TypeVar("T", bound=type)


def forwarding(gateway: T) -> T:
    """Give the class a method for each RPC of the table that another deployment answers.

    The class has `deployments`, a handle for each name of a deployment.
    """
    for rpc in RPCS.values():
        if rpc.deployment != "gateway":
            setattr(gateway, rpc.name, _forward(rpc))
    return gateway


def _forward(rpc: Rpc) -> Callable[..., Any]:
    async def once(self: Any, request: Any, caller: Identity) -> object:
        return await getattr(self.deployments[rpc.deployment], rpc.name).remote(request, caller)

    async def listen(self: Any, request: Any, caller: Identity) -> AsyncIterator[object]:
        async for answer in stream(getattr(self.deployments[rpc.deployment], rpc.name), request, caller):
            yield answer

    once.__name__ = listen.__name__ = rpc.name
    return edge.streaming(listen) if METHODS[rpc.name].server_streaming else edge.unary(once)
