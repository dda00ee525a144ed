"""The audit log: any edit, cut or insertion is found, on both databases."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa

from vouch.errors import InvalidInput
from vouch.storage.audit_head import note_head, noted_head
from vouch.storage.catalog import tables
from vouch.storage.catalog.audit import verify_chain
from vouch.storage.state import StateFolder


@pytest.fixture
def filled(catalog):
    for number in range(5):
        catalog.audit.append(
            "ops", "rollout promote", f"rollout-{number}", {"percent": 25, "reason": "é ≤ 2"}
        )
    return catalog


def tamper(catalog, statement) -> None:
    with catalog._database.write() as connection:
        connection.execute(statement)


def test_an_untouched_log_is_whole_and_its_head_is_the_last_entry(filled):
    verdict = filled.audit.verify()
    assert (verdict.entries, verdict.broken_at) == (5, None)
    assert verdict.head == filled.audit.head().digest == filled.audit.list(page_size=1).items[0].digest


def test_an_empty_log_is_whole(catalog):
    assert (catalog.audit.verify().broken_at, catalog.audit.head()) == (None, None)


@pytest.mark.parametrize(
    "values",
    [
        {"actor": "somebody"},
        {"details": {"percent": 5}},
        {"subject": "rollout-9"},
        {"at": sa.literal_column("at + 1")},
        {"digest": "0" * 64},
        {"previous": "0" * 64},
    ],
    ids=["actor", "details", "subject", "time", "digest", "previous"],
)
def test_an_edit_of_any_column_is_found_where_it_was_made(filled, values):
    tamper(filled, sa.update(tables.audit).where(tables.audit.c.number == 3).values(**values))
    assert filled.audit.verify().broken_at == 3


@pytest.mark.parametrize(("number", "found_at"), [(1, 1), (3, 3)])
def test_a_cut_is_found(filled, number, found_at):
    tamper(filled, sa.delete(tables.audit).where(tables.audit.c.number == number))
    verdict = filled.audit.verify()
    assert verdict.broken_at == found_at
    assert "missing" in verdict.reason


def test_a_cut_end_is_found_by_a_head_that_was_noted(filled):
    noted = filled.audit.head().digest
    tamper(filled, sa.delete(tables.audit).where(tables.audit.c.number == 5))
    assert filled.audit.verify().broken_at is None, "nothing in the log itself can tell"
    verdict = filled.audit.verify(noted)
    assert verdict.broken_at == 5
    assert "its end was cut" in verdict.reason


def test_a_log_that_was_cut_or_written_anew_is_found_by_the_head_in_the_state_folder(filled, tmp_path):
    folder = StateFolder(tmp_path / "noting").create()
    note_head(folder, filled.audit)
    assert filled.audit.verify(noted_head(folder)).broken_at is None
    tamper(filled, sa.delete(tables.audit))
    for number in range(7):
        filled.audit.append("somebody", "rollout promote", f"rollout-{number}", {})
    assert filled.audit.verify().broken_at is None, "nothing in the log itself can tell"
    note_head(folder, filled.audit)  # as the next start does
    verdict = filled.audit.verify(noted_head(folder))
    assert verdict.broken_at == 8
    assert "written anew" in verdict.reason


def test_the_head_in_the_state_folder_follows_a_log_that_grows(filled, tmp_path):
    folder = StateFolder(tmp_path / "noting").create()
    assert noted_head(folder) == ""
    note_head(folder, filled.audit)
    filled.audit.append("ops", "token create", "ada", {})
    note_head(folder, filled.audit)
    assert noted_head(folder) == filled.audit.head().digest


def test_an_older_head_is_still_in_a_log_that_has_grown(filled):
    noted = filled.audit.head().digest
    filled.audit.append("ops", "token create", "ada", {})
    assert filled.audit.verify(noted).broken_at is None


def test_a_recomputed_entry_breaks_the_one_after_it(filled):
    """Whoever edits an entry and its digest would have to rewrite all that follow, and then the noted head is gone."""
    entries = filled.audit.entries()
    forged = replace(entries[1], actor="somebody")
    assert verify_chain([entries[0], forged, *entries[2:]]).broken_at == 2


def test_writers_at_the_same_moment_make_one_chain(catalog):
    def write(name: str) -> None:
        for number in range(10):
            catalog.audit.append(name, "token rotate", str(number), {})

    threads = [threading.Thread(target=write, args=(f"writer-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (catalog.audit.verify().entries, catalog.audit.verify().broken_at) == (40, None)


def test_a_repeated_request_is_one_action(catalog):
    first = catalog.audit.append_once("ops", "training start", "reward-1", {})
    assert first is not None
    assert catalog.audit.append_once("ops", "training start", "reward-1", {}) is None
    assert catalog.audit.verify().entries == 1


def test_tokens_and_rollouts_enter_the_log_with_what_they_did(catalog):
    catalog.tokens.create("ada", "rater", ["human"])
    catalog.tokens.revoke("ada")
    catalog.serving.ensure("generator", "a" * 64)
    rollout = catalog.rollouts.start(
        "generator", "b" * 64, percent=5, actor="ops", request_id="r", reason="why"
    )
    catalog.rollouts.start("generator", "b" * 64, percent=5, actor="ops", request_id="r", reason="why")
    told = [(entry.actor, entry.action, entry.subject) for entry in catalog.audit.entries()]
    assert told == [
        ("administrator", "token create", "ada"),
        ("administrator", "token revoke", "ada"),
        ("ops", "rollout start", rollout.rollout_id),
    ]


def test_the_log_is_read_by_pages_newest_first(filled):
    numbers, token = [], ""
    while True:
        page = filled.audit.list(page_size=2, page_token=token)
        numbers += [entry.number for entry in page.items]
        token = page.next_token
        if not token:
            break
    assert numbers == [5, 4, 3, 2, 1]
    with pytest.raises(InvalidInput, match="page_token"):
        filled.audit.list(page_token="x")
