"""The controller on a real catalog: it survives its death at any line, and there are never two."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest

from services.rollout.analysis import Events, PairCounts
from services.rollout.app import RolloutService
from services.rollout.controller import SYSTEM, RolloutController, RolloutOptions
from services.rollout.evidence import COUNTS, REQUIRED, Evidence
from services.rollout.policy import Hold, Promote
from tests.fakes import FakeClock
from vouch.errors import Exhausted, FailedPrecondition, InvalidInput, VouchError
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry
from vouch.types import clock
from vouch.types.rollout import Rollout
from vouch.types.serving import ReplicaReport
from vouch.types.version import Version

NOT_WORSE = Evidence(
    pairs={
        name: PairCounts(150, 150, 2700) if name == "plausible" else PairCounts(ties=3000)
        for name in REQUIRED
    },
    events={name: (Events(0, 0, 0.05, good=5000),) for name in COUNTS},
)
WORSE = Evidence(pairs={"plausible": PairCounts(worse=60, better=5, ties=200)})


class Killed(BaseException):
    """The process ends here."""


class Observed:
    """Evidence that a test sets."""

    def __init__(self) -> None:
        self.now = Evidence()
        self.meanwhile: Callable[[], object] | None = None
        """Happens once, between the controller's look and its decision."""

    def evidence(self, rollout: Rollout) -> Evidence:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return self.now

    def notes(self) -> dict[str, Any]:
        return {"cursor": 5}


class System:
    """Two generators published, the first serving, one replica that follows whatever is desired."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder, self.catalog = folder, Catalog(url)
        self.registry = Registry(self.catalog, folder / "models")
        self.observed, self.clock = Observed(), FakeClock()
        self.hurried: list[str] = []
        self.first, self.second = self._publish(folder, "one"), self._publish(folder, "two")
        self.catalog.serving.ensure("generator", self.first.digest)
        self.evaluate("pass")
        self.controller = self.new_controller()

    def _publish(self, folder: Path, name: str) -> Version:
        source = folder / name
        source.mkdir()
        (source / "weights.safetensors").write_bytes(name.encode() * 100)
        return self.registry.publish(source, kind="generator", format="diffusers", name=name)

    def evaluate(self, verdict: str, against: Version | None = None) -> None:
        gate = {"verdict": verdict, "reasons": ["coverage fell by 9 points"], "checks": []}
        other = against or self.first
        told = {
            "gate": gate,
            "against": other.digest,
            "against_name": other.name,
            "measured_at": "2026-11-24",
        }
        self.registry.attach_evidence("two", told)

    def new_controller(self, system: str = "this") -> RolloutController:
        return RolloutController(
            self.catalog, self.registry, self.hurried.append, observer=self.observed, system=system,
            clock=self.clock,
        )  # fmt: skip

    def start(self, **options: Any) -> Rollout:
        values = {"ref": "two", "steps": (5, 25, 100), "hold_s": 60.0, **options}
        return self.controller.start(RolloutOptions(**values), "ops", "")

    def follow(self) -> None:
        """The replica serves what is desired."""
        serving = self.catalog.serving.get("generator")
        self.catalog.reports.put(
            ReplicaReport(slot="generator", replica_id="r1", revision=serving.revision, ok=True)
        )

    def pass_s(self, seconds: float, controller: RolloutController | None = None) -> None:
        """Looks every five seconds, as long as it takes."""
        for _ in range(round(seconds / 5)):
            self.clock.advance(5)
            self.follow()
            (controller or self.controller).step()

    def history(self, rollout: Rollout) -> list[tuple[str, str]]:
        """Who did what, by the audit log, which has to be whole."""
        assert self.catalog.audit.verify().broken_at is None
        entries = self.catalog.audit.entries()
        return [(entry.actor, entry.action) for entry in entries if entry.subject == rollout.rollout_id]

    @property
    def serving(self) -> tuple[str, str, int]:
        serving = self.catalog.serving.get("generator")
        return serving.champion, serving.candidate, serving.percent


class SetClock:
    """The day's time after somebody has set it."""

    def __init__(self, jump: timedelta) -> None:
        self._jump = jump

    def now(self, zone: tzinfo) -> datetime:
        return datetime.now(zone) + self._jump


