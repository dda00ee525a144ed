"""Real images for tests of figures: those beside the project. What needs them says so and is skipped without."""

from __future__ import annotations

from pathlib import Path

import pytest

_DATA = Path(__file__).parents[2] / "shared" / "data"
PBC64, CXR224, MEDNIST64 = (_DATA / name for name in ("pbc64", "cxr224", "mednist64"))

needs_pbc64 = pytest.mark.skipif(
    not (PBC64 / "test.parquet").is_file(), reason="needs the real cells of ../shared/data/pbc64"
)
needs_cxr224 = pytest.mark.skipif(
    not (CXR224 / "test.parquet").is_file(), reason="needs the real chest X-rays of ../shared/data/cxr224"
)
needs_mednist64 = pytest.mark.skipif(
    not (MEDNIST64 / "test.parquet").is_file(), reason="needs the real images of ../shared/data/mednist64"
)
