"""The candidate beside the champion: what is drawn again, what is counted, and what survives a restart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from services.rollout.analysis import Events, PairCounts
from services.rollout.comparison import AT_ONCE, Comparison, replay_request
from services.rollout.evidence import Evidence, prove
from services.rollout.experts import expert_pairs, in_order
from services.rollout.meter import RequestEventCounter
from services.rollout.reading import RoleMetrics, slow_edge
from services.rollout.replay import Replays
from vouch.errors import DataLoss, Exhausted, FailedPrecondition, InvalidInput, NotFound
from vouch.formats import images
from vouch.storage.blobs import BlobStore
from vouch.storage.catalog import rollouts
from vouch.types.clock import now
from vouch.types.generation import GeneratedImage, GenerationRequest
from vouch.types.image import ImageRecord
from vouch.types.rollout import Rollout
from vouch.types.rollout_plan import RolloutPlan

CHAMPION, CANDIDATE = "a" * 64, "b" * 64


def painted(level: int) -> bytes:
    return images.encode_png(np.full((4, 4, 3), level, np.uint8))


class Painter:
    """Draws a flat grey: the seed, and 100 more with the candidate. fails: errors by version."""

    def __init__(self) -> None:
        self.orders: list[GenerationRequest] = []
        self.fails: dict[str, Exception] = {}
        self.recovers = False

    def __call__(self, order: GenerationRequest) -> Sequence[GeneratedImage]:
        self.orders.append(order)
        error = self.fails.get(order.version)
        if error is not None:
            self.fails = {} if self.recovers else self.fails
            raise error
        return [
            GeneratedImage(
                index=0, data=painted(level(order.version, order.seeds[0])), media_type="image/png", width=4,
                height=4, prompt=order.prompt, seed=order.seeds[0], sampler=order.sampler, steps=order.steps or 4,
                guidance=2.0, guidance_method="cfg", guidance_start=0.0, guidance_stop=1.0, adapter_start=0.0,
                generator_version=order.version, generator_name="",
            )
        ]  # fmt: skip


def level(version: str, seed: int) -> int:
    return seed + (100 if version == CANDIDATE else 0)


class BrightnessJudge:
    """Remembers what it was shown; the brighter of the two is worse."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, int]] = []

    def compare(self, prompt: str, champion: bytes, candidate: bytes) -> Mapping[str, str]:
        one, other = (int(images.decode(data)[0, 0, 0]) for data in (champion, candidate))
        self.shown.append((one, other))
        return {"plausible": "worse" if other > one else "tie"}


class World:
    """A rollout in a real catalog, and a comparison of it."""

    def __init__(self, catalog, blobs: BlobStore) -> None:
        self.catalog, self.blobs, self.painter, self.judge = catalog, blobs, Painter(), BrightnessJudge()
        catalog.serving.ensure("generator", CHAMPION)
        plan = RolloutPlan(steps=(5, 25, 100), hold_s=60.0)
        self.rollout = catalog.rollouts.start(
            "generator", CANDIDATE, percent=5, actor="ops", request_id="r", plan=plan
        )
        self.comparison = self.another()

    def another(self) -> Comparison:
        comparison = Comparison(self.catalog, self.blobs, self.painter, self.judge)
        comparison.evidence(self.rollout)
        return comparison

    def serve(self, version: str, seed: int) -> ImageRecord:
        data = painted(level(version, seed))
        record = ImageRecord(
            digest=self.blobs.put(data), media_type="image/png", width=4, height=4, size_bytes=len(data),
            source="generated", prompt="neutrophil", label="neutrophil", seed=seed, sampler="ddim eta=0.5",
            steps=7, guidance=3.0, guidance_method="cfg_pp", generator_version=version,
        )  # fmt: skip
        self.catalog.images.add([record])
        return record

    @property
    def counted(self) -> PairCounts:
        return self.comparison.evidence(self.rollout).pairs.get("plausible", PairCounts())