@pytest.fixture
def system(catalog_url: str, tmp_path: Path) -> Iterator[System]:
    system = System(catalog_url, tmp_path)
    yield system
    system.catalog.close()


def test_a_proven_candidate_goes_through_its_steps_by_itself(system):
    rollout = system.start()
    system.observed.now = NOT_WORSE
    system.follow()
    system.controller.step()
    system.pass_s(55)
    assert system.serving[2] == 5
    system.pass_s(10)
    assert system.serving[2] == 25
    system.pass_s(70)
    ended = system.catalog.rollouts.get(rollout.rollout_id)
    assert (ended.state, system.serving) == ("COMPLETED", (system.second.digest, "", 0))
    assert [(event.actor, event.percent) for event in ended.events] == [
        ("ops", 5),
        ("system", 25),
        ("system", 100),
    ]
    assert "e = " in ended.events[1].reason
    assert "at most 0.05 false promotions are expected so far" in ended.events[1].reason


def test_a_worse_candidate_is_taken_out_at_the_next_look(system):
    rollout = system.start()
    system.observed.now = WORSE
    system.controller.step()
    ended = system.catalog.rollouts.get(rollout.rollout_id)
    assert (ended.state, ended.events[-1].actor) == ("ROLLED_BACK", "system")
    assert "worse by plausible" in ended.events[-1].reason
    assert system.serving == (system.first.digest, "", 0)
    system.pass_s(600)
    assert system.serving == (system.first.digest, "", 0), "nothing retries by itself after an abort"


@pytest.mark.parametrize("error", [RuntimeError("a torn metrics file"), Exhausted("no connection is free")])
def test_a_look_that_fails_is_followed_by_one_that_rolls_back(system, error):
    rollout = system.start()
    system.observed.now = WORSE

    def fail() -> None:
        raise error

    system.observed.meanwhile = fail
    system.controller.step()
    assert system.catalog.rollouts.get(rollout.rollout_id).state == "ACTIVE"
    system.controller.step()
    assert system.catalog.rollouts.get(rollout.rollout_id).state == "ROLLED_BACK"


def test_the_service_says_when_nobody_watches_rollouts_any_more(system):
    service = RolloutService(system.catalog, system.controller)
    assert service.alive
    service._stop.set()
    service._watch.join(20)
    assert not service.alive


def test_a_paused_rollout_stays_until_it_is_resumed(system):
    rollout = system.start()
    system.observed.now = NOT_WORSE
    system.controller.set_paused(rollout.rollout_id, True, "ops", "p1", "waiting for experts")
    system.pass_s(300)
    assert system.serving[2] == 5
    system.controller.set_paused(rollout.rollout_id, False, "ops", "p2", "")
    system.pass_s(70)
    assert system.serving[2] == 25
    actions = [event.action for event in system.catalog.rollouts.get(rollout.rollout_id).events]
    assert actions == ["start", "pause", "resume", "promote"]


def test_the_hold_counts_the_time_that_was_watched_and_no_other(system):
    """A stopped process watched nothing, and the day's clock is not asked."""
    system.start()
    system.observed.now = NOT_WORSE
    system.follow()
    system.controller.step()
    system.clock.advance(3600)
    system.follow()
    system.controller.step()
    assert system.serving[2] == 5


def test_a_shadow_draws_before_anybody_gets_its_images(system):
    rollout = system.start(shadow=True)
    assert system.serving == (system.first.digest, system.second.digest, 0)
    system.observed.now = NOT_WORSE
    system.follow()
    system.controller.step()
    system.pass_s(65)
    assert system.serving[2] == 5
    assert system.catalog.rollouts.get(rollout.rollout_id).plan.shadow


def test_a_sticky_rollout_says_so_to_the_replicas(system):
    system.start(sticky=True)
    assert system.catalog.serving.get("generator").sticky


def test_a_dry_run_checks_everything_and_changes_nothing(system):
    preview = system.start(dry_run=True)
    assert (preview.rollout_id, preview.percent, preview.version) == ("", 5, system.second.digest)
    assert preview.plan.gate["verdict"] == "pass"
    assert system.serving == (system.first.digest, "", 0)
    system.evaluate("refuse")
    with pytest.raises(FailedPrecondition, match="coverage fell by 9 points"):
        system.start(dry_run=True)


