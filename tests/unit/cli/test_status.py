"""`vouch status`."""

from __future__ import annotations

from tests.command_line import run, run_json
from tests.edged_server import EdgedServer


def test_status_shows_what_serves_and_what_could_not_be_loaded(system: EdgedServer) -> None:
    shown = run("status").stdout
    for expected in ("starter-generator", "1 of 2", "converging", "converged", "unet is truncated"):
        assert expected in shown
    assert run_json("status")["slots"][0]["champion_name"] == "starter-generator"


def test_status_says_when_the_diffusers_pipeline_generates_the_images(system: EdgedServer) -> None:
    assert "diffusers pipeline, unbatched" not in run("status").stdout
    system.fallback_reason = "HeunDiscreteScheduler is not among those that share steps."
    assert "diffusers pipeline, unbatched" in run("status").stdout
    assert "HeunDiscreteScheduler" in run_json("status")["fallback_reason"]
