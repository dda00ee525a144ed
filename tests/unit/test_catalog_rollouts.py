import threading
import uuid
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vouch.errors import AlreadyExists, FailedPrecondition, InvalidInput, NotFound, VouchError
from vouch.types.rollout_plan import RolloutPlan

A, B, C = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def slot(catalog):
    return catalog.serving.ensure("generator", A).slot


def begin(catalog, candidate=B, percent=5, **values):
    request = {"actor": "ops", "request_id": uuid.uuid4().hex, **values}
    return catalog.rollouts.start("generator", candidate, percent=percent, **request)


def promote(catalog, rollout, percent, **values):
    request = {"actor": "ops", "request_id": uuid.uuid4().hex, **values}
    return catalog.rollouts.promote(rollout.rollout_id, percent=percent, **request)


def roll_back(catalog, rollout, **values):
    request = {"actor": "ops", "request_id": uuid.uuid4().hex, **values}
    return catalog.rollouts.roll_back(rollout.rollout_id, **request)


def served(catalog):
    serving = catalog.serving.get("generator")
    return serving.champion, serving.candidate, serving.percent


def test_a_slot_is_set_once_and_keeps_its_champion(catalog):
    first = catalog.serving.ensure("generator", A)
    assert catalog.serving.ensure("generator", B) == first
    assert catalog.serving.list() == (first,)
    with pytest.raises(NotFound, match="reward"):
        catalog.serving.get("reward")


def test_a_champion_can_be_replaced_at_once(catalog, slot):
    rollout = begin(catalog, B, 100)
    after = catalog.serving.get(slot)
    assert (after.champion, after.previous, after.revision) == (B, A, 2)
    assert (rollout.state, catalog.audit.head().subject) == ("COMPLETED", rollout.rollout_id)


def test_a_rollout_goes_up_by_steps_and_its_candidate_becomes_champion(catalog, slot):
    rollout = begin(catalog, percent=5)
    assert (rollout.state, served(catalog)) == ("ACTIVE", (A, B, 5))
    assert catalog.rollouts.active(slot) == rollout
    promote(catalog, rollout, 25)
    assert served(catalog) == (A, B, 25)

    done = promote(catalog, rollout, 100, reason="proven")

    assert (done.state, served(catalog)) == ("COMPLETED", (B, "", 0))
    assert [(event.action, event.percent) for event in done.events] == [
        ("start", 5),
        ("promote", 25),
        ("promote", 100),
    ]
    assert (done.events[-1].actor, done.events[-1].reason) == ("ops", "proven")
    assert catalog.serving.get(slot).revision == 4
    assert catalog.rollouts.active(slot) is None
    assert catalog.rollouts.get(done.rollout_id) == done


def test_a_rollout_can_be_rolled_back_under_way_and_after_completion(catalog, slot):
    first = begin(catalog)
    assert roll_back(catalog, first, reason="guard failed").state == "ROLLED_BACK"
    assert served(catalog) == (A, "", 0)

    second = promote(catalog, begin(catalog), 100)
    roll_back(catalog, second)
    assert served(catalog) == (A, "", 0)
    assert catalog.serving.get(slot).previous == B


def test_a_completed_rollout_is_not_rolled_back_when_another_is_champion(catalog, slot):
    first = begin(catalog, B, 100)
    begin(catalog, C, 5)
    with pytest.raises(FailedPrecondition, match="under way"):
        roll_back(catalog, first)
    promote(catalog, catalog.rollouts.active(slot), 100)
    with pytest.raises(FailedPrecondition, match="Another version"):
        roll_back(catalog, first)
    assert served(catalog) == (C, "", 0)


def test_what_cannot_be_done_now_says_why_and_changes_nothing(catalog, slot):
    with pytest.raises(FailedPrecondition, match="already the champion"):
        begin(catalog, A)
    rollout = begin(catalog, percent=25)
    with pytest.raises(FailedPrecondition, match="under way"):
        begin(catalog, C)
    with pytest.raises(FailedPrecondition, match="only goes up"):
        promote(catalog, rollout, 25)
    assert served(catalog) == (A, B, 25)

    roll_back(catalog, rollout)
    with pytest.raises(FailedPrecondition, match="has ended"):
        promote(catalog, rollout, 100)
    with pytest.raises(FailedPrecondition, match="rolled back already"):
        roll_back(catalog, rollout)