@pytest.fixture
def world(catalog, blobs):
    return World(catalog, blobs)


def test_what_either_side_served_is_drawn_again_by_the_other_from_the_same_record(world):
    world.serve(CHAMPION, 3)
    world.serve(CANDIDATE, 4)
    assert world.comparison.compare_some() == 2
    assert world.judge.shown == [(3, 103), (4, 104)], "champion first, whoever served"
    order = world.painter.orders[0]
    assert (order.version, order.seeds, order.steps, order.guidance) == (CANDIDATE, (3,), 7, 3.0)
    assert (order.sampler, order.eta, order.guidance_method) == ("ddim", 0.5, "cfg_pp")
    assert world.painter.orders[1].version == CHAMPION
    assert world.counted == PairCounts(worse=2)


def test_each_image_is_compared_once_and_a_backlog_is_left(world):
    for seed in range(AT_ONCE + 3):
        world.serve(CHAMPION, seed)
    assert world.comparison.compare_some() == AT_ONCE
    assert world.comparison.compare_some() == 0
    assert [one for one, _ in world.judge.shown] == [3, 4, 5, 6], "the newest"


@pytest.mark.parametrize("error", [InvalidInput("it never learned the word"), RuntimeError("nan")])
def test_a_version_that_alone_cannot_draw_what_the_other_served_loses_the_pair(world, error):
    world.serve(CHAMPION, 3)
    world.painter.fails[CANDIDATE] = error
    assert world.comparison.compare_some() == 1
    evidence = world.comparison.evidence(world.rollout)
    assert evidence.pairs == {"plausible": PairCounts(worse=1), "errors": PairCounts(worse=1)}
    world.serve(CANDIDATE, 4)
    world.painter.fails = {CHAMPION: error}
    assert world.comparison.compare_some() == 1
    assert world.counted == PairCounts(worse=1, better=1)


@pytest.mark.parametrize("fails", [{CANDIDATE: Exhausted("the queue is full")}, "both"], ids=["busy", "both"])
def test_a_draw_that_fails_for_no_fault_of_the_candidate_is_tried_again(world, fails):
    world.serve(CHAMPION, 3)
    broken = RuntimeError("no replica answers")
    world.painter.fails = {CHAMPION: broken, CANDIDATE: broken} if fails == "both" else fails
    with pytest.raises((RuntimeError, Exhausted)):
        world.comparison.compare_some()
    assert world.counted == PairCounts()
    world.painter.fails = {}
    assert world.comparison.compare_some() == 1
    assert world.counted == PairCounts(worse=1)


def test_a_failure_that_does_not_repeat_counts_for_nobody(world):
    world.serve(CHAMPION, 3)
    world.painter.fails[CANDIDATE] = RuntimeError("a replica ended")
    world.painter.recovers = True
    world.comparison.compare_some()
    assert world.comparison.evidence(world.rollout).pairs["errors"] == PairCounts(ties=1)


def test_an_image_that_is_lost_does_not_stop_the_comparison(world):
    lost = world.serve(CHAMPION, 3)
    world.blobs._path(lost.digest).unlink()
    world.serve(CHAMPION, 4)
    assert world.comparison.compare_some() == 2
    assert world.counted == PairCounts(worse=1)


def test_images_from_before_the_rollout_say_nothing_of_it(world):
    world.serve(CHAMPION, 1)
    late = world.another()
    assert late.compare_some() == 0


def test_a_successor_goes_on_with_what_was_counted_and_counts_nothing_twice(world):
    fence = world.catalog.controllers.take_over("rollout")
    world.serve(CHAMPION, 1)
    world.comparison.compare_some()
    kept = {**world.comparison.evidence(world.rollout).as_json(), **world.comparison.notes()}
    world.catalog.rollouts.progress(
        world.rollout.rollout_id, fence=fence, held_percent=5, held_s=1.0, evidence=kept
    )
    world.rollout = world.catalog.rollouts.get(world.rollout.rollout_id)
    world.comparison = world.another()
    assert world.counted == PairCounts(worse=1)
    assert world.comparison.compare_some() == 0
    world.serve(CHAMPION, 2)
    world.comparison.compare_some()
    assert world.counted == PairCounts(worse=2)


