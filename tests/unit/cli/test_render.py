from __future__ import annotations

import datetime as dt
import io
import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
from rich.console import Console

from vouch.cli import render
from vouch.cli.desk import Exhibit
from vouch.cli.rate import TerminalScreen
from vouch.cli.train import parse_settings
from vouch.errors import InvalidInput
from vouch.formats import images


def stripes() -> bytes:
    """16 × 16: every even row red, every odd row blue."""
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[0::2] = (255, 0, 0)
    pixels[1::2] = (0, 0, 255)
    return images.encode_png(pixels)


def test_a_half_block_carries_the_upper_pixel_in_front_and_the_lower_behind() -> None:
    text = render.half_blocks(stripes(), columns=16)
    assert text.plain == ("▀" * 16 + "\n") * 8
    assert {str(span.style) for span in text.spans} == {"#ff0000 on #0000ff"}


def test_a_large_image_is_scaled_to_the_columns_and_keeps_its_shape() -> None:
    wide = images.encode_png(np.full((64, 128, 3), 90, dtype=np.uint8))
    lines = render.half_blocks(wide, columns=32).plain.splitlines()
    assert (len(lines), {len(line) for line in lines}) == (8, {32})


def test_bytes_that_are_no_image_are_refused() -> None:
    with pytest.raises(InvalidInput):
        render.half_blocks(b"not an image")


def test_a_terminal_shows_the_image_in_true_colour_and_a_pipe_only_the_words() -> None:
    exhibit = Exhibit(digest="d", data=stripes(), prompt="neutrophil [small]")
    terminal, pipe = io.StringIO(), io.StringIO()
    TerminalScreen(
        Console(file=terminal, force_terminal=True, color_system="truecolor", width=80, height=40)
    ).show(exhibit, 1)
    TerminalScreen(Console(file=pipe, width=80)).show(exhibit, 1)
    assert "\x1b[38;2;255;0;0;48;2;0;0;255m▀" in terminal.getvalue()
    assert "▀" not in pipe.getvalue()
    assert "neutrophil [small]" in pipe.getvalue()


def test_json_holds_everything_but_image_bytes_and_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(frozen=True)
    class Value:
        name: str
        data: bytes
        when: dt.datetime
        figures: dict[str, float]
        items: tuple[int, ...]

    moment = dt.datetime(2024, 1, 2, tzinfo=dt.timezone.utc)
    render.print_json([Value("ä", b"\x89PNG", moment, {"loss": math.nan}, (1, 2))])
    assert json.loads(capsys.readouterr().out) == [
        {"name": "ä", "when": "2024-01-02T00:00:00+00:00", "figures": {"loss": None}, "items": [1, 2]}
    ]


@pytest.mark.parametrize(
    ("seconds", "said"), [(5, "5 s ago"), (150, "2 min ago"), (7300, "2 h ago"), (200_000, "2 d ago")]
)
def test_times_are_told_in_the_largest_unit(seconds: int, said: str) -> None:
    now = dt.datetime(2024, 1, 10, tzinfo=dt.timezone.utc)
    assert render.ago(now - dt.timedelta(seconds=seconds), now) == said


def test_settings_are_read_from_loose_options() -> None:
    words = [
        "--steps",
        "500",
        "--method",
        "gradient",
        "--no-anchor",
        "--lr=1e-4",
        "--offset",
        "-3",
        "--resume",
    ]
    assert parse_settings(words) == {
        "steps": 500, "method": "gradient", "anchor": False, "lr": 1e-4, "offset": -3, "resume": True,
    }  # fmt: skip
    with pytest.raises(InvalidInput, match="not a setting"):
        parse_settings(["steps", "500"])
