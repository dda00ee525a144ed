"""Paged lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """One page of a list. `next_token` is opaque; "" on the last page."""

    items: tuple[T, ...]
    next_token: str = ""


def every(read: Callable[[str], Page[T]]) -> Iterator[T]:
    """The items of all pages. read: returns the page of a token; "" is the first page."""
    token = ""
    while True:
        page = read(token)
        yield from page.items
        token = page.next_token
        if not token:
            return
