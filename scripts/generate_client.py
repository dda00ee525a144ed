"""Makes the client for ordinary code from the client for asyncio, so that signatures and docstrings exist once.

python scripts/generate_client.py      # what `make client` runs; tests/contract/test_generated.py checks the result
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "vouch" / "client"
GENERATED = {"async_calls.py": "sync_calls.py", "aio.py": "sync.py"}
"""Each hand-written file, and the one that is made of it."""

DOCSTRINGS = {
    "async_calls.py": '"""`async_calls.py` without asyncio. Made by `make client`; change that file instead."""\n',
    "aio.py": '"""The client for ordinary code. Made of `aio.py` by `make client`; change that file instead."""\n',
}
WORDS = {
    "AsyncGenerator[Any, None]": "Generator[Any, None, None]",
    "import AsyncGenerator, AsyncIterator": "import Generator, Iterator",
    "import asyncio\n": "",
    "import threading\n": "import threading\nimport time\n",
    "asyncio.sleep": "time.sleep",
    "grpc.aio": "grpc",
    "async with aclosing(": "with closing(",
    "from contextlib import aclosing": "from contextlib import closing",
    "async_calls": "sync_calls",
    "async def ": "def ",
    "async for ": "for ",
    "await ": "",
    "AsyncIterator": "Iterator",
    "AsyncCalls": "Calls",
    "AsyncClient": "Client",
    "AsyncEntries": "Entries",
    "AsyncResending": "Resending",
    "auploaded": "uploaded",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
}
"""What is replaced, in this order."""


def generated(source: Path) -> str:
    """The text of the file that is made of `source`, formatted."""
    text = source.read_text("utf-8")
    text = re.sub(r'\A""".*?"""\n', DOCSTRINGS[source.name], text, count=1, flags=re.DOTALL)
    for old, new in WORDS.items():
        text = text.replace(old, new)
    return _formatted(text)


def _formatted(text: str) -> str:
    """As `make lint-fix` leaves it: names in their order, lines as long as they may be."""
    ruff = [str(Path(sys.executable).with_name("ruff"))]
    for command in (["check", "--quiet", "--fix", "--select", "I"], ["format", "--quiet"]):
        command = [*ruff, *command, "--stdin-filename", str(FOLDER / "sync.py"), "-"]
        text = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return text


if __name__ == "__main__":
    for name, target in GENERATED.items():
        (FOLDER / target).write_text(generated(FOLDER / name))
