"""Synthetic medical images that experts vouch for.

with vouch.connect() as client:
    reply = client.generate_images("neutrophil", count=4)
"""

from __future__ import annotations

__version__ = "0.1.0"
