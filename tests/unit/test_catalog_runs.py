import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest

from vouch.errors import AlreadyExists, FailedPrecondition, InvalidInput, NotFound, Unavailable
from vouch.storage.catalog import Catalog
from vouch.types.clock import now
from vouch.types.serving import ReplicaReport


def test_a_run_goes_from_queued_to_succeeded(catalog):
    run = catalog.runs.create("align", {"lr": 3e-5, "steps": [1, 2]}, request_id="q", created_by="ops")
    assert (run.run_id, run.state, run.attempt) == ("align-1", "QUEUED", 0)

    catalog.runs.start(run.run_id, total_steps=80)
    catalog.runs.freeze_inputs(run.run_id, {"ratings": "a" * 64})
    seen = catalog.runs.progress(
        run.run_id, step=40, message="half", metrics={"loss": 0.5, "bad": float("nan")}
    )
    assert (seen.state, seen.step, seen.total_steps, seen.message) == ("RUNNING", 40, 80, "half")
    assert seen.metrics == {"loss": 0.5, "bad": None}

    done = catalog.runs.finish(run.run_id, "SUCCEEDED", version="v" * 64, metrics={"auroc": 0.9})
    assert done == catalog.runs.get(run.run_id)
    assert (done.state, done.version, done.metrics["loss"], done.metrics["auroc"]) == (
        "SUCCEEDED",
        "v" * 64,
        0.5,
        0.9,
    )
    assert done.created_at <= done.started_at <= done.ended_at
    assert done.config == {"lr": 3e-5, "steps": [1, 2]}


def test_a_run_that_is_resumed_keeps_what_was_frozen_first(catalog):
    run = catalog.runs.create("reward", {}, request_id="q")
    first = catalog.runs.start(run.run_id)
    catalog.runs.freeze_inputs(run.run_id, {"ratings": ["1"]})

    again = catalog.runs.start(run.run_id)
    assert (again.attempt, again.started_at) == (2, first.started_at)
    assert catalog.runs.freeze_inputs(run.run_id, {"ratings": ["1", "2"]}).inputs == {"ratings": ["1"]}


@pytest.mark.parametrize("end", ["SUCCEEDED", "FAILED", "CANCELLED"])
def test_a_run_that_has_ended_never_changes_again(end, catalog):
    run = catalog.runs.create("reward", {}, request_id="q")
    ended = catalog.runs.finish(run.run_id, end, error="x")

    assert catalog.runs.finish(run.run_id, end) == ended
    other = "FAILED" if end != "FAILED" else "SUCCEEDED"
    for change in (
        lambda: catalog.runs.start(run.run_id),
        lambda: catalog.runs.progress(run.run_id, step=1),
        lambda: catalog.runs.freeze_inputs(run.run_id, {}),
        lambda: catalog.runs.finish(run.run_id, other),
    ):
        with pytest.raises(FailedPrecondition, match=end):
            change()
    assert catalog.runs.get(run.run_id) == ended


def test_a_queued_run_is_cancelled_at_once_and_a_running_one_is_asked_to_stop(catalog):
    queued = catalog.runs.create("reward", {}, request_id="q1")
    assert catalog.runs.cancel(queued.run_id).state == "CANCELLED"
    assert catalog.runs.cancel(queued.run_id).state == "CANCELLED"

    running = catalog.runs.start(catalog.runs.create("reward", {}, request_id="q2").run_id)
    asked = catalog.runs.cancel(running.run_id)
    assert (asked.state, asked.cancel_requested) == ("RUNNING", True)
    assert catalog.runs.cancel(running.run_id) == asked
    assert catalog.runs.progress(running.run_id, step=1).cancel_requested

    catalog.runs.finish(running.run_id, "SUCCEEDED")
    with pytest.raises(FailedPrecondition):
        catalog.runs.cancel(running.run_id)


def test_the_same_request_starts_one_run(catalog):
    config = {"steps": (1, 2)}
    first = catalog.runs.create("align", config, request_id="q")
    assert catalog.runs.create("align", config, request_id="q") == first
    for kind, other in [("reward", config), ("align", {"steps": (1, 3)})]:
        with pytest.raises(AlreadyExists, match=first.run_id):
            catalog.runs.create(kind, other, request_id="q")
    assert len(catalog.runs.list().items) == 1


