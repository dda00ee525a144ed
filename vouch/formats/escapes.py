"""Text of others on its way to a terminal, into JSON or into a spreadsheet, where it must not be an order."""

from __future__ import annotations

import codecs
import io
import json
import re
from typing import Any, TextIO

# Control characters of both ranges, marks that turn the direction of writing, separators that break lines, and
# halves of characters that no terminal can be sent.
_HARMFUL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_IN_LINES = re.compile(f"[{_HARMFUL}]")
_IN_LINE = re.compile(f"[{_HARMFUL}\t\n]")
# A cell that begins so is a formula to Excel, LibreOffice and Google Sheets. Quotes before it are ours.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_ESCAPED = re.compile(r"'+[=+\-@\t\r\n]")


def visible(text: str) -> str:
    r"""One line of text: what a terminal would obey is shown as an escape, such as ``\x1b``."""
    return _IN_LINE.sub(_shown, text)


def visible_lines(text: str) -> str:
    r"""As `visible`, for text of several lines."""
    return _IN_LINES.sub(_shown, text)


def _shown(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "backslashreplace").decode()


def json_text(value: Any) -> str:
    """JSON on one line, the value exactly as it is; characters that a terminal would obey are ``\\u`` escapes."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _IN_LINES.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def spell_out(stream: TextIO) -> None:
    r"""Make a stream write characters that its encoding lacks as ``\u00b7``, which JSON reads too: a terminal of ASCII
    ends no command."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=_SPELLED_OUT)


def _as_units(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)), error.end


_SPELLED_OUT = "vouch.spelled_out"
codecs.register_error(_SPELLED_OUT, _as_units)


def to_cell(text: str) -> str:
    """Text as a cell that no spreadsheet takes for a formula: a quote comes before what begins like one."""
    return f"'{text}" if _FORMULA.match(text) else text


def from_cell(cell: str) -> str:
    """What `to_cell` was given."""
    return cell[1:] if _ESCAPED.match(cell) else cell
