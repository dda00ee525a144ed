"""Which images teach and which validate: as the data say, or else by patients, decided by a hash."""

from __future__ import annotations

import hashlib
import re
from typing import Literal

Split = Literal["train", "val", "test"]
VALIDATION_SHARE = 0.1

_NAMES: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_NAME = re.compile(r"[a-z]+")
GENERIC = frozenset(
    {*_NAMES, "images", "image", "imgs", "img", "data", "dataset", "jpg", "png", "files", "dicom"}
)
"""Names of folders that name no class."""


def named_split(key: str, column: str = "") -> Split | Literal[""]:
    """The split that data state: in a column, or else by the first part of a key that is named like one.

    Example: ``named_split("valid-00000.parquet/00000012") == "val"``, ``named_split("trained/1.png") == ""``
    """
    if column.strip().lower() in _NAMES:
        return _NAMES[column.strip().lower()]
    for part in key.lower().split("/"):
        word = _NAME.match(part)
        if word and word[0] in _NAMES:
            return _NAMES[word[0]]
    return ""


def assigned_split(group: str, share: float = VALIDATION_SHARE, seed: int = 0) -> Split:
    """ "val" for about `share` of all groups, "train" for the others: always the same for one group.

    group: a patient, or the digest of an image whose patient is not known.
    """
    number = int.from_bytes(hashlib.sha256(f"validation {seed} {group}".encode()).digest()[:8], "big")
    return "val" if number < share * 2**64 else "train"
