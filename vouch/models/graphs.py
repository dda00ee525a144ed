"""The U-Net on a GPU: one CUDA graph for each batch size, so that a step is one launch and not a thousand."""

from __future__ import annotations

from typing import Any

import torch

from vouch.models.kernels import Eager

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Rows of the graphs. A call takes the next larger one; what is beyond the largest goes in several calls."""
WARM_UP_CALLS = 3


def size_for(rows: int) -> int:
    """The graph that rows go through, at most as many as the largest has."""
    return next(size for size in SIZES if size >= rows)


class Graphed:
    """Computes what `Eager` computes on the GPU of `unet`. Graphs are captured as their sizes are first asked for.

    Not thread-safe: the engine's thread calls it.
    """

    def __init__(self, unet: Any, precision: str = "float32") -> None:
        self._eager, self._device = Eager(unet, precision), unet.device
        self._graphs: dict[int, _Graph] = {}

    def __call__(self, x: torch.Tensor, timesteps: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        most = SIZES[-1]
        parts = zip(x.split(most), timesteps.split(most), prompts.split(most), strict=True)
        return torch.cat([self._call(*part) for part in parts])

    def _call(self, *inputs: torch.Tensor) -> torch.Tensor:
        size = size_for(len(inputs[0]))
        if size not in self._graphs:
            self._graphs[size] = _Graph(self._eager, [self._blank(size, like) for like in inputs])
        return self._graphs[size](*inputs)

    def _blank(self, size: int, like: torch.Tensor) -> torch.Tensor:
        return torch.zeros(size, *like.shape[1:], dtype=like.dtype, device=self._device)


class _Graph:
    """One capture. Its inputs and outputs stay where they are; rows beyond a call's own hold what was there before,
    and no row minds another."""

    def __init__(self, network: Eager, inputs: list[torch.Tensor]) -> None:
        self._inputs, self._graph = inputs, torch.cuda.CUDAGraph()
        # Libraries choose their algorithms before a capture, not within it.
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP_CALLS):
                network.on_device(*inputs)
        torch.cuda.synchronize()
        # Pixels may be made on another thread at the same time: only what this one does belongs to the graph.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._output = network.on_device(*inputs)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        rows = len(inputs[0])
        for place, given in zip(self._inputs, inputs, strict=True):
            place[:rows].copy_(given)
        self._graph.replay()
        return self._output[:rows].cpu()
