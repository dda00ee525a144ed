import json
import os
import subprocess
import sys

import pytest

from vouch.errors import FailedPrecondition, InvalidInput, NotFound
from vouch.settings import load_settings
from vouch.storage.state import Access, StateFolder


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in [name for name in os.environ if name.startswith("VOUCH_")]:
        monkeypatch.delenv(name)


def test_the_defaults_are_enough():
    settings = load_settings()

    assert settings.server.grpc_port == 9000
    assert settings.server.host == "127.0.0.1"
    assert settings.server.auth
    assert settings.resolved_catalog_url.startswith("sqlite:////")


def test_arguments_are_stronger_than_the_environment_and_that_than_the_file(tmp_path, monkeypatch):
    file = tmp_path / "settings.json"
    file.write_text(
        json.dumps({"domain": "file", "blobs_url": "file", "server": {"grpc_port": 1, "http_port": 2}})
    )
    monkeypatch.setenv("VOUCH_DOMAIN", "environment")
    monkeypatch.setenv("VOUCH_BLOBS_URL", "environment")
    monkeypatch.setenv("VOUCH_SERVER__GRPC_PORT", "3")

    settings = load_settings(file, domain="argument", blobs_url=None)

    assert (settings.domain, settings.blobs_url) == ("argument", "environment")
    assert (settings.server.grpc_port, settings.server.http_port) == (3, 2)


def test_setting_one_value_of_a_group_leaves_the_groups_other_defaults(monkeypatch):
    before = load_settings().reward
    monkeypatch.setenv("VOUCH_REWARD__THREADS", "3")
    assert load_settings().reward == before.model_copy(update={"threads": 3})


def test_fewer_replicas_at_most_than_at_least_are_refused():
    assert load_settings(generation={"replicas": 2}).generation.most_replicas == 2
    assert load_settings(generation={"replicas": 2, "max_replicas": 4}).generation.most_replicas == 4
    with pytest.raises(InvalidInput, match="max_replicas is 2, fewer than replicas, 3"):
        load_settings(generation={"replicas": 3, "max_replicas": 2})


def test_more_workers_at_least_than_there_are_are_refused():
    assert load_settings(training={"workers": 4, "min_workers": 1}).training.min_workers == 1
    with pytest.raises(InvalidInput, match="min_workers is 2, more than workers, 1"):
        load_settings(training={"min_workers": 2})


def test_where_a_ray_runs_already_is_a_setting(monkeypatch):
    assert load_settings().ray_address == ""
    monkeypatch.setenv("VOUCH_RAY_ADDRESS", "head:6379")
    assert load_settings().ray_address == "head:6379"


@pytest.mark.parametrize("name", ["VOUCH_SERVER__GRPC_PROT", "VOUCH_STAET", "VOUCH_SERVER__"])
def test_a_typo_in_the_environment_fails_and_the_right_name_is_suggested(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    with pytest.raises(InvalidInput, match=f"{name} is not a setting.*Did you mean VOUCH_S"):
        load_settings()


def test_a_typo_in_the_file_or_in_an_argument_fails(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text('{"server": {"grpc_prot": 9001}}')
    with pytest.raises(InvalidInput, match=r"server\.grpc_prot: there is no such setting"):
        load_settings(file)
    with pytest.raises(InvalidInput, match="staet: there is no such setting"):
        load_settings(staet="x")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VOUCH_SERVER__GRPC_PORT", "70000"),
        ("VOUCH_SERVER__AUTH", "perhaps"),
        ("VOUCH_SERVER__HOST", "0.0.0.0"),
        ("VOUCH_SERVER__TLS_CERT", "cert.pem"),
        ("VOUCH_ROLLOUT__STEPS_PERCENT", "[5, 50]"),
        ("VOUCH_GENERATION__REPLICAS", "0"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match=name.split("__")[1].lower().split("_")[0]):
        load_settings()


def test_what_kubernetes_puts_into_the_environment_is_no_typo(monkeypatch):
    monkeypatch.setenv("VOUCH_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("VOUCH_HEAD_SVC_PORT_8265_TCP_ADDR", "10.0.0.1")
    load_settings()


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_a_settings_file_that_is_none_is_refused(content, tmp_path):
    file = tmp_path / "settings.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidInput, match=r"settings\.json"):
        load_settings(file)


def test_settings_do_not_change_after_they_are_read():
    with pytest.raises(ValueError, match="frozen"):
        load_settings().state = "other"


HOLD = """
import sys
from pathlib import Path
from vouch.storage.state import StateFolder
with StateFolder(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_state_folder_in_use_is_refused_with_the_pid_and_free_again_when_that_process_dies(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(FailedPrecondition, match=f"already in use by pid {holder.pid}"),
            StateFolder(tmp_path).lock(),
        ):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with StateFolder(tmp_path).lock():
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_file_in_the_state_folders_place_is_refused(tmp_path):
    (tmp_path / "state").write_text("mine")
    with pytest.raises(FailedPrecondition, match="in the way"):
        StateFolder(tmp_path / "state").create()


def test_access_is_for_its_owner_alone(tmp_path):
    folder = StateFolder(tmp_path).create()
    access = Access(address="127.0.0.1:9000", http="http://127.0.0.1:8000", tokens={"client": "secret"})

    folder.write_access(access)
    assert folder.access.stat().st_mode & 0o777 == 0o600
    assert folder.read_access() == access
    assert "secret" not in repr(access)

    folder.access.chmod(0o644)
    with pytest.raises(FailedPrecondition, match="chmod 600"):
        folder.read_access()


def test_access_of_a_folder_where_nothing_ran_says_how_to_start(tmp_path):
    with pytest.raises(NotFound, match="vouch up"):
        StateFolder(tmp_path).read_access()


@pytest.mark.parametrize("content", ["", "[]", '{"address": 1, "http": "x"}', '{"addres": "x"}'])
def test_a_damaged_access_file_is_said_to_be_damaged(content, tmp_path):
    folder = StateFolder(tmp_path)
    folder.access.write_text(content)
    folder.access.chmod(0o600)
    with pytest.raises(InvalidInput, match="damaged"):
        folder.read_access()


@pytest.mark.parametrize("run_id", ["", "../up", ".hidden"])
def test_a_run_id_cannot_leave_the_folder(run_id, tmp_path):
    with pytest.raises(InvalidInput):
        StateFolder(tmp_path).run(run_id)
