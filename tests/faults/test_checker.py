"""The checker knows when something that was acknowledged is not so. No faults here: the state is changed by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.faults.acknowledged import Acknowledged
from benchmarks.faults.parts import Parts, digest_of, prepare
from benchmarks.faults.schedule import WORKERS, draw
from vouch.settings import Settings

Spoil = Callable[[sqlite3.Connection, Path], object]


class Checked:
    """Real parts, and what they have acknowledged."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.parts = settings, Parts(settings)
        self.known = Acknowledged(self.parts.catalog.versions.get("first").digest)

    def ask(self, name: str, **arguments: object) -> list[str]:
        if name == "evidence":
            self.known.may_be(arguments["number"], arguments["value"])  # type: ignore[arg-type]
        return self.known.note(name, arguments, self.parts.perform(name, arguments))

    def violations(self) -> list[str]:
        return self.known.violations(self.settings)


@pytest.fixture
def checked(tmp_path: Path) -> Iterator[Checked]:
    """Images, ratings, a version with evidence, and a rollout that has gone to 25 %."""
    settings = Settings(state=tmp_path / "state")
    prepare(settings)
    checked = Checked(settings)
    for number in (1, 2):
        checked.ask("image", number=number)
        checked.ask("rate", request=f"r-{number}", number=number, verdict="plausible")
    checked.ask("publish", number=3)
    checked.ask("evidence", number=3, value=9)
    checked.ask("start", number=3, request="start")
    checked.ask("promote", rollout="rollout-1", request="on")
    yield checked
    checked.parts.catalog.close()


def test_a_sound_system_has_no_violations(checked: Checked) -> None:
    assert checked.violations() == []
    assert checked.ask("rate", request="r-1", number=1, verdict="plausible") == []
    assert checked.ask("roll_back", rollout="rollout-1", request="back") == []
    assert checked.violations() == []


SPOILED: dict[str, tuple[Spoil, str]] = {
    "a rating is gone": (
        lambda catalog, _: catalog.execute("DELETE FROM ratings WHERE request_id = 'r-1'"),
        "rating r-1 was acknowledged and is gone",
    ),
    "a rating is another": (
        lambda catalog, _: catalog.execute("UPDATE ratings SET verdict = 'unsure' WHERE request_id = 'r-1'"),
        "rating r-1 is not the one",
    ),
    "a rating that nobody sent": (
        lambda catalog, _: catalog.execute(
            "UPDATE ratings SET request_id = 'other' WHERE request_id = 'r-1'"
        ),
        "rating other was never handed in",
    ),
    "an image's file is gone": (
        lambda _, state: (state / "blobs" / digest_of(1)[:2] / digest_of(1)[2:]).unlink(),
        "image 1 was acknowledged and is gone",
    ),
    "an image's file is cut": (
        lambda _, state: (state / "blobs" / digest_of(1)[:2] / digest_of(1)[2:]).write_bytes(b""),
        "is damaged",
    ),
    "a version's file is gone": (
        lambda _, state: next((state / "models").glob("*/part-1.safetensors")).unlink(),
        "part-1.safetensors is missing",
    ),
    "evidence is gone": (
        lambda _, state: next((state / "models").glob("*.evidence.json")).unlink(),
        "evidence of model-3 is 0, not [9]",
    ),
    "a move is gone": (
        lambda catalog, _: catalog.execute("DELETE FROM rollout_events WHERE action = 'promote'"),
        "rollout-1 went",
    ),
    "the slot forgot": (
        lambda catalog, _: catalog.execute("UPDATE serving SET candidate = '', percent = 0"),
        "its candidate and its rollout disagree",
    ),
    "the audit log was edited": (
        lambda catalog, _: catalog.execute("UPDATE audit SET actor = 'nobody' WHERE number = 1"),
        "audit log",
    ),
}


@pytest.mark.parametrize("what", SPOILED)
def test_the_checker_finds(checked: Checked, what: str) -> None:
    spoil, sentence = SPOILED[what]
    with closing(sqlite3.connect(checked.settings.folder.root / "catalog.db")) as catalog, catalog:
        for (trigger,) in catalog.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            catalog.execute(f"DROP TRIGGER {trigger}")  # they refuse to change a rating
        spoil(catalog, checked.settings.folder.root)
    assert sentence in "; ".join(checked.violations())


def test_an_answer_that_contradicts_an_earlier_one_is_a_violation(checked: Checked) -> None:
    said = {"id": "x", "verdict": "plausible"}
    request = {"request": "r-1", "number": 1, "verdict": "plausible"}
    assert checked.known.note("rate", request, said) == ["request r-1 was answered with two ratings"]
    other = {**request, "verdict": "unsure"}
    assert checked.known.note("rate", other, said) == [
        "request r-1 was taken a second time, for another rating"
    ]
    assert checked.known.note("start", {"number": 3}, {"rollout": "rollout-2"}) == [
        "a second rollout was started beside the first"
    ]
    assert checked.known.note("image", {"number": 7}, {"broke": "ValueError: x"})


def test_a_seed_is_a_schedule() -> None:
    assert draw(7) == draw(7) != draw(8)
    strikes = {turn.strike for seed in range(50) for turn in draw(seed)}
    assert strikes == {"", "kill", "cut", "stop", "full"}
    assert {turn.worker for seed in range(50) for turn in draw(seed)} == set(WORKERS)
    weak = [turn for seed in range(50) for turn in draw(seed, powered=False)]
    assert not {turn.strike for turn in weak} & {"cut", "full"}
    assert "cut" not in {turn.what for turn in weak}