def test_a_rollout_that_is_moved_by_hand_is_not_compared(catalog, blobs):
    catalog.serving.ensure("generator", CHAMPION)
    plan = RolloutPlan(steps=(100,), hold_s=1.0, automatic=False)
    catalog.rollouts.start("generator", CANDIDATE, percent=5, actor="ops", request_id="r", plan=plan)
    comparison = Comparison(catalog, blobs, Painter(), BrightnessJudge())
    assert comparison.compare_some() == 0


def test_a_rollout_of_a_reward_model_beside_it_neither_counts_nor_disturbs(world):
    catalog = world.catalog
    catalog.serving.ensure("reward", "c" * 64)
    plan = RolloutPlan(steps=(5, 100), hold_s=1.0)
    reward = catalog.rollouts.start(
        "reward", "d" * 64, percent=5, actor="ops", request_id="reward", plan=plan
    )
    world.serve(CHAMPION, 1)
    assert world.comparison.compare_some() == 1
    assert world.comparison.evidence(reward) == Evidence()
    assert world.counted == PairCounts(worse=1), "what was counted of the generator is still there"


class Counted:
    """Requests that a test sets."""

    def __init__(self, events: Mapping[str, tuple[Events, ...]]) -> None:
        self._events = events

    def events(self, rollout: Rollout) -> Mapping[str, tuple[Events, ...]]:
        return self._events

    def notes(self) -> dict[str, object]:
        return {"requests": 5}


def test_without_a_judge_requests_and_experts_still_count(world, domain, make_rating):
    failing = {"errors": (Events(9, 3, 0.05),)}
    comparison = Comparison(world.catalog, world.blobs, world.painter, None, Counted(failing))
    comparison.evidence(world.rollout)
    for version, verdict in ((CHAMPION, "plausible"), (CANDIDATE, "implausible")):
        image = world.serve(version, 1)
        world.catalog.ratings.record(make_rating(image.digest, verdict=verdict), domain)
    assert comparison.compare_some() == 0
    assert world.painter.orders == []
    evidence = comparison.evidence(world.rollout)
    assert evidence == Evidence(pairs={"experts": PairCounts(worse=1)}, events=failing)
    assert prove(evidence).harmful
    assert comparison.notes()["requests"] == 5


def test_people_alone_are_experts_and_their_verdicts_are_paired_in_order(world, domain, make_rating):
    rows = [
        (CHAMPION, "plausible", "human"), (CANDIDATE, "implausible", "human"), (CHAMPION, "unsure", "human"),
        (CHAMPION, "plausible", "human"), (CANDIDATE, "plausible", "human"), (CANDIDATE, "implausible", "simulated"),
    ]  # fmt: skip
    for seed, (version, verdict, kind) in enumerate(rows):
        image = world.serve(version, seed)
        world.catalog.ratings.record(make_rating(image.digest, verdict=verdict, kind=kind), domain)
    assert expert_pairs(world.catalog, world.rollout, after=0) == PairCounts(worse=1, ties=1)
    assert world.comparison.evidence(world.rollout).pairs["experts"] == PairCounts(worse=1, ties=1)


def test_a_days_clock_that_is_set_back_brings_no_older_verdict_into_a_rollout(
    catalog, blobs, domain, make_rating, monkeypatch
):
    world = World(catalog, blobs)
    for version in (CHAMPION, CANDIDATE):
        image = world.serve(version, 1)
        verdict = "plausible" if version == CHAMPION else "implausible"
        catalog.ratings.record(make_rating(image.digest, verdict=verdict), domain)
    catalog.rollouts.roll_back(world.rollout.rollout_id, actor="ops", request_id="back")
    yesterday = now() - timedelta(days=1)
    monkeypatch.setattr(rollouts, "now", lambda: yesterday)
    plan = RolloutPlan(steps=(5, 25, 100), hold_s=60.0)
    again = catalog.rollouts.start(
        "generator", CANDIDATE, percent=5, actor="ops", request_id="two", plan=plan
    )
    assert "experts" not in world.comparison.evidence(again).pairs


