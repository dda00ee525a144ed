"""What others wrote never gives an order to a terminal or a spreadsheet, and is never changed on its way."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import prepare, system
from training import run
from vouch.cli import render
from vouch.datasets.ratings import read_ratings, write_ratings
from vouch.errors import InvalidInput
from vouch.formats.escapes import from_cell, json_text, spell_out, to_cell, visible
from vouch.settings import SNAPSHOT
from vouch.types.rating import Rating

ORDERS = [
    "\x1b[2J\x1b]0;owned\x07", "\x9b31m", "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\", "a\rb", "\x7f\x08",
    "\u202egnp.exe", "a\u2028b", "\x00",
]  # fmt: skip


@pytest.mark.parametrize("module", [prepare, run])
def test_the_error_that_ends_a_process_gives_no_order(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: object) -> None:
        raise InvalidInput("There is no folder \x1b[2J.")

    monkeypatch.setattr(module, "load_settings", refuse)
    monkeypatch.setattr(os, "umask", lambda _: 0)
    monkeypatch.setattr(sys, "argv", ["training.run", "--queued"])
    monkeypatch.delenv(SNAPSHOT, raising=False)
    module.main()
    assert capsys.readouterr().err == "error: There is no folder \\x1b[2J.\n"


def test_what_a_start_says_gives_no_order(capsys: pytest.CaptureFixture[str]) -> None:
    system._say("error: There is no folder \x1b[2J.")
    assert capsys.readouterr().err == "error: There is no folder \\x1b[2J.\n"


@pytest.mark.parametrize("order", ORDERS)
def test_a_terminal_is_shown_an_order_and_does_not_obey_it(
    order: str, capsys: pytest.CaptureFixture[str]
) -> None:
    console = render.stdout()
    console.print(order, markup=False)
    console.print(render.table(("name",), [(order,)], title=order))
    console.print(render.facts({"rater": order}))
    console.print(f"[red]error:[/red] {render.escape(order)}", highlight=False)
    out = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in out), ascii(out)


def test_a_line_of_a_table_stays_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    render.stdout().print(render.table(("rater", "kind"), [("ada\nvouch is down", "human")]))
    assert r"ada\nvouch is down" in capsys.readouterr().out


def test_words_in_any_script_are_shown_as_they_are() -> None:
    assert visible("Zellkern größer · 核 · ядро · 🩸") == "Zellkern größer · 核 · ядро · 🩸"


@pytest.mark.parametrize("order", ORDERS)
def test_json_keeps_the_value_exactly_and_holds_no_order(order: str) -> None:
    text = json_text({"rater": order})
    assert json.loads(text) == {"rater": order}
    assert text.isprintable()


FORMULAS = ['=HYPERLINK("http://evil")', "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''=1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_cell_is_no_formula(text: str) -> None:
    assert to_cell(text)[0] == "'"


@given(st.text(alphabet=st.sampled_from("'=+-@\t\r\nab "), max_size=6))
def test_a_cell_comes_back_as_it_was(text: str) -> None:
    assert from_cell(to_cell(text)) == text


@pytest.mark.parametrize("text", [*FORMULAS, "plain", "'quoted'", ""])
def test_exported_ratings_hold_no_formula_and_import_again_exactly(tmp_path: Path, text: str) -> None:
    rating = Rating(
        id="r1", request_id="q1", image="0" * 64, rater="=ada", kind="human", verdict="plausible", text=text,
        generator_version="", domain="blood_cells", created_at=datetime(2026, 1, 31, tzinfo=timezone.utc), answers={},
    )  # fmt: skip
    file = tmp_path / "ratings.csv"
    write_ratings(file, [rating])
    cells = [cell for row in csv.reader(io.StringIO(file.read_text(), newline="")) for cell in row]
    assert not [cell for cell in cells if cell[:1] in "=+-@\t\r" and cell]
    assert read_ratings(file) == [(1, rating)]


def test_what_an_encoding_lacks_is_spelled_out_and_json_stays_json() -> None:
    file = io.BytesIO()
    stream = io.TextIOWrapper(file, encoding="ascii")
    spell_out(stream)
    value = {"name": "Z\u00fcrich \U0001f9ec"}
    stream.write(json_text(value))
    stream.flush()
    assert file.getvalue() == rb'{"name": "Z\u00fcrich \ud83e\uddec"}'
    assert json.loads(file.getvalue()) == value
