"""``python -m vouch`` is the `vouch` command."""

from vouch.cli import app

app()
