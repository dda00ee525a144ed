"""No caller makes the server open a file that it was not meant to open, and none keeps others from their answers."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from services.feedback.app import Feedback
from services.identity import Identity
from services.jobs.paths import readable_paths
from services.pools import THREADS, Pools
from vouch import recipes
from vouch.domains.criteria import load_domain, shipped_domain
from vouch.errors import InvalidInput, NotFound, PermissionDenied
from vouch.pb.v1 import feedback_pb2 as pb
from vouch.settings import ServerSettings, Settings, TrainingSettings

SECRET = {"name": "secret", "criteria": [{"id": "key", "question": "What is the key?"}]}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that would be a valid checklist, so that only the refusal keeps it from being handed out."""
    path = tmp_path / "secret.json"
    path.write_text(json.dumps(SECRET))
    path.chmod(0o600)
    return path


@pytest.fixture
def feedback(tmp_path: Path) -> Feedback:
    settings = Settings(state=tmp_path / "state")
    settings.folder.create()
    return Feedback(settings)


def described(feedback: Feedback, domain: str) -> Any:
    return asyncio.run(
        feedback.DescribeCriteria(pb.DescribeCriteriaRequest(domain=domain), Identity.unchecked())
    )


def test_a_caller_reads_the_checklist_in_use_and_those_that_ship(feedback: Feedback) -> None:
    assert described(feedback, "").domain == described(feedback, "blood_cells").domain == "blood_cells"


def test_a_checklist_of_the_administrators_own_is_read_by_its_name(tmp_path: Path, secret: Path) -> None:
    settings = Settings(state=tmp_path / "state", domain=str(secret))
    settings.folder.create()
    assert described(Feedback(settings), "secret").criteria[0].criterion_id == "key"


@pytest.mark.parametrize(
    "form", ["{path}", "{relative}", "../domains/blood_cells", "blood_cells.json", "/dev/zero"]
)
def test_no_path_is_opened_for_a_caller(
    feedback: Feedback, secret: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.chdir(secret.parent)
    with pytest.raises(NotFound, match="There is no domain"):
        described(feedback, form.format(path=secret, relative=secret.name))


def test_a_pipe_is_not_waited_for(feedback: Feedback, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotFound):
        described(feedback, str(tmp_path / "pipe"))
    with pytest.raises(NotFound):  # nor where the administrator names it
        load_domain(tmp_path / "pipe")


def test_a_checklist_is_read_up_to_a_mebibyte(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InvalidInput, match="larger than a checklist can be"):
        load_domain(path)


def test_a_shipped_checklist_is_found_by_its_name_alone() -> None:
    assert shipped_domain("blood_cells") == load_domain("blood_cells")


# ---- training


def elsewhere(tmp_path: Path, data: Path | None) -> Settings:
    """Settings of a system that other machines can call."""
    server = ServerSettings(host="0.0.0.0", tls_cert=tmp_path / "cert", tls_key=tmp_path / "key")
    return Settings(state=tmp_path / "state", server=server, training=TrainingSettings(data=data))


def test_every_setting_that_is_a_path_is_known_to_be_one() -> None:
    assert recipes.path_settings("reward") == ("data", "backbone")
    assert {kind: recipes.path_settings(kind) for kind in ("pretrain", "align", "concept")} == {
        "pretrain": ("data", "vae", "vae_start", "vae_features", "held_out", "unet"),
        "align": ("data",), "concept": ("data",),
    }  # fmt: skip


def test_on_a_loopback_address_an_operator_names_any_file_of_this_machine(tmp_path: Path) -> None:
    config = {"data": "/somewhere/train.parquet", "steps": 5}
    assert readable_paths(Settings(state=tmp_path), "reward", config) == config


@pytest.mark.parametrize("name", ["data", "backbone"])
def test_a_caller_of_another_machine_names_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(PermissionDenied, match=f"Setting {name}: .*VOUCH_TRAINING__DATA"):
        readable_paths(elsewhere(tmp_path, None), "reward", {name: str(tmp_path)})
    assert readable_paths(elsewhere(tmp_path, None), "reward", {"steps": 5}) == {"steps": 5}


def test_with_a_folder_of_image_sets_callers_name_what_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "sets"
    (folder / "cells").mkdir(parents=True)
    settings = elsewhere(tmp_path, folder)
    found = str(folder / "cells")
    assert readable_paths(settings, "reward", {"data": "cells"}) == {"data": found}
    assert readable_paths(settings, "reward", {"data": found}) == {"data": found}


@pytest.mark.parametrize("name", ["../secret.json", "/etc/passwd", "out/passwd", "cells/../../secret.json"])
def test_what_is_outside_of_that_folder_is_refused_whether_it_exists_or_not(
    tmp_path: Path, secret: Path, name: str
) -> None:
    folder = tmp_path / "sets"
    (folder / "cells").mkdir(parents=True)
    (folder / "out").symlink_to("/etc")
    local = Settings(state=tmp_path / "state", training=TrainingSettings(data=folder))
    for settings in (elsewhere(tmp_path, folder), local):
        with pytest.raises(PermissionDenied, match="not inside this system's folder"):
            readable_paths(settings, "reward", {"data": name})


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/tmp/x", "a" * 65, ""])
def test_a_new_version_cannot_be_named_by_a_path(name: str) -> None:
    with pytest.raises(InvalidInput, match="Setting name"):
        recipes.parse("reward", {"name": name})


# ---- pools


def test_calls_of_one_rpc_that_wait_leave_the_threads_of_others_alone() -> None:
    async def both() -> str:
        pools, go_on = Pools(), threading.Event()
        stuck = [asyncio.create_task(pools.run("ListImages", go_on.wait)) for _ in range(3 * THREADS)]
        answer = await asyncio.wait_for(pools.run("RecordRating", lambda: "recorded"), 30)
        assert not any(task.done() for task in stuck)
        go_on.set()
        await asyncio.gather(*stuck)
        return answer

    assert asyncio.run(both()) == "recorded"
