"""Which images teach and which validate: as the data say, or else by patients, decided by a hash."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection
from typing import Literal

Split = Literal["train", "val", "test"]
VALIDATION_SHARE = 0.1
FEWEST_GROUPS = 10
"""Groups below which all teach: a tenth of fewer is none."""
FEW_GROUPS = 200
"""Groups below which exactly the share validates; of more a hash alone decides, and comes close to it."""

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


def assigned_split(group: str, share: float = VALIDATION_SHARE) -> Split:
    """ "val" for about `share` of all groups, "train" for the others: always the same for one group.

    group: a patient, or the digest of an image whose patient is not known.
    """
    return "val" if _hash(group) < share * 2**64 else "train"


def divided(groups: Collection[str], share: float = VALIDATION_SHARE) -> Callable[[str], Split]:
    """Which groups of a set validate: of few exactly `share`, at least one, and none of fewer than FEWEST_GROUPS.

    groups: all of the set, or FEW_GROUPS of them.
    """
    if len(groups) >= FEW_GROUPS or not share:
        return lambda group: assigned_split(group, share)
    count = max(1, round(share * len(groups))) if len(groups) >= FEWEST_GROUPS else 0
    validating = frozenset(sorted(groups, key=_hash)[:count])
    return lambda group: "val" if group in validating else "train"


def _hash(group: str) -> int:
    """The same whatever a run's seed is: a later run on the same images must not validate on what this one taught."""
    return int.from_bytes(hashlib.sha256(f"validation 0 {group}".encode()).digest()[:8], "big")
