"""The start of Ray beside the trial of the models: neither waits for the other's failure, nor ends the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.driver.__main__ import _published
from vouch.errors import InvalidInput, VouchError
from vouch.settings import Settings

BROKEN_OFF = """
import subprocess, sys
import psutil
from services.driver.node import _kill_children
WAIT = "import sys; sys.stdin.read()"
def start(*arguments):
    return subprocess.Popen([sys.executable, "-c", WAIT, *arguments], stdin=subprocess.PIPE)
trial, ray = start("services.trial"), start("raylet")
_kill_children()
print(psutil.pid_exists(trial.pid), psutil.pid_exists(ray.pid))
trial.communicate()
"""


def test_a_start_of_ray_that_breaks_off_does_not_end_the_trial_of_a_model() -> None:
    done = subprocess.run([sys.executable, "-c", BROKEN_OFF], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_models_that_cannot_be_served_are_refused_while_ray_still_starts(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path / "state", generation={"model": str(tmp_path / "nowhere")})
    settings.folder.create()
    refused: list[VouchError] = []
    with pytest.raises(InvalidInput) as caught:
        _published(settings, refused.append)
    assert refused == [caught.value]
    assert "nowhere" in refused[0].message