def test_missing_and_refused_evidence_stops_a_rollout_with_a_true_sentence(system):
    system.evaluate("refuse")
    with pytest.raises(FailedPrecondition, match="refused two: coverage fell by 9 points"):
        system.start()
    system.evaluate("pass", against=system.second)
    with pytest.raises(FailedPrecondition, match="was compared with two, and one serves"):
        system.start()
    system.registry.attach_evidence("two", {})
    with pytest.raises(FailedPrecondition, match="was not compared with one, which serves"):
        system.start()
    assert {entry.action for entry in system.catalog.audit.entries()} == {"evidence attach"}


def test_force_needs_a_reason_and_both_are_kept(system):
    system.evaluate("refuse")
    with pytest.raises(InvalidInput, match="needs a reason"):
        system.start(force=True)
    rollout = system.start(force=True, reason="the judge does not know this stain")
    plan = system.catalog.rollouts.get(rollout.rollout_id).plan
    assert plan.forced == "the judge does not know this stain"
    assert "coverage fell" in plan.gate["refusal"]
    assert system.catalog.audit.head().details["forced"] == plan.forced


def test_steps_have_to_rise_to_100(system):
    for steps in ((5, 25), (25, 5, 100), (0, 100), (5, 5, 100)):
        with pytest.raises(InvalidInput, match="must rise"):
            system.start(steps=steps)


def test_a_controller_that_wakes_after_another_has_taken_over_writes_nothing(system):
    """The first is stopped while it decides to promote; the second rolls back; the first wakes and wants to go on."""
    rollout = system.start()
    system.observed.now = NOT_WORSE
    system.follow()
    system.controller.step()
    stopped = system.controller
    seen = stopped.observe("generator")
    successor = system.new_controller()
    system.clock.advance(60)
    before = system.catalog.rollouts.get(rollout.rollout_id)
    stopped._timers["generator"].held_s = 1e6  # it would be proven and held long enough
    stopped.step()
    assert stopped.deposed
    with pytest.raises(FailedPrecondition, match="taken over"):
        stopped._keep(seen)
    assert system.catalog.rollouts.get(rollout.rollout_id) == before
    system.observed.now = WORSE
    successor.step()
    assert system.catalog.rollouts.get(rollout.rollout_id).state == "ROLLED_BACK"
    stopped.step()
    assert system.catalog.rollouts.get(rollout.rollout_id).state == "ROLLED_BACK"


