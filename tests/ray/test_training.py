from __future__ import annotations

import pytest

from vouch.errors import AlreadyExists, InvalidInput, NotFound

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def test_a_run_that_cannot_work_ends_as_failed_with_the_reason(client):
    run = client.start_training("reward", {"parent": "nowhere"}, request_id="from nowhere")
    assert (run.state, run.created_by) == ("QUEUED", "operator")
    again = client.start_training("reward", {"parent": "nowhere"}, request_id="from nowhere")
    assert again.run_id == run.run_id
    seen = list(client.watch_run(run.run_id))
    assert seen[-1].state == "FAILED"
    assert "nowhere" in seen[-1].error
    assert "Traceback" not in seen[-1].error


def test_a_cancelled_run_ends_as_cancelled(client):
    blocking = client.start_training("reward", {"parent": "nowhere"})
    queued = client.start_training("reward", {"parent": "somewhere"})
    cancelled = client.cancel_run(queued.run_id)
    assert cancelled.state in ("CANCELLED", "RUNNING")
    assert list(client.watch_run(queued.run_id))[-1].state == "CANCELLED"
    list(client.watch_run(blocking.run_id))
    assert [run.run_id for run in client.list_runs(state="CANCELLED")] == [queued.run_id]


def test_a_request_id_starts_one_run(client):
    client.start_training("reward", {"parent": "a"}, request_id="one")
    with pytest.raises(AlreadyExists):
        client.start_training("reward", {"parent": "b"}, request_id="one")


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        ("reward", {"stepz": 3}, "no setting stepz. Settings of reward: .*steps"),
        ("align", {"lr": -1}, "Setting lr: .*greater than or equal to 0"),
        ("pretrain", {}, "Setting data: .*required"),
        ("evaluate", {}, "Setting version: Field required"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_it_is_queued(client, kind, settings, says):
    with pytest.raises(InvalidInput, match=says):
        client.start_training(kind, settings)


def test_a_run_that_is_not_there_is_not_found(client):
    with pytest.raises(NotFound, match="no run 'reward-999'"):
        client.get_run("reward-999")