def test_a_successor_counts_the_experts_that_its_predecessor_counted(world, domain, make_rating):
    for version in (CHAMPION, CANDIDATE):
        image = world.serve(version, 1)
        world.catalog.ratings.record(make_rating(image.digest, verdict="plausible"), domain)
    fence = world.catalog.controllers.take_over("rollout")
    world.catalog.rollouts.progress(
        world.rollout.rollout_id, fence=fence, held_percent=5, held_s=0.0, evidence=world.comparison.notes()
    )
    kept = world.catalog.rollouts.get(world.rollout.rollout_id)
    successor = Comparison(world.catalog, world.blobs, world.painter, world.judge)
    assert successor.evidence(kept).pairs["experts"] == PairCounts(ties=1)


def test_verdicts_without_a_partner_wait():
    assert in_order([True, False, True], [False]) == PairCounts(worse=1)
    assert in_order([False], [True, True]) == PairCounts(better=1)
    assert in_order([], [True]) == PairCounts()


def test_a_replay_draws_with_the_version_that_drew_and_compares_every_pixel(world):
    image = world.serve(CHAMPION, 9)
    world.catalog.versions = _Known()
    replay = Replays(world.catalog, world.blobs, world.painter).replay(image.digest)
    assert (replay.same, replay.equal, world.painter.orders[-1].version) == (True, True, CHAMPION)
    other = Replays(world.catalog, world.blobs, lambda order: world.painter(_with_seed(order, 11)))
    assert (other.replay(image.digest).largest_difference, other.replay(image.digest).same) == (2, False)
    near = Replays(world.catalog, world.blobs, lambda order: world.painter(_with_seed(order, 10)))
    assert (near.replay(image.digest).same, near.replay(image.digest).equal) == (True, False)


def test_a_tampered_file_is_named_and_what_no_generator_drew_is_refused(world, make_image):
    replays = Replays(world.catalog, world.blobs, world.painter)
    image = world.serve(CHAMPION, 9)
    path = world.blobs._path(image.digest)
    if world.blobs._local:  # it lies there read-only
        path.chmod(0o600)
    path.write_bytes(painted(10))
    with pytest.raises(DataLoss, match=image.digest):
        replays.replay(image.digest)
    real = make_image(1, source="real", seed=None)
    world.catalog.images.add([real])
    with pytest.raises(FailedPrecondition, match="not drawn by a generator"):
        replays.replay(real.digest)
    with pytest.raises(NotFound):
        replays.replay("c" * 64)


class _Known:
    """Every version is registered."""

    def get(self, ref: str) -> str:
        return ref


def _with_seed(order: GenerationRequest, seed: int) -> GenerationRequest:
    return replace(order, seeds=(seed,))


def test_a_sampler_that_no_request_can_choose_is_left_to_the_version(world):
    record = ImageRecord(
        digest="d" * 64, media_type="image/png", width=1, height=1, size_bytes=1, source="generated", seed=1,
        sampler="PNDMScheduler", steps=5,
    )  # fmt: skip
    assert (replay_request(record, CHAMPION).sampler, replay_request(record, CHAMPION).eta) == ("", 0.0)


def reading(failed: float, *times: float) -> RoleMetrics:
    edges = (0.1, 0.5, 1.0, float("inf"))
    return RoleMetrics(failed, {edge: float(sum(one <= edge for one in times)) for edge in edges})


BEFORE = {
    "baseline": reading(2, *[0.05] * 90),
    "champion": reading(3, *[0.05] * 6, *[0.3] * 4),
    "candidate": reading(0),
}
AFTER = {
    **BEFORE,
    "champion": reading(5, *[0.05] * 16, *[0.3] * 6),
    "candidate": reading(1, 0.3, 0.05),
}
COUNTED = {
    "errors": (Events(candidate=1, champion=2, share=0.05, good=14),),
    "latency": (Events(candidate=1, champion=2, share=0.05, good=14),),
}