def test_two_controllers_at_the_same_moment_move_a_rollout_once(system):
    system.start()
    system.observed.now = NOT_WORSE
    controllers = [system.new_controller() for _ in range(4)]
    system.follow()
    for controller in controllers:
        controller.step()
        controller._timers["generator"].held_s = 1e6
    threads = [threading.Thread(target=controller.step) for controller in controllers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert system.serving[2] == 25
    assert [controller.deposed for controller in controllers] == [True, True, True, False]


def test_a_rollout_begins_only_against_the_champion_that_its_gate_saw(system, monkeypatch):
    third = system._publish(system.folder, "three")
    gate = system.controller._gate

    def gate_while_another_becomes_champion(*seen: Any) -> dict[str, object]:
        verdict = gate(*seen)
        system.catalog.rollouts.start("generator", third.digest, percent=100, actor="chief", request_id="3")
        return verdict

    monkeypatch.setattr(system.controller, "_gate", gate_while_another_becomes_champion)
    with pytest.raises(FailedPrecondition, match="Another version has become champion") as refused:
        system.start()
    assert refused.value.reason == "CHANGED_SINCE"
    assert system.serving == (third.digest, "", 0)


def test_a_rollout_that_a_deposed_controller_decides_to_begin_is_refused(system):
    deposed, successor = system.controller, system.new_controller()
    options = RolloutOptions(ref="two", hold_s=60.0)
    with pytest.raises(FailedPrecondition, match="taken over"):
        deposed.start(options, SYSTEM, "retrain-run-1")
    assert successor.start(options, SYSTEM, "retrain-run-1").state == "ACTIVE"


def test_a_decision_from_an_older_state_of_the_slot_is_not_carried_out(system):
    """An operator moved it while the controller decided."""
    rollout = system.start()
    system.observed.now = WORSE
    seen = system.controller.observe("generator")
    system.controller.promote(rollout.rollout_id, 25, "ops", "p", "")
    with pytest.raises(FailedPrecondition, match="has changed since"):
        system.catalog.rollouts.roll_back(
            rollout.rollout_id, actor="system", request_id="x", revision=seen.serving.revision
        )
    system.controller.step()
    assert system.catalog.rollouts.get(rollout.rollout_id).state == "ROLLED_BACK"


def test_an_operator_who_rolls_back_while_a_promotion_is_decided_has_the_last_word(system):
    rollout = system.start()
    system.observed.now = NOT_WORSE
    system.follow()
    system.controller.step()
    system.pass_s(55)
    system.observed.meanwhile = lambda: system.controller.roll_back(rollout.rollout_id, "ops", "", "odd")
    system.pass_s(10)
    assert isinstance(system.controller.decision(rollout), Promote)
    assert system.serving == (system.first.digest, "", 0)
    assert system.history(rollout) == [("ops", "rollout start"), ("ops", "rollout roll_back")]
    assert not system.controller.deposed, "it goes on with the next rollout"


def test_a_promotion_that_was_decided_before_a_pause_is_not_carried_out(system):
    rollout = system.start()
    system.observed.now = NOT_WORSE
    system.follow()
    system.controller.step()
    system.pass_s(55)
    system.observed.meanwhile = lambda: system.controller.set_paused(rollout.rollout_id, True, "ops", "", "")
    system.pass_s(10)
    assert system.serving[2] == 5
    system.controller.promote(rollout.rollout_id, 25, "ops", "", "the pause binds no operator")
    assert system.serving[2] == 25


@pytest.mark.parametrize("percent", [25, 100])
def test_a_promotion_and_a_roll_back_at_the_same_moment_have_one_outcome(system, percent):
    rollout = system.start()
    moves = [
        lambda: system.controller.promote(rollout.rollout_id, percent, "ops", "on", ""),
        lambda: system.controller.roll_back(rollout.rollout_id, "chief", "back", ""),
    ]
    refused: list[VouchError] = []
    barrier = threading.Barrier(len(moves))

    def make(move: Callable[[], object]) -> None:
        barrier.wait()
        try:
            move()
        except VouchError as error:
            refused.append(error)

    threads = [threading.Thread(target=make, args=(move,)) for move in moves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended = system.catalog.rollouts.get(rollout.rollout_id)
    assert (ended.state, system.serving) == ("ROLLED_BACK", (system.first.digest, "", 0))
    promoted = [] if refused else [("ops", "rollout promote")]
    assert system.history(rollout) == [
        ("ops", "rollout start"), *promoted, ("chief", "rollout roll_back"),
    ]  # fmt: skip


@pytest.mark.parametrize("jump", [timedelta(days=1), timedelta(days=-1)], ids=["forward", "back"])
def test_a_days_clock_that_is_set_in_the_middle_of_a_rollout_changes_nothing(system, monkeypatch, jump):
    rollout = system.start()
    system.observed.now = NOT_WORSE
    system.follow()
    system.controller.step()
    system.pass_s(30)
    monkeypatch.setattr(clock, "datetime", SetClock(jump))
    system.pass_s(25)
    assert system.serving[2] == 5, "25 of 60 seconds were held after the jump, and 30 before it"
    system.pass_s(10)
    assert system.serving[2] == 25
    system.pass_s(70)
    assert system.catalog.rollouts.get(rollout.rollout_id).state == "COMPLETED"
    moves = ["start", "promote", "promote"]
    assert [action for _, action in system.history(rollout)] == [f"rollout {move}" for move in moves]


def test_a_reboot_in_the_middle_ends_on_the_old_version(system):
    rollout = system.start()
    system.observed.now = NOT_WORSE
    rebooted = system.new_controller(system="another")
    rebooted.step()
    ended = system.catalog.rollouts.get(rollout.rollout_id)
    assert (ended.state, system.serving) == ("ROLLED_BACK", (system.first.digest, "", 0))
    assert "started anew" in ended.events[-1].reason


WRITES = ("progress", "promote", "roll_back")


def _dying_at(number: int, system: System) -> Callable[[], None]:
    """Makes every write of the catalog die at the `number`-th, before it (even) or after it (odd)."""
    calls = iter(range(1_000_000))
    originals = {name: getattr(system.catalog.rollouts, name) for name in WRITES}

    def wrap(original: Any) -> Any:
        def write(*arguments: Any, **named: Any) -> Any:
            call = 2 * next(calls)
            if call == number:
                raise Killed
            result = original(*arguments, **named)
            if call + 1 == number:
                raise Killed
            return result

        return write

    for name, original in originals.items():
        setattr(system.catalog.rollouts, name, wrap(original))

    def restore() -> None:
        for name, original in originals.items():
            setattr(system.catalog.rollouts, name, original)

    return restore


@pytest.mark.parametrize("evidence", [NOT_WORSE, WORSE], ids=["better", "worse"])
def test_a_controller_that_dies_at_any_write_is_succeeded_by_one_that_ends_the_same(system, evidence):
    ends = set()
    for number in range(0, 12, 1):
        rollout = system.start(hold_s=10.0)
        system.observed.now = evidence
        restore = _dying_at(number, system)
        try:
            system.pass_s(60)
        except Killed:
            pass
        restore()
        system.controller = system.new_controller()
        system.pass_s(80)
        ended = system.catalog.rollouts.get(rollout.rollout_id)
        ends.add((ended.state, tuple((event.action, event.percent) for event in ended.events)))
        if ended.state == "COMPLETED":
            system.controller.roll_back(rollout.rollout_id, "ops", "", "next round")
        system.observed.now = Evidence()
    assert len(ends) == 1, ends
    assert system.catalog.audit.verify().broken_at is None


def test_a_successor_goes_on_with_the_seconds_that_were_held(system):
    rollout = system.start()
    system.observed.now = NOT_WORSE
    system.follow()
    system.controller.step()
    system.pass_s(50)
    assert system.catalog.rollouts.get(rollout.rollout_id).plan.held_s == pytest.approx(50)
    successor = system.new_controller()
    system.pass_s(5, successor)
    assert system.serving[2] == 5
    system.pass_s(15, successor)
    assert system.serving[2] == 25


def test_an_operators_roll_back_waits_for_nothing(system):
    rollout = system.start()
    system.controller.set_paused(rollout.rollout_id, True, "ops", "", "")
    system.hurried.clear()
    system.controller.roll_back(rollout.rollout_id, "ops", "", "odd granules")
    assert (system.serving, system.hurried) == ((system.first.digest, "", 0), ["generator"])


def test_the_last_decision_is_told(system):
    rollout = system.start()
    system.follow()
    system.controller.step()
    decision = system.controller.decision(rollout)
    assert isinstance(decision, Hold)
    assert "held for 0 of 60 s" in decision.reason


def test_a_rollout_that_is_moved_by_hand_stays_where_it_is_until_it_is_resumed(system):
    rollout = system.start(steps=(), hold_s=None)
    system.observed.now = NOT_WORSE
    system.follow()
    system.pass_s(900)
    assert system.serving[2] == 5
    assert system.catalog.rollouts.get(rollout.rollout_id).plan.automatic is False
    system.controller.set_paused(rollout.rollout_id, False, "ops", "", "")
    system.pass_s(10)
    assert system.serving[2] == 25, "it was held long enough by hand"


def test_the_refusal_of_a_replica_that_ended_before_the_controller_began_rolls_nothing_back(system):
    rollout = system.start()
    revision = system.catalog.serving.get("generator").revision
    ahead = clock.now() + timedelta(hours=1)
    refusal = ReplicaReport(
        slot="generator", replica_id="ended", revision=revision, ok=False, reported_at=ahead
    )
    system.catalog.reports.put(refusal)
    successor = system.new_controller()
    successor.step()
    assert system.catalog.rollouts.get(rollout.rollout_id).state == "ACTIVE"
    system.catalog.reports.put(replace(refusal, reported_at=ahead + timedelta(seconds=10)))
    successor.step()
    assert system.catalog.rollouts.get(rollout.rollout_id).state == "ROLLED_BACK"


def test_reports_of_replicas_that_are_gone_are_forgotten(system):
    system.follow()
    old = replace(system.catalog.reports.list()[0], replica_id="gone")
    system.catalog.reports.put(replace(old, reported_at=clock.now() - timedelta(hours=2)))
    system.controller.step()
    assert [report.replica_id for report in system.catalog.reports.list()] == ["r1"]


def test_a_reboot_leaves_a_rollout_that_is_moved_by_hand(system):
    system.start(steps=(), hold_s=None)
    system.new_controller(system="another").step()
    assert system.serving[2] == 5
