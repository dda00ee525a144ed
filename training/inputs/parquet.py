"""Rows and images in Parquet files."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from vouch.formats import images as codec


def decode_images(encoded: list[bytes]) -> torch.Tensor:
    """uint8 [N, 3, H, W]."""
    arrays = np.stack([codec.decode(data) for data in encoded])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous()


def to_parquet(rows: list[dict], schema: pa.Schema | None = None) -> bytes:
    """The rows as the bytes of a file. schema: default: as the rows have it, of which there are some then."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    return sink.getvalue()
