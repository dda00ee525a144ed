"""Conversion of values to JSON types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def json_ready(value: Any) -> Any:
    """The value as JSON gives it back: tuples as lists, text as keys, None for NaN and ∞.

    A loss that became NaN must not cost the record of the run.
    """
    if isinstance(value, Mapping):
        return {str(name): json_ready(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(inner) for inner in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    raise TypeError(f"{type(value).__name__} cannot be kept as JSON: give numbers, text, lists and dicts")
