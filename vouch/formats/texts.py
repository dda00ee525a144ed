"""Text files as editors and spreadsheets write them: UTF-8 with or without a byte-order mark, UTF-16, UTF-32."""

from __future__ import annotations

import codecs
import re
import zlib

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# UTF-32 first: its little-endian mark begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def decode_text(data: bytes) -> str:
    """The text of `data`, without its byte-order mark.

    Raises:
        ValueError: another encoding (Latin-1, Windows-1252: nothing in the bytes says which), or no text at all.
    """
    mark, encoding = next(((m, e) for m, e in _MARKS if data.startswith(m)), (b"", _unmarked(data)))
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"it is not readable as {encoding.upper()} (byte {error.start + len(mark)})"
        ) from error
    return checked_text(text)


def unzipped(data: bytes, most: int) -> bytes:
    """What gzip packed. Raises ValueError if it is damaged, or has more than `most` bytes."""
    unpacked = b""
    while data:
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS + 16)
        try:
            unpacked += unpacker.decompress(data, most + 1 - len(unpacked))
        except zlib.error as error:
            raise ValueError(f"it is not readable as gzip ({error})") from error
        if len(unpacked) > most:
            raise ValueError(f"it unpacks to more than {most} bytes")
        if not unpacker.eof:
            raise ValueError("it is gzip, but truncated")
        data = unpacker.unused_data
    return unpacked


def checked_text(text: str) -> str:
    """The text itself. Raises ValueError if it holds NUL or half a surrogate pair, which no text may."""
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("it holds characters that are no text (NUL, or half a surrogate pair)")
    return text


def printable_name(name: str) -> str:
    """A file name as text, with bytes that are not UTF-8 and control characters written out: ``Z\\xfcrich``."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def escaped(text: str) -> str:
    """Text that can be stored anywhere: NUL and half surrogate pairs are written out."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")


def _unmarked(data: bytes) -> str:
    """UTF-16 where every second byte or so is zero, as in Western text; else UTF-8."""
    even, odd, half = data[0::2].count(0), data[1::2].count(0), len(data) / 4
    if len(data) % 2 == 0 and odd > half and not even:
        return "utf-16-le"
    if len(data) % 2 == 0 and even > half and not odd:
        return "utf-16-be"
    return "utf-8"