def test_a_run_is_queued_and_cancelled_together_with_its_entry_of_the_audit_log(catalog, monkeypatch):
    run = catalog.runs.create("align", {"lr": 1.0}, request_id="q", created_by="ops", reason="new ratings")
    catalog.runs.create("align", {"lr": 1.0}, request_id="q", created_by="ops")
    catalog.runs.cancel(run.run_id, by="ada")
    catalog.runs.cancel(run.run_id, by="bob")
    logged = [(entry.actor, entry.action, entry.subject) for entry in catalog.audit.entries()]
    assert logged == [("ops", "training start", run.run_id), ("ada", "training cancel", run.run_id)]
    assert catalog.audit.entries()[0].details["reason"] == "new ratings"

    def fail(*_):
        raise Unavailable("The catalog's database does not answer.")

    monkeypatch.setattr("vouch.storage.catalog.runs.append_entry", fail)
    with pytest.raises(Unavailable):
        catalog.runs.create("align", {}, request_id="another")
    assert [one.run_id for one in catalog.runs.list().items] == [run.run_id]


def test_what_is_no_run_is_refused(catalog):
    with pytest.raises(InvalidInput, match="pretrain, reward, align, evaluate"):
        catalog.runs.create("dream", {}, request_id="q")
    with pytest.raises(InvalidInput, match="request_id"):
        catalog.runs.create("align", {}, request_id="")
    run = catalog.runs.create("align", {}, request_id="q")
    with pytest.raises(InvalidInput, match="no end"):
        catalog.runs.finish(run.run_id, "RUNNING")


@pytest.mark.parametrize("run_id", ["align-9", "reward-1", "align", "", "align-x", "align-" + "9" * 40])
def test_an_unknown_run_is_not_found(run_id, catalog):
    catalog.runs.create("align", {}, request_id="q")
    with pytest.raises(NotFound, match="vouch train list"):
        catalog.runs.get(run_id)


def test_runs_are_listed_newest_first_by_kind_and_state(catalog):
    ids = [
        catalog.runs.create(kind, {}, request_id=str(n)).run_id
        for n, kind in enumerate(["align", "reward", "align"])
    ]
    catalog.runs.start(ids[0])

    assert [run.run_id for run in catalog.runs.list().items] == ids[::-1]
    assert [run.run_id for run in catalog.runs.list(kind="align").items] == [ids[2], ids[0]]
    assert [run.run_id for run in catalog.runs.list(kind="align", state="RUNNING").items] == [ids[0]]


def test_progress_from_many_threads_is_all_kept(catalog):
    run = catalog.runs.start(catalog.runs.create("align", {}, request_id="q").run_id)

    def report(name):
        for step in range(10):
            catalog.runs.progress(run.run_id, step=step, metrics={f"{name}-{step}": step})

    threads = [threading.Thread(target=report, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(catalog.runs.get(run.run_id).metrics) == 40


def test_a_replica_keeps_its_newest_report(catalog):
    old = now() - timedelta(minutes=5)
    catalog.reports.put(ReplicaReport(slot="generator", replica_id="a", revision=1, ok=True, reported_at=old))
    catalog.reports.put(ReplicaReport(slot="reward", replica_id="a", revision=1, ok=True, reported_at=old))
    newest = ReplicaReport(
        slot="generator", replica_id="a", revision=2, ok=False, reason="unet is missing", champion_version="c"
    )
    catalog.reports.put(newest)

    assert catalog.reports.list("generator") == (newest,)
    assert len(catalog.reports.list()) == 2
    assert catalog.reports.list(newer_than=old + timedelta(minutes=1)) == (newest,)
    assert catalog.reports.forget(older_than=old + timedelta(minutes=1)) == 1
    assert catalog.reports.list() == (newest,)


def test_one_process_at_a_time_carries_out_the_queue(catalog, catalog_url):
    with Catalog(catalog_url) as other:
        with catalog.runs.queue() as first, other.runs.queue() as second:
            assert (first, second) == (True, False)
        with other.runs.queue() as again:
            assert again


def test_the_queue_is_left_by_a_process_that_is_killed(catalog, catalog_url):
    code = f"""
import sys
from vouch.storage.catalog import Catalog
with Catalog({catalog_url!r}) as catalog, catalog.runs.queue() as alone:
    print(alone, flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "True\n"
    with catalog.runs.queue() as alone:
        assert not alone
    process.kill()
    process.wait()
    process.stdin.close()
    deadline = time.monotonic() + 60
    while True:  # a server notices a lost connection a moment later
        with catalog.runs.queue() as alone:
            if alone:
                return
        assert time.monotonic() < deadline


def test_a_run_that_was_left_behind_goes_before_those_that_wait(catalog):
    assert catalog.runs.oldest_open() is None
    first, second = (catalog.runs.create("reward", {}, request_id=name) for name in ("a", "b"))
    assert catalog.runs.oldest_open() == first
    catalog.runs.start(second.run_id)
    assert catalog.runs.oldest_open().run_id == second.run_id
    catalog.runs.finish(second.run_id, "FAILED", error="x")
    assert catalog.runs.oldest_open() == first
