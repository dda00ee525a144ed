"""One request, as every contender understands it, and its way over the wire."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

LENGTH = struct.Struct("<I")
SERVICE, METHOD = "peer.Drawing", "Draw"  # of the peer that speaks gRPC


@dataclass(frozen=True)
class Ask:
    """`count` images of one prompt; image i is drawn from the seed `seed + i`. Guidance of 1 or less is off."""

    prompt: str
    count: int
    seed: int
    steps: int
    guidance: float

    @property
    def guided(self) -> bool:
        return self.guidance > 1

    @property
    def image_steps(self) -> int:
        """Evaluations of the U-Net for one image each: a guided step takes two."""
        return self.count * self.steps * (2 if self.guided else 1)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def encode(self) -> bytes:
        return json.dumps(self.as_json()).encode()

    @classmethod
    def decode(cls, data: bytes) -> Ask:
        return cls(**json.loads(data))


def pack(images: Sequence[bytes]) -> bytes:
    """Encoded images one after another, each behind its length."""
    return b"".join(LENGTH.pack(len(image)) + image for image in images)


def unpack(data: bytes) -> list[bytes]:
    images, place = [], 0
    while place < len(data):
        (length,) = LENGTH.unpack_from(data, place)
        place += LENGTH.size
        images.append(data[place : place + length])
        place += length
    return images
