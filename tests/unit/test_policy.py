from __future__ import annotations

from pathlib import Path

import pytest

from services.rollout.controller import RolloutController, RolloutOptions
from services.rollout.policy import Hold, Observation, RollBack, converged, decide, next_percent
from vouch.errors import CorruptVersion, FailedPrecondition, InvalidInput, NotFound
from vouch.settings import Settings
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types.clock import now
from vouch.types.rollout import Rollout
from vouch.types.serving import ReplicaReport, Serving
from vouch.types.version import Version

SERVING = Serving(slot="generator", champion="a", candidate="b", percent=5, revision=7)


BY_HAND = Hold("moves by an operator's word")


def rollout(state: str = "ACTIVE") -> Rollout:
    return Rollout(
        rollout_id="rollout-1", slot="generator", version="b", previous_version="a", state=state, percent=5, events=(),
        created_at=now(), updated_at=now(),
    )  # fmt: skip


def report(replica: str = "r1", *, revision: int = 7, ok: bool = True, reason: str = "") -> ReplicaReport:
    return ReplicaReport(slot="generator", replica_id=replica, revision=revision, ok=ok, reason=reason)


@pytest.mark.parametrize(
    ("reports", "decision"),
    [
        ((), BY_HAND),
        ((report(),), BY_HAND),
        ((report(), report("r2", revision=6)), BY_HAND),
        ((report(), report("r2", ok=False, revision=6, reason="old news")), BY_HAND),
        (
            (report(), report("r2", ok=False, reason="too big")),
            RollBack("replica r2 could not load it: too big"),
        ),
    ],
    ids=["nobody yet", "in step", "one behind", "an old refusal", "a refusal"],
)
def test_a_candidate_that_a_replica_refuses_is_taken_out(reports, decision):
    assert decide(Observation(rollout=rollout(), serving=SERVING, reports=reports)) == decision


@pytest.mark.parametrize("state", ["COMPLETED", "ROLLED_BACK"])
def test_a_rollout_that_has_ended_is_left_alone(state):
    seen = Observation(rollout=rollout(state), serving=SERVING, reports=(report(ok=False),))
    assert decide(seen) == Hold()


@pytest.mark.parametrize(
    ("present", "following"), [(0, 5), (5, 25), (10, 25), (25, 100), (60, 100), (100, 100)]
)
def test_the_share_grows_by_steps(present, following):
    assert next_percent(present) == following


def test_replicas_are_in_step_when_they_serve_this_very_revision():
    assert converged(SERVING, [report(), report("r2", revision=6), report("r3", ok=False)]) == 1


class System:
    """A controller on a real catalog and registry, with two generators published and one serving."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.catalog = Catalog(settings.resolved_catalog_url)
        self.models = settings.folder.models
        self.registry = Registry(self.catalog, self.models, settings.models_url)
        self.hurried: list[str] = []
        self.first, self.second = self.publish(folder, "one"), self.publish(folder, "two")
        self.catalog.serving.ensure("generator", self.first.digest)
        self.controller = RolloutController(self.catalog, self.registry, self.hurried.append)

    def publish(self, folder: Path, name: str, kind: str = "generator") -> Version:
        source = folder / name
        source.mkdir()
        (source / "weights.safetensors").write_bytes(name.encode() * 100)
        return self.registry.publish(source, kind=kind, format="diffusers", name=name)

    def start(self, ref: str, request_id: str, reason: str) -> Rollout:
        options = RolloutOptions(ref=ref, force=True, reason=reason or "a test")
        return self.controller.start(options, "operator", request_id)

    def refuse(self, reason: str) -> None:
        revision = self.catalog.serving.get("generator").revision
        self.catalog.reports.put(report(revision=revision, ok=False, reason=reason))


@pytest.fixture
def system(tmp_path, settings):
    system = System(tmp_path, settings)
    yield system
    system.catalog.close()


def test_a_rollout_starts_small_hurries_the_replicas_and_moves_on_by_steps(system):
    rollout = system.start("two", "r1", "better cells")
    assert (rollout.percent, system.catalog.serving.get("generator").candidate) == (5, system.second.digest)
    for request_id, percent in (("r2", 25), ("r3", 100)):
        rollout = system.controller.promote(rollout.rollout_id, None, "operator", request_id, "")
        assert rollout.percent == percent
    assert (rollout.state, system.catalog.serving.get("generator").champion) == (
        "COMPLETED",
        system.second.digest,
    )
    assert system.hurried == ["generator"] * 3


def test_a_repeated_promotion_moves_on_once(system):
    rollout = system.start("two", "r1", "")
    once = system.controller.promote(rollout.rollout_id, None, "operator", "r2", "")
    assert system.controller.promote(rollout.rollout_id, None, "operator", "r2", "") == once


def test_a_damaged_version_never_reaches_a_replica(system):
    file = system.models / system.second.digest / "weights.safetensors"
    file.chmod(0o644)
    file.write_bytes(b"other")
    with pytest.raises(CorruptVersion, match=r"weights\.safetensors"):
        system.start("two", "r1", "")
    assert system.catalog.serving.get("generator").candidate == ""


def test_what_does_not_serve_cannot_be_rolled_out(system, tmp_path):
    system.publish(tmp_path, "judge", kind="judge")
    with pytest.raises(InvalidInput, match="only a generator or a reward model can serve"):
        system.start("judge", "r1", "")
    with pytest.raises(NotFound):
        system.start("nowhere", "r1", "")
    with pytest.raises(FailedPrecondition):
        system.start("one", "r1", "")


def test_the_controller_takes_out_what_a_replica_cannot_load(system):
    rollout = system.start("two", "r1", "")
    system.controller.step()
    assert system.catalog.rollouts.get(rollout.rollout_id).state == "ACTIVE"
    system.refuse("no memory left")
    system.controller.step()
    ended = system.catalog.rollouts.get(rollout.rollout_id)
    assert (ended.state, ended.events[-1].actor) == ("ROLLED_BACK", "system")
    assert "no memory left" in ended.events[-1].reason
    assert system.catalog.serving.get("generator").champion == system.first.digest
