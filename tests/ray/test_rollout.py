from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from datetime import datetime, timezone

import pytest

from tests.ray.conftest import Running, apart, until
from tests.tiny import save_generator
from vouch.client import Client
from vouch.errors import CorruptVersion, DataLoss, FailedPrecondition, InvalidInput, NotFound, VouchError
from vouch.types.version import Version

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def back_to_first(client: Client, first: Version):
    """Every test begins and ends with the first generator serving alone."""
    yield
    for rollout in client.list_rollouts(slot="generator", state="ACTIVE"):
        client.roll_back_rollout(rollout.rollout_id)
    if champion(client) != first.digest:
        serve(client, first)
    until(
        lambda: client.get_serving("generator").slots[0].converged
    )  # what was taken back may serve a moment longer


def champion(client: Client) -> str:
    return client.get_serving("generator").slots[0].champion_version


def serve(client: Client, version: Version) -> None:
    """Make a version the champion and wait until every replica follows."""
    rollout = client.start_rollout(version.digest, percent=100, force=True, reason="a test")
    last = list(client.watch_rollout(rollout.rollout_id))[-1]
    assert (last.state, last.replicas_converged) == ("COMPLETED", last.replicas_total)


class Traffic:
    """Clients that ask without pause, and what they got."""

    def __init__(self, system: Running, clients: int = 3) -> None:
        self.replies: list[tuple[int, str, bytes]] = []  # seed, digest of the version, image
        self.failures: list[VouchError] = []
        self._system, self._stop = system, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(120)

    def _ask(self, number: int) -> None:
        with self._system.client("client") as client:
            while not self._stop.is_set():
                try:
                    image = client.generate_images("neutrophil", seed=number, steps=2, score=False).images[0]
                    self.replies.append((number, image.generator_version, image.data))
                except VouchError as error:
                    self.failures.append(error)


def test_swaps_under_traffic_fail_no_request_and_every_reply_names_the_version_that_made_it(
    system, client, first, second
):
    made = {
        (seed, version.digest): client.generate_images(
            "neutrophil", seed=seed, steps=2, score=False, version=version.digest
        )
        .images[0]
        .data
        for seed in range(3)
        for version in (first, second)
    }
    with Traffic(system) as traffic:
        for version in (second, first, second, first):
            serve(client, version)
            count = len(traffic.replies)
            until(lambda count=count: len(traffic.replies) > count + 5)
    assert traffic.failures == []
    assert all(apart(made[seed, first.digest], made[seed, second.digest]) > 1 for seed in range(3))
    assert {version for _, version, _ in traffic.replies} == {first.digest, second.digest}
    assert max(apart(made[seed, version], data) for seed, version, data in traffic.replies) <= 1


def test_a_rollout_goes_by_steps_and_its_candidate_gets_its_share(client, first, second):
    rollout = client.start_rollout("generator-second", force=True, reason="it looks better")
    assert (rollout.percent, rollout.state, rollout.version_name) == (5, "ACTIVE", "generator-second")
    rollout = client.promote_rollout(rollout.rollout_id)
    assert rollout.percent == 25
    until(lambda: client.get_serving("generator").slots[0].converged)
    drawn = Counter(
        client.generate_images("monocyte", steps=1, score=False, request_id=f"share-{i}").generator_version
        for i in range(120)
    )
    assert 10 < drawn[second.digest] < 55
    rollout = client.roll_back_rollout(rollout.rollout_id, reason="it does not")
    assert (rollout.state, rollout.reason) == ("ROLLED_BACK", "it does not")
    assert champion(client) == first.digest


def test_a_completed_rollout_can_be_taken_back(client, first, second):
    rollout = client.start_rollout(
        "generator-second", percent=100, force=True, reason="a test", request_id="all at once"
    )
    assert (
        client.start_rollout(
            "generator-second", percent=100, force=True, reason="a test", request_id="all at once"
        )
        == rollout
    )
    assert champion(client) == second.digest
    client.roll_back_rollout(rollout.rollout_id)
    assert champion(client) == first.digest


