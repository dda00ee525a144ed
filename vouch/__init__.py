"""Synthetic medical images that experts vouch for.

Draw images of the running system:

    with vouch.connect() as client:
        reply = client.generate_images("neutrophil", count=4)
        for image in reply.images:
            print(image.digest, image.score, image.generator_name)
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vouch.client import AsyncClient, Client

__version__ = "0.1.0"
__all__ = ["__version__", "connect", "connect_async"]

# Functions, not re-exports: `import vouch` stays light, and the client loads when it is first needed.


def connect(
    address: str | None = None,
    *,
    token: str | None = None,
    state: str | os.PathLike[str] | None = None,
    role: str | None = None,
    ca: str | os.PathLike[str] | None = None,
    timeout_s: float = 60.0,
) -> Client:
    """A client of the running system, which finds address and token by itself.

    Args:
        address: HOST:PORT, or grpcs://HOST:PORT for TLS. Default: VOUCH_ADDRESS, then `access.json` in `state`.
        token: sent with every call. Default: VOUCH_TOKEN, then the one of `role` in `access.json`.
        state: the state folder. Default: VOUCH_STATE, then ./state.
        role: "client", "rater" or "operator". Default: the one that may do most.
        ca: PEM file of the authority that signed the server's certificate; switches TLS on.
        timeout_s: seconds until a short call fails; generating has its own, streams have none.

    Raises:
        NotFound: no address was given and no system was started on the state folder.
        InvalidInput: an address, role or certificate that is not one.
    """
    from vouch.client import Client
    from vouch.client.endpoint import find

    return Client(find(address, token, state, role, ca), timeout_s)


def connect_async(
    address: str | None = None,
    *,
    token: str | None = None,
    state: str | os.PathLike[str] | None = None,
    role: str | None = None,
    ca: str | os.PathLike[str] | None = None,
    timeout_s: float = 60.0,
) -> AsyncClient:
    """As `connect`, for asyncio."""
    from vouch.client import AsyncClient
    from vouch.client.endpoint import find

    return AsyncClient(find(address, token, state, role, ca), timeout_s)
