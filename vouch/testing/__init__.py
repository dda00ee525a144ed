"""A fake vouch system for tests of your own code: real gRPC on a free port, state in memory, no Ray and no torch.

    import vouch
    from vouch.testing import FakeServer

    def test_my_report() -> None:
        with FakeServer() as server, vouch.connect(server.address) as client:
            my_report(client)
            assert len(server.ratings) == 3

It implements every RPC of the contract. Images are flat grey PNGs whose brightness follows the seed, a score is the
mean brightness, and the same call gives the same answer. Attributes of `FakeServer` make it fail on purpose. It does
not check the limits of fields, it trains nothing, and a rollout has no replicas.
"""

from __future__ import annotations

from vouch.testing.images import LABELS, flat_png
from vouch.testing.operations import CANDIDATE, GENERATOR, REWARD
from vouch.testing.server import TOKENS, FakeServer

__all__ = ["CANDIDATE", "GENERATOR", "LABELS", "REWARD", "TOKENS", "FakeServer", "flat_png"]
