"""Lists in pages, newest first. A token says where the next page begins and which list it belongs to."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa

from vouch.errors import InvalidInput
from vouch.types.page import Page

MAX_PAGE_SIZE = 1000
DEFAULT_PAGE_SIZE = 100
Record = TypeVar("Record")


def read_page(
    connection: sa.Connection,
    table: sa.Table,
    filters: dict[str, Any],
    make: Callable[[Any], Record],
    *,
    page_size: int,
    page_token: str,
    where: sa.ColumnElement[bool] | None = None,
    where_scope: tuple[str | None, ...] = (),
) -> Page[Record]:
    """Rows of `table` whose columns equal `filters` (None: any; a tuple: one of), newest first.

    `where_scope` holds the values of `where`, so that a token belongs to them too.

    Raises:
        InvalidInput: page_size out of range, or a token that this list did not give.
    """
    size = _checked_size(page_size)
    scope = _scope(table.name, {**filters, "where": [where is not None, *where_scope]})
    query = _filtered(table, filters)
    if where is not None:
        query = query.where(where)
    if page_token:
        query = query.where(table.c.seq < _decode(page_token, scope))
    rows = connection.execute(query.order_by(table.c.seq.desc()).limit(size + 1)).all()
    more = len(rows) > size
    token = _encode(rows[size - 1].seq, scope) if more else ""
    return Page(items=tuple(make(row) for row in rows[:size]), next_token=token)


def _filtered(table: sa.Table, filters: dict[str, Any]) -> sa.Select[Any]:
    query = sa.select(table)
    for name, value in filters.items():
        if isinstance(value, tuple):
            query = query.where(table.c[name].in_(value))
        elif value is not None:
            query = query.where(table.c[name] == value)
    return query


def _checked_size(size: int) -> int:
    if size < 0 or size > MAX_PAGE_SIZE:
        raise InvalidInput(
            f"page_size must be 0 (the default of {DEFAULT_PAGE_SIZE}) to {MAX_PAGE_SIZE}, not {size}."
        )
    return size or DEFAULT_PAGE_SIZE


def _scope(name: str, filters: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps([name, filters], sort_keys=True).encode()).hexdigest()[:12]


def _encode(seq: int, scope: str) -> str:
    return base64.urlsafe_b64encode(f"{scope}:{seq}".encode()).decode().rstrip("=")


def _decode(token: str, scope: str) -> int:
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode("ascii")
        given, seq = text.split(":")
        number = int(seq)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(
            "The page_token is damaged: pass next_token of the page before, unchanged."
        ) from error
    if given != scope:
        raise InvalidInput(
            "The page_token belongs to another list: keep the filters the same from page to page."
        )
    return number
