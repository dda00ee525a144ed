"""A running system adapts a foundation model that it has never seen, and draws with it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.foundations import save_chests, save_foundation
from vouch.client import Client

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def test_a_folder_becomes_a_version_that_draws_any_words_with_guidance(
    client: Client, tmp_path: Path
) -> None:
    base, data = save_foundation(tmp_path / "foundation", "2.x"), save_chests(tmp_path / "chests")
    run = client.start_training(
        "adapt",
        {"base": str(base), "data": str(data), "steps": 2, "batch": 4, "rank": 2, "lr": 1e-2, "keep_vae": True,
         "name": "chests"},
    )  # fmt: skip
    last = list(client.watch_run(run.run_id))[-1]
    assert (last.state, last.version_name) == ("SUCCEEDED", "chests"), last.error
    assert client.describe_generator("chests").open_vocabulary
    lineage = client.get_version("chests")
    assert lineage.parent_name == "generator-foundation"
    asked = {"version": "chests", "seed": 1, "steps": 4, "guidance": 4.0, "score": False}
    plain = client.generate_images("a bright chest of anybody", **asked).images[0]
    away = client.generate_images("a bright chest of anybody", negative_prompt="dark", **asked).images[0]
    assert (plain.negative_prompt, away.negative_prompt) == ("", "dark")
    assert plain.data != away.data
