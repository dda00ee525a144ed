"""Parsing of durations such as 30s, 10m or 2h."""

from __future__ import annotations

import re

from vouch.errors import InvalidInput

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(option: str, text: str) -> float:
    """ "90", "30s", "10m", "2h" or "1d" in seconds. Raises InvalidInput, naming the option."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if match is None:
        raise InvalidInput(f"{option} {text!r} is not a duration: write 30s, 10m, 2h or 1d.")
    return float(match[1]) * _UNITS[match[2] or "s"]
