from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "ray", "diffusers", "transformers", "mlflow", "sklearn", "scipy", "pandas")


@pytest.mark.parametrize("statement", ["import vouch", "from vouch.cli import app"])
def test_what_a_user_imports_first_brings_nothing_heavy(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint(*sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == []
