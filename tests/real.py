"""Real images for tests of figures: those beside the project. What needs them says so and is skipped without."""

from __future__ import annotations

from pathlib import Path

import pytest

PBC64 = Path(__file__).parents[2] / "shared" / "data" / "pbc64"

needs_pbc64 = pytest.mark.skipif(
    not (PBC64 / "test.parquet").is_file(), reason="needs the real cells of ../shared/data/pbc64"
)
