"""What no server can go beyond: the U-Net alone, in a loop, at its best batch size.

    python -m benchmarks.serving.bare --model FOLDER --threads 2 --sizes 8 16 32 --seconds 4

Prints image-steps per second for each size as JSON. An image-step is one evaluation of the U-Net for one image.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.serving.peers.drawing import load
from benchmarks.serving.process import asked

WARM_UP_CALLS = 3


def limits(model: Path, sizes: Sequence[int], seconds: float) -> dict[int, float]:
    """Image-steps per second by batch size, measured in a process of its own."""
    found = asked("benchmarks.serving.bare", "--model", model, "--seconds", seconds, "--sizes", *sizes)
    return {int(size): rate for size, rate in found.items()}


@torch.inference_mode()
def rate(pipe: Any, size: int, seconds: float) -> float:
    """Image-steps per second of batches of `size`."""
    unet, config, words = pipe.unet, pipe.unet.config, pipe.tokenizer.model_max_length
    x = torch.randn(size, config.in_channels, config.sample_size, config.sample_size)
    timesteps, prompts = torch.full((size,), 500), torch.randn(size, words, config.cross_attention_dim)
    for _ in range(WARM_UP_CALLS):
        unet(x, timesteps, prompts, return_dict=False)
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        unet(x, timesteps, prompts, return_dict=False)
        calls += 1
    return calls * size / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    pipe = load(given.model)
    print(json.dumps({size: rate(pipe, size, given.seconds) for size in given.sizes}))


if __name__ == "__main__":
    main()
