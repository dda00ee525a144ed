"""The pipeline that every peer serves, and how a careful user has it draw a batch of requests.

A pipeline call has one number of steps and one guidance, so requests that agree in both are drawn together.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.serving.asks import Ask


def arguments() -> argparse.ArgumentParser:
    """What every peer is told when it starts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True, help="a diffusers folder")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True, help="torch threads")
    parser.add_argument("--max-batch", type=int, default=1, help="requests drawn in one turn")
    parser.add_argument("--wait-s", type=float, default=0.0, help="how long a batch waits for more requests")
    return parser


class Artist:
    """A loaded pipeline with the one thread that draws on it, whichever thread of a server asks."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._thread = ThreadPoolExecutor(1, "draw", torch.set_num_threads, (threads,))
        self._pipe = self._thread.submit(load, folder).result()
        for count in (1, 2, 4, 8):  # the first call of each shape is slower than all others
            self.draw([Ask("", count, 0, 2, guidance) for guidance in (1.0, 3.0)])

    def submit(self, asks: Sequence[Ask]) -> Future[list[list[bytes]]]:
        return self._thread.submit(draw, self._pipe, asks)

    def draw(self, asks: Sequence[Ask]) -> list[list[bytes]]:
        return self.submit(asks).result()


def load(folder: Path) -> Any:
    """The pipeline in `folder`, as vouch itself loads it: single precision, channels last."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging

    logging.disable_progress_bar()
    pipe = StableDiffusionPipeline.from_pretrained(
        str(folder), torch_dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)
    return pipe


def draw(pipe: Any, asks: Sequence[Ask]) -> list[list[bytes]]:
    """The PNGs of every request, in their order."""
    drawn: list[list[bytes]] = [[] for _ in asks]
    for places in alike(asks):
        images = iter(_draw_alike(pipe, [asks[place] for place in places]))
        for place in places:
            drawn[place] = [_png(next(images)) for _ in range(asks[place].count)]
    return drawn


def alike(asks: Sequence[Ask]) -> list[list[int]]:
    """Places of the requests that one pipeline call can draw."""
    groups: dict[tuple[int, float], list[int]] = {}
    for place, ask in enumerate(asks):
        groups.setdefault((ask.steps, ask.guidance), []).append(place)
    return list(groups.values())


def _draw_alike(pipe: Any, asks: Sequence[Ask]) -> list[Any]:
    """PIL images. Each has a generator of its own, so that it does not depend on its batch."""
    seeds = [ask.seed + index for ask in asks for index in range(ask.count)]
    result = pipe(
        [ask.prompt for ask in asks for _ in range(ask.count)],
        num_inference_steps=asks[0].steps,
        guidance_scale=asks[0].guidance,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="pil",
    )
    return list(result.images)


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)  # as vouch does
    return buffer.getvalue()