class Readings:
    """What replicas have counted so far."""

    def __init__(self) -> None:
        self.now = BEFORE

    def __call__(self) -> dict[str, RoleMetrics]:
        return self.now


def test_failures_and_slow_requests_are_counted_from_the_first_look_on(world):
    readings = Readings()
    counter = RequestEventCounter(readings)
    assert slow_edge(BEFORE) == 0.1
    assert counter.events(world.rollout) == {}
    readings.now = AFTER
    assert counter.events(world.rollout) == COUNTED
    assert counter.events(world.rollout) == COUNTED, "each once"


def test_each_share_is_a_stage_and_the_change_belongs_to_none(world):
    readings = Readings()
    counter = RequestEventCounter(readings)
    counter.events(world.rollout)
    readings.now = AFTER
    at_25 = replace(world.rollout, percent=25)
    assert counter.events(at_25) == {}
    readings.now = {**AFTER, "candidate": reading(4, 0.3, 0.05)}
    assert counter.events(at_25)["errors"] == (Events(candidate=3, champion=0, share=0.25),)


def test_a_successor_goes_on_with_the_requests_and_the_edge_of_its_predecessor(world):
    readings = Readings()
    first = RequestEventCounter(readings)
    first.events(world.rollout)
    readings.now = AFTER
    events = first.events(world.rollout)
    kept = {**Evidence(events=events).as_json(), **json.loads(json.dumps(first.notes()))}
    rollout = replace(world.rollout, plan=replace(world.rollout.plan, evidence=kept))
    more = {**AFTER, "champion": reading(5, *[0.05] * 16, *[0.3] * 106), "candidate": reading(2, 0.3, 0.05)}
    readings.now = more
    assert slow_edge(more) == 0.5, "what a new test would take"
    counted = RequestEventCounter(readings).events(rollout)
    assert counted["errors"] == (Events(candidate=2, champion=2, share=0.05, good=114),)
    assert counted["latency"] == (Events(candidate=1, champion=102, share=0.05, good=15),)


def test_counters_that_begin_anew_take_nothing_away(world):
    readings = Readings()
    counter = RequestEventCounter(readings)
    counter.events(world.rollout)
    readings.now = AFTER
    counter.events(world.rollout)
    readings.now = {role: reading(0) for role in AFTER}
    assert counter.events(world.rollout) == COUNTED


@pytest.mark.parametrize("plan", [{"sticky": True}, {"shadow": True}])
def test_nothing_is_counted_where_requests_are_not_assigned_one_by_one(world, plan):
    readings = Readings()
    counter = RequestEventCounter(readings)
    percent = 0 if "shadow" in plan else 5
    rollout = replace(world.rollout, percent=percent, plan=replace(world.rollout.plan, **plan))
    counter.events(rollout)
    readings.now = AFTER
    assert counter.events(rollout) == {}


def test_slow_requests_are_counted_once_the_champion_has_shown_what_is_slow(world):
    few = {"baseline": reading(0), "champion": reading(0, *[0.05] * 19), "candidate": reading(0)}
    enough = {**few, "champion": reading(0, *[0.05] * 20)}
    readings = Readings()
    counter = RequestEventCounter(readings)
    for readings.now in (few, enough):
        counted = counter.events(world.rollout)
    assert [*counted] == ["errors"]
    readings.now = {**enough, "candidate": reading(0, 0.3)}
    assert counter.events(world.rollout)["latency"] == (Events(candidate=1, champion=0, share=0.05),)


def test_the_edge_of_slow_requests_is_finite():
    slow = {"baseline": reading(0), "champion": reading(0, *[5.0] * 30)}
    assert slow_edge(slow) == 1.0
    assert slow["champion"].slower_than(1.0) == 30