@pytest.mark.parametrize("percent", [-1, 0, 101])
def test_a_share_out_of_range_is_refused(percent, catalog, slot):
    with pytest.raises(InvalidInput, match="1 to 100"):
        begin(catalog, percent=percent)


@pytest.mark.parametrize("rollout_id", ["rollout-7", "rollout-", "7", "rollout-x", "rollout-" + "9" * 30])
def test_an_unknown_rollout_is_not_found(rollout_id, catalog, slot):
    with pytest.raises(NotFound):
        catalog.rollouts.get(rollout_id)
    with pytest.raises(NotFound):
        catalog.rollouts.roll_back(rollout_id, actor="ops", request_id="q")


def test_a_repeated_request_acts_once(catalog, slot):
    rollout = begin(catalog, request_id="q1")
    assert begin(catalog, request_id="q1") == rollout
    after = promote(catalog, rollout, 25, request_id="q2")
    assert promote(catalog, rollout, 25, request_id="q2") == after
    back = roll_back(catalog, rollout, request_id="q3")
    assert roll_back(catalog, rollout, request_id="q3") == back
    assert len(back.events) == 3


def test_a_request_id_cannot_carry_another_request(catalog, slot):
    rollout = begin(catalog, request_id="q1")
    for again in (
        lambda: begin(catalog, C, request_id="q1"),
        lambda: begin(catalog, percent=6, request_id="q1"),
        lambda: promote(catalog, rollout, 25, request_id="q1"),
        lambda: roll_back(catalog, rollout, request_id="q1"),
    ):
        with pytest.raises(AlreadyExists, match="q1"):
            again()
    with pytest.raises(InvalidInput, match="request_id"):
        promote(catalog, rollout, 25, request_id="")
    assert served(catalog) == (A, B, 5)


def test_of_many_rollouts_started_at_once_one_begins(catalog, slot):
    outcomes = []

    def try_one(candidate):
        try:
            outcomes.append(begin(catalog, candidate).state)
        except FailedPrecondition:
            outcomes.append("refused")

    threads = [threading.Thread(target=try_one, args=(letter * 64,)) for letter in "bcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["ACTIVE", *["refused"] * 4]


def test_rollouts_are_listed_newest_first(catalog, slot):
    for _ in range(3):
        roll_back(catalog, begin(catalog))
    page = catalog.rollouts.list("generator", page_size=2)
    rest = catalog.rollouts.list("generator", page_size=2, page_token=page.next_token)
    assert [rollout.rollout_id for rollout in (*page.items, *rest.items)] == [
        "rollout-3",
        "rollout-2",
        "rollout-1",
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["start", "promote", "back"]), st.sampled_from([B, C]), st.integers(1, 100)
        ),
        max_size=12,
    )
)
def test_serving_and_rollouts_always_tell_the_same_story(catalog, slot, steps):
    for action, candidate, percent in steps:
        newest = next(iter(catalog.rollouts.list(slot).items), None)
        revision = catalog.serving.get(slot).revision
        try:
            if action == "start":
                begin(catalog, candidate, percent)
            elif newest and action == "promote":
                promote(catalog, newest, percent)
            elif newest:
                roll_back(catalog, newest)
            else:
                continue
        except VouchError:
            assert catalog.serving.get(slot).revision == revision
            continue
        serving, active = catalog.serving.get(slot), catalog.rollouts.active(slot)
        assert serving.revision == revision + 1
        assert (serving.candidate, serving.percent) == (
            (active.version, active.percent) if active else ("", 0)
        )
        assert serving.champion != serving.candidate


def test_rollouts_that_move_by_themselves_are_counted_by_slot(catalog, slot):
    catalog.serving.ensure("reward", A)
    by_itself = RolloutPlan(steps=(100,), hold_s=1.0)
    plans = [by_itself, replace(by_itself, automatic=False), by_itself, None]
    for plan in plans:
        roll_back(catalog, begin(catalog, plan=plan))
    catalog.rollouts.start("reward", B, percent=5, actor="ops", request_id="r", plan=by_itself)
    assert catalog.rollouts.automatic(slot) == 2
