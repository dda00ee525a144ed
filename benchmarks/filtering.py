"""`vouch filter` as a whole, against the reward model alone on decoded images."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import cores
from benchmarks.system import BenchmarkSystem
from vouch.client import Client
from vouch.formats import images
from vouch.storage.state import StateFolder

BATCH = 64


def filter_rates(system: BenchmarkSystem, *, seconds: float, repeats: int) -> list[tuple[float, float]]:
    """(images/s of the command, images/s of the bare model), measured in turns.

    seconds: how long the bare model takes for the set; the command's start-up counts as its own time.
    """
    with tempfile.TemporaryDirectory(prefix="vouch-filter-") as folder:
        with system.client() as client:
            prompt, pixels = _sample_images(client)
            model = BareReward(system.state, client)
        pixels = _varied(pixels, max(BATCH, int(model.rate(pixels, prompt) * seconds)))
        source = Path(folder, "images")
        _write_images(pixels, source)
        rates = []
        for repeat in range(repeats):
            bare = model.rate(pixels, prompt)
            took = _filter_s(system, source, Path(folder, f"out-{repeat}"), prompt)
            rates.append((len(pixels) / took, bare))
    return rates


class BareReward:
    """The reward model that serves, loaded here, with every core."""

    def __init__(self, state: Path, client: Client) -> None:
        import torch

        from vouch.models.networks.reward import RewardEnsemble
        from vouch.storage.catalog import Catalog
        from vouch.storage.registry import Registry

        folder = StateFolder(state)
        (slot,) = client.get_serving("reward").slots
        with Catalog(folder.catalog_url) as catalog:
            self._model = RewardEnsemble.load(Registry(catalog, folder.models).open(slot.champion_version))
        torch.set_num_threads(cores())

    def rate(self, pixels: np.ndarray, prompt: str) -> float:
        """Images per second over `pixels`, uint8 [N, H, W, 3], after one batch to warm up."""
        self._score(pixels[:BATCH], prompt)
        began = time.perf_counter()
        for start in range(0, len(pixels), BATCH):
            self._score(pixels[start : start + BATCH], prompt)
        return len(pixels) / (time.perf_counter() - began)

    def _score(self, batch: np.ndarray, prompt: str) -> None:
        self._model.score(batch, [prompt] * len(batch))


def _sample_images(client: Client) -> tuple[str, np.ndarray]:
    prompt = client.describe_generator().example_prompts[0]
    reply = client.generate_images(prompt, count=16, seed=0, steps=4, score=False)
    return prompt, np.stack([images.decode(image.data) for image in reply.images])


def _varied(pixels: np.ndarray, count: int) -> np.ndarray:
    """`count` images, none like another: the same image twice might be scored once."""
    noise = np.random.default_rng(0)
    repeated = pixels[np.arange(count) % len(pixels)].astype(np.int16)
    return np.clip(repeated + noise.integers(-8, 9, repeated.shape, dtype=np.int16), 0, 255).astype(np.uint8)


def _write_images(pixels: np.ndarray, folder: Path) -> None:
    folder.mkdir()
    for number, image in enumerate(pixels):
        (folder / f"{number:06}.png").write_bytes(images.encode_png(image))


def _filter_s(system: BenchmarkSystem, source: Path, out: Path, prompt: str) -> float:
    command = [sys.executable, "-m", "vouch", "filter", str(source), str(out), "--min-score", "0.8"]
    command += ["--prompt", prompt, "--state", str(system.state), "--json"]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"vouch filter ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return time.perf_counter() - began