def test_a_version_with_a_damaged_file_is_refused_by_name_and_the_old_one_serves_on(
    system, client, registry, first, models, tmp_path
):
    shutil.copytree(models / "second", tmp_path / "damaged")
    version = registry.publish(
        save_generator(tmp_path / "damaged", 9),
        kind="generator",
        format="diffusers",
        name="generator-damaged",
    )
    file = system.folder.models / version.digest / "unet" / "diffusion_pytorch_model.safetensors"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataLoss, match=r"unet/diffusion_pytorch_model\.safetensors"):
        client.start_rollout("generator-damaged", force=True, reason="a test")
    with pytest.raises(DataLoss, match=r"unet/diffusion_pytorch_model\.safetensors"):
        client.generate_images("neutrophil", version="generator-damaged")
    assert client.generate_images("neutrophil").generator_version == first.digest


def test_a_version_that_verifies_but_does_not_load_is_reported_and_rolled_back(
    client, registry, first, tmp_path
):
    folder = save_generator(tmp_path / "broken", 10)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    registry.publish(folder, kind="generator", format="diffusers", name="generator-broken")
    rollout = client.start_rollout("generator-broken", force=True, reason="a test")
    last = list(client.watch_rollout(rollout.rollout_id))[-1]
    assert last.state == "ROLLED_BACK"
    assert "could not load" in last.reason
    assert client.generate_images("neutrophil").generator_version == first.digest


def test_a_version_whose_files_are_gone_is_not_found(system, client, registry, tmp_path):
    version = registry.publish(
        save_generator(tmp_path / "gone", 11), kind="generator", format="diffusers", name="generator-gone"
    )
    shutil.rmtree(system.folder.models / version.digest)
    with pytest.raises((NotFound, CorruptVersion)):
        client.start_rollout("generator-gone", force=True, reason="a test")


@pytest.mark.parametrize(
    ("ref", "error", "sentence"),
    [
        ("nowhere", NotFound, "no version 'nowhere'"),
        ("generator-first", FailedPrecondition, "already the champion"),
    ],
)
def test_what_cannot_be_rolled_out_is_refused(client, ref, error, sentence):
    with pytest.raises(error, match=sentence):
        client.start_rollout(ref, force=True, reason="a test")


def test_a_share_out_of_range_is_refused(client, second):
    with pytest.raises(InvalidInput, match="percent is 101"):
        client.start_rollout("generator-second", percent=101, force=True, reason="a test")


def test_only_one_rollout_at_a_time_in_a_slot(client, second, registry, tmp_path):
    client.start_rollout("generator-second", force=True, reason="a test")
    registry.publish(
        save_generator(tmp_path / "third", 12), kind="generator", format="diffusers", name="generator-third"
    )
    with pytest.raises(FailedPrecondition):
        client.start_rollout("generator-third", force=True, reason="a test")


def test_the_reward_model_is_swapped_in_the_same_way(client, registry, models):
    before = client.get_version("reward-judge")
    after = registry.publish(models / "other", kind="reward", format="reward", name="reward-other")
    rollout = client.start_rollout("reward-other", percent=100, force=True, reason="a test")
    list(client.watch_rollout(rollout.rollout_id))
    assert client.generate_images("neutrophil").reward_version == after.digest
    old = client.generate_images("neutrophil", reward_version="reward-judge")
    assert old.reward_version == before.digest
    client.roll_back_rollout(rollout.rollout_id)
    started = time.monotonic()
    while client.generate_images("neutrophil").reward_version != before.digest:
        assert time.monotonic() < started + 60


def test_lineage_and_serving_are_told(client, first):
    assert [version.name for version in client.get_lineage("generator-first")] == ["generator-first"]
    slots = client.get_serving().slots
    assert [slot.slot for slot in slots] == ["generator", "reward"]
    assert slots[0].replicas[0].ok
    assert {version.name for version in client.list_versions(kind="reward")} >= {"reward-judge"}


def test_what_an_evaluation_found_is_told_with_the_version(client, registry, second):
    assert client.get_version(second.digest).evidence == {}
    found = {
        "gate": {"verdict": "refuse", "reasons": ["coverage fell"]},
        "figures": {"plausible": {"low": None}},
    }
    registry.attach_evidence(second.digest, found)
    assert client.get_version(second.digest).evidence == found
    assert all(version.evidence == {} for version in client.list_versions())


