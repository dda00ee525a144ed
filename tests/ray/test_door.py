"""What a stranger meets: tokens, roles, and values that make no sense."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import subprocess
import sys

import grpc
import pytest
from safetensors.torch import load_file, save_file

import vouch
from services.ports import free_range
from tests.ray.conftest import ROOT, Running, environment, until
from vouch.client import Client
from vouch.errors import FailedPrecondition, InvalidInput, NotFound, PermissionDenied, Unauthenticated
from vouch.pb.v1 import generation_pb2 as pb
from vouch.pb.v1 import generation_pb2_grpc
from vouch.storage.catalog import Catalog
from vouch.storage.state import StateFolder
from vouch.types.rating import NewRating

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.mark.parametrize("token", ["wrong", "", "Bearer"])
def test_a_call_without_a_valid_token_is_turned_away(system: Running, token):
    with vouch.connect(system.address, token=token or "none") as client, pytest.raises(Unauthenticated):
        client.get_serving()


def test_a_call_that_brings_nothing_is_told_where_the_tokens_are(system):
    with grpc.insecure_channel(system.address) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.GenerateImages(pb.GenerateImagesRequest(prompt="neutrophil"))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "access.json" in caught.value.details()


@pytest.mark.parametrize(
    ("role", "call"),
    [
        ("client", lambda client: client.next_for_review("ada")),
        ("client", lambda client: client.start_rollout("generator-first")),
        ("rater", lambda client: client.start_rollout("generator-first")),
        ("rater", lambda client: client.start_training("reward", {})),
        ("client", lambda client: client.cancel_run("reward-1")),
    ],
)
def test_a_role_that_is_not_enough_is_told_which_one_is(system, role, call):
    with system.client(role) as client, pytest.raises(PermissionDenied, match="needs the role"):
        call(client)


def test_a_named_token_opens_while_the_system_runs_and_stands_for_its_holder(system):
    """Who was given a token rates under its name, draws what others do not see, and is out when it is revoked."""
    with Catalog(system.folder.catalog_url) as catalog:
        _, secret = catalog.tokens.create("alice", "rater", ["human"])
        _, other = catalog.tokens.create("ward-7", "client")
    with (
        vouch.connect(system.address, token=secret) as alice,
        vouch.connect(system.address, token=other) as ward,
        system.client("client") as client,
    ):
        until(lambda: _admitted(alice) and _admitted(ward))
        caller = alice.describe_caller()
        assert (caller.name, caller.role, caller.kinds, caller.any_rater) == (
            "alice",
            "rater",
            ("human",),
            False,
        )
        image = ward.generate_images("neutrophil", seed=4711, request_id="mine", score=False).images[0]
        assert [one.digest for one in ward.list_images(request_id="mine")] == [image.digest]
        with pytest.raises(NotFound):
            client.get_image(image.digest)
        new = NewRating(request_id="1", image=image.digest, rater="", kind="human", verdict="unsure")
        assert alice.record_rating(new).rater == "alice"
        with pytest.raises(PermissionDenied, match="rates as alice"):
            alice.record_rating(dataclasses.replace(new, request_id="2", rater="dr-bob"))
        with Catalog(system.folder.catalog_url) as catalog:
            catalog.tokens.revoke("alice")
        until(lambda: not _admitted(alice))


def _admitted(client: Client) -> bool:
    try:
        client.describe_caller()
    except Unauthenticated:
        return False
    return True


def test_no_caller_has_a_file_of_the_server_opened(system, tmp_path):
    path = tmp_path / "secret.json"
    path.write_text('{"name": "secret", "criteria": [{"id": "key", "question": "What is the key?"}]}')
    with system.client("operator") as client, pytest.raises(NotFound, match="There is no domain"):
        client.describe_criteria(str(path))


@pytest.mark.parametrize("role", ["client", "rater", "operator"])
def test_every_role_may_draw(system, role):
    with system.client(role) as client:
        assert len(client.generate_images("neutrophil", steps=1, score=False).images) == 1


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"prompt": "dog"}, InvalidInput, "never learned. Begin with one of"),
        ({"prompt": "neutrophil, tail long"}, InvalidInput, "attribute that this generator never learned"),
        ({"prompt": "neutrophil, cell size huge"}, InvalidInput, "Known values of cell size: big, small"),
        ({"prompt": ""}, InvalidInput, "prompt is empty"),
        ({"count": 0}, InvalidInput, "count is 0"),
        ({"count": 65}, InvalidInput, "Use StreamImages"),
        ({"steps": -5}, InvalidInput, "steps is -5"),
        ({"guidance": math.nan}, InvalidInput, "guidance is nan"),
        ({"guidance": math.inf}, InvalidInput, "guidance is inf"),
        ({"seed": -1}, InvalidInput, "seed is -1"),
        ({"version": "nowhere"}, NotFound, "no version 'nowhere'"),
        ({"version": "reward-judge"}, InvalidInput, "is a reward, not a generator"),
        ({"reward_version": "generator-first"}, InvalidInput, "is a generator, not a reward"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_with_what_to_do(client, changes, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        client.generate_images(**{"prompt": "neutrophil", **changes})
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("count", [0, 10_001])
def test_a_stream_has_one_to_ten_thousand_images(client, count):
    with pytest.raises(InvalidInput, match=f"count is {count}; it must be 1 to 10000"):
        list(client.stream_images("neutrophil", count=count))


def test_a_stream_of_an_unknown_prompt_is_refused_before_anything_is_drawn(client):
    with pytest.raises(InvalidInput, match="never learned"):
        list(client.stream_images("unicorn", count=5))


def test_nothing_in_the_state_folder_is_for_others(system, client):
    """Images, ratings, the catalog and its log: whatever has been written by now, by any process."""
    image = client.generate_images("neutrophil", steps=1).images[0]
    assert (system.folder.blobs / image.digest[:2] / image.digest[2:]).is_file()
    paths = [system.folder.root, *system.folder.root.rglob("*")]
    assert any(path.name.startswith("catalog.db-") for path in paths)
    open_to_others = [path for path in paths if path.lstat().st_mode & 0o077 and not path.is_symlink()]
    assert open_to_others == []


def test_a_refusal_leaves_one_line_in_the_log_and_none_of_its_words_anywhere(system, client):
    with pytest.raises(InvalidInput):
        client.generate_images("neutrophil, seen of Jane Doe")
    lines = [json.loads(line) for file in system.folder.logs.glob("*.jsonl") for line in file.open()]
    assert any((line["rpc"], line["code"]) == ("GenerateImages", "INVALID_ARGUMENT") for line in lines)
    kept = [path for path in system.folder.logs.rglob("*") if b"Jane Doe" in path.read_bytes()]
    assert kept == []


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x80\x80\x80\x80\x08"])
def test_what_is_no_protobuf_is_an_invalid_argument(system, data):
    tokens = system.folder.read_access().tokens
    metadata = [("authorization", f"Bearer {tokens['operator']}")]
    with grpc.insecure_channel(system.address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/vouch.v1.TrainingService/StartTraining")(data, metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_training_under_a_name_of_a_megabyte_is_refused_by_the_field(client):
    with pytest.raises(InvalidInput, match="request_id has 900000 characters"):
        client.start_training("reward", {}, request_id="x" * 900_000)
    with pytest.raises(InvalidInput, match="Setting members"):
        client.start_training("reward", {"members": 10**9})


def start(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.system"],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def test_a_state_folder_in_use_is_left_alone(system, models):
    ended = start(environment(system.folder.root, models, free_range(2)))
    assert ended.returncode == FailedPrecondition.exit_code
    assert f"already in use by pid {system.process.pid}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taken_port_is_named(system, models, tmp_path):
    port = int(system.address.rpartition(":")[2])
    ended = start(environment(tmp_path / "state", models, port))
    assert ended.returncode == FailedPrecondition.exit_code
    assert f"Port {port} is taken by another program" in ended.stderr


@pytest.mark.parametrize("model", ["/nowhere/at/all", "{tmp}"])
def test_a_folder_without_a_model_is_refused(tmp_path, models, model):
    (tmp_path / "notes.txt").write_text("no model")
    values = environment(tmp_path / "state", models, free_range(2))
    ended = start({**values, "VOUCH_GENERATION__MODEL": model.format(tmp=tmp_path)})
    assert ended.returncode == InvalidInput.exit_code
    assert "Traceback" not in ended.stderr


def test_gpus_that_are_not_there_are_said_to_be_missing(tmp_path, models):
    values = environment(tmp_path / "state", models, free_range(2))
    ended = start({**values, "CUDA_VISIBLE_DEVICES": "", "VOUCH_GENERATION__GPUS": "1"})
    assert ended.returncode == FailedPrecondition.exit_code
    assert "want 1 GPUs and Ray finds 0" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_a_model_that_does_not_draw_is_refused_with_the_part_and_changes_nothing(tmp_path, models):
    folder = tmp_path / "model"
    shutil.copytree(models / "first", folder)
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(str(path))
    weights["conv_in.weight"].fill_(math.nan)
    save_file(weights, str(path), metadata={"format": "pt"})
    state = tmp_path / "state"
    ended = start({**environment(state, models, free_range(2)), "VOUCH_GENERATION__MODEL": str(folder)})
    assert ended.returncode == InvalidInput.exit_code
    assert "unet has weights that are not finite" in ended.stderr
    with Catalog(StateFolder(state).catalog_url) as catalog:
        assert "generator" not in {slot.slot for slot in catalog.serving.list()}
