from __future__ import annotations

from pathlib import Path

import pytest

from vouch.errors import InvalidInput
from vouch.formats.csv_tables import read_csv
from vouch.formats.texts import decode_text, printable_name

EXPECTED = {"id", "text", "verdict"}


def read(path: Path, content: str | bytes) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    file = path / "table.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    columns, rows = read_csv(file, file.read_bytes(), EXPECTED.__contains__)
    return columns, list(rows)


TABLE = 'id{0}text{0}verdict\r\n1{0}"a,b;c\td|e"{0}plausible\r\n'


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_usual_separator_and_encoding_is_read(tmp_path: Path, separator: str, encoding: str) -> None:
    columns, rows = read(tmp_path, TABLE.format(separator).encode(encoding))
    assert columns == ["id", "text", "verdict"]
    assert rows == [(1, {"id": "1", "text": "a,b;c\td|e", "verdict": "plausible"})]


def test_a_first_line_may_name_the_separator(tmp_path: Path) -> None:
    for separator in (";", "\t", "^"):
        for end in ("\r\n", "\n", "\r"):
            table = f"sep={separator}\r\n{TABLE.format(separator)}".replace("\r\n", end)
            assert read(tmp_path, table)[1][0][1]["verdict"] == "plausible"
    assert read(tmp_path, '"sep=;"\r\n' + TABLE.format(";"))[1][0][1]["verdict"] == "plausible"


def test_a_short_row_is_refused_by_number_where_rows_must_be_full(tmp_path: Path) -> None:
    data = b"id,text,verdict\n1,a\n\n2,a,b\n"
    with pytest.raises(InvalidInput, match="row 1 ends before column 'verdict'"):
        list(read_csv(tmp_path, data, EXPECTED.__contains__, full_rows=True)[1])
    assert len(list(read_csv(tmp_path, data, EXPECTED.__contains__)[1])) == 2


def test_empty_rows_and_separators_at_the_end_mean_nothing(tmp_path: Path) -> None:
    columns, rows = read(tmp_path, "id;text;verdict;;\n1;a;b;;\n;;;;\n\n2;c\n")
    assert columns == ["id", "text", "verdict"]
    assert [(number, list(row.values())) for number, row in rows] == [
        (1, ["1", "a", "b"]),
        (4, ["2", "c", ""]),
    ]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("id,text,id\n1,a,2\n", "column 'id' twice, as columns 1 and 3"),
        ("id,text\n1,a\n2,a,b\n", "row 2 has more cells .* column 3 holds 'b'"),
        ('id,text\n1,a\n2,"a\n', "row 2 is not readable as CSV"),
        ("id,text,verdict\n1,a,b\n2,a", "row 2 ends before column 'verdict'"),
        ("id,text\n1,für".encode("latin-1"), "not readable as UTF-8 .* Save it as CSV in UTF-8"),
    ],
)
def test_what_cannot_be_read_is_refused_by_row_and_column(
    tmp_path: Path, content: str | bytes, what: str
) -> None:
    with pytest.raises(InvalidInput, match=what):
        read(tmp_path, content)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_text_is_told_from_its_bytes(encoding: str) -> None:
    text = "nucleus shape: irregular, 7 µm\r\n"
    assert decode_text(text.encode(encoding)) == text


@pytest.mark.parametrize("data", [b"\xfcber", b"\xff\xfe\x00", b"a\x00b", b"\xed\xa0\x80"])
def test_bytes_that_are_no_text_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="it "):
        decode_text(data)


def test_an_empty_text_is_text() -> None:
    assert decode_text(b"") == decode_text(b"\xef\xbb\xbf") == ""


def test_a_name_is_printable_whatever_its_bytes() -> None:
    assert printable_name(b"Z\xfcrich".decode("utf-8", "surrogateescape")) == "Z\\xfcrich"
    assert printable_name("Zürich") == "Zürich"
    assert printable_name("a\x1b[31m\n.png") == "a\\x1b[31m\\x0a.png"