def test_a_version_without_evidence_is_stopped_at_the_gate_and_a_dry_run_says_so(client, second):
    with pytest.raises(FailedPrecondition, match="generator-first.* serves"):
        client.start_rollout("generator-second", steps=(5, 25, 100), dry_run=True)
    preview = client.start_rollout("generator-second", force=True, reason="a test", dry_run=True)
    assert (preview.rollout_id, preview.percent) == ("", 5)
    assert "compared with" in preview.progress.gate["refusal"]
    assert not list(client.list_rollouts(state="ACTIVE"))


def test_a_pinned_version_serves_whoever_asks_in_the_middle_of_a_rollout(client, first, second):
    client.start_rollout("generator-second", percent=100, force=True, reason="a test")
    pinned = client.generate_images("neutrophil", steps=1, version="generator-first")
    assert pinned.generator_version == first.digest


def test_a_sticky_rollout_keeps_each_client_on_one_side(client, first, second):
    client.start_rollout("generator-second", percent=50, sticky=True, force=True, reason="a test")
    until(lambda: client.get_serving("generator").slots[0].converged)
    drawn = {client.generate_images("monocyte", steps=1, score=False).generator_version for _ in range(12)}
    assert len(drawn) == 1


def test_a_served_image_is_drawn_again_and_a_tampered_one_is_named(system, client):
    served = [
        client.generate_images("neutrophil", seed=number, steps=4, sampler=sampler).images[0]
        for number, sampler in enumerate(("ddim", "euler", "dpm++2m"))
    ]
    for image in served:
        replay = client.replay_image(image.digest)
        assert replay.same and replay.generator_version == image.generator_version
        assert apart(replay.data, image.data) <= 1
    path = system.folder.blobs / image.digest[:2] / image.digest[2:]
    whole = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(whole[:-1] + b"x")
    with pytest.raises(DataLoss, match=image.digest):
        client.replay_image(image.digest)
    path.write_bytes(whole)


def test_the_account_says_what_served_who_decided_and_that_the_log_is_whole(client, first, second):
    before = datetime.now(timezone.utc)
    rollout = client.start_rollout("generator-second", percent=100, force=True, reason="odd stain")
    slot = client.get_serving_history(slot="generator").slots[0]
    assert (slot.champion_version, slot.rollout_id) == (second.digest, rollout.rollout_id)
    assert (slot.decided_by, slot.reason, slot.gate["verdict"]) == ("operator", "odd stain", "forced")
    assert client.get_serving_history(at=before, slot="generator").slots[0].champion_version == first.digest
    entry = next(client.list_audit_entries(limit=1))
    assert (entry.action, entry.subject, entry.details["forced"]) == (
        "rollout start",
        rollout.rollout_id,
        "odd stain",
    )
    verdict = client.verify_audit()
    assert verdict.intact and verdict.head == client.get_serving().audit_head == entry.digest


def test_an_automatic_rollout_is_measured_in_the_shadow_and_ends_where_the_operator_says(
    client, first, second
):
    """The judge compares what the champion served with what the candidate draws, and nobody gets the latter."""
    rollout = client.start_rollout("generator-second", shadow=True, hold_s=3600, force=True, reason="a test")
    assert (rollout.percent, rollout.progress.automatic) == (0, True)
    until(lambda: client.get_serving("generator").slots[0].converged)
    versions = set()

    def measured() -> bool:
        versions.add(client.generate_images("neutrophil", steps=1).generator_version)
        seen = client.get_rollout(rollout.rollout_id)
        return bool(seen.progress.evidence.get("pairs")) or seen.state == "ROLLED_BACK"

    until(measured)
    assert versions == {first.digest}
    paused = client.get_rollout(rollout.rollout_id)
    if paused.state == "ACTIVE":
        assert client.pause_rollout(rollout.rollout_id).progress.paused
        began = time.monotonic()
        client.roll_back_rollout(rollout.rollout_id)
        until(lambda: client.get_serving("generator").slots[0].converged)
        assert time.monotonic() - began < 30  # on a machine that is busy with other things
