"""Keys that come once."""

from __future__ import annotations

from collections import Counter


class Unique:
    """Keys of one reading, each once: a name that comes again gets a number."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._again: Counter[str] = Counter()

    def of(self, key: str) -> str:
        """The key itself, or ``key#2`` for the second of this name."""
        unique = key
        while unique in self._seen:
            self._again[key] += 1
            unique = f"{key}#{self._again[key] + 1}"
        self._seen.add(unique)
        return unique
