"""How fast a U-Net is trained beside diffusers' own loop, at the same settings, and that it learns as well.

    python -m benchmarks.adaptation.rates --base BASE --data ../shared/data --json adaptation-rates.json

Three loops live in one process and take turns, a few steps each: the peer, vouch with an autoencoder at every step, and
vouch with cached latents. A fourth does nothing but the U-Net's forward and backward pass: no cache of anything can be
faster, so its rate ÷ the peer's bounds what caching can reach. A figure is a ratio within a turn, so that a machine
that slows down slows all; the median of the turns counts. Seconds are those of the process's own computing with
`--clock cpu`: on a machine that others use, these are what it would take alone. Cached latents are encoded before the
first turn; what that costs is told too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.adaptation.peer import DiffusersLoop
from benchmarks.adaptation.sets import DATA, SIZE, Sets, joined
from benchmarks.report import Figure, Report, median_figure, screen
from training.adaptation.config import AdaptConfig
from training.adaptation.data import CaptionedSet
from training.adaptation.foundation import Foundation
from training.adaptation.latents import FreshLatents
from training.adaptation.lessons import prepared
from training.adaptation.unet import UNetTuning
from training.adaptation.validation import ValidationLoss
from training.loop.session import TrainingSession

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
PEER, BOUND = "diffusers", "unet_alone"
VALIDATED = 128


@dataclass
class TimedLoop:
    """A loop with the images a second of each of its turns."""

    step: Callable[[], Any]
    unet: Callable[[], dict[str, torch.Tensor]] | None = None
    """The averaged weights of its U-Net, where it learns."""
    prepared_s: float = 0.0
    rates: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, default=Path("vouch/starter/generator"))
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the shared image sets")
    parser.add_argument("--size", type=int, default=SIZE, help="pixels a side")
    parser.add_argument("--images", type=int, default=256, help="that teach")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--steps", type=int, default=4, help="of a turn")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    sets = Sets(asked.data, asked.size)
    data = joined(sets.chests("train").few(asked.images), sets.chests("val"))
    with tempfile.TemporaryDirectory() as scratch:
        report = measured(asked, data, Path(scratch))
    report.finish(asked.json, console=screen())


def measured(asked: argparse.Namespace, data: CaptionedSet, scratch: Path) -> Report:
    """The report of all three loops on these images, each of which has one caption."""
    data = one_caption(data)
    sides = dict(_sides(asked, data, scratch))
    take_turns(sides, asked.turns, asked.steps, asked.batch, CLOCKS[asked.clock])
    loss = validation(asked.base, data)
    before = loss(None)
    losses = {name: loss(side.unet()) for name, side in sides.items() if side.unet}
    return told(sides, losses, before)


def take_turns(
    sides: dict[str, TimedLoop], turns: int, steps: int, batch: int, clock: Callable[[], float]
) -> None:
    """Every loop makes `steps` steps in each turn; who begins moves on. The first turn is not counted."""
    names = list(sides)
    for turn in range(turns + 1):
        for place in range(len(names)):
            side, began = sides[names[(turn + place) % len(names)]], clock()
            for _ in range(steps):
                side.step()
            if turn:
                side.rates.append(batch * steps / (clock() - began))


def told(sides: dict[str, TimedLoop], losses: dict[str, float], before: float) -> Report:
    """From rates and validation losses to the figures that were asked for."""
    report = Report("adaptation-rates")
    for name, must, aim in (("uncached", ">= 1.0", ">= 1.3"), ("cached", ">= 2", ">= 4")):
        pairs = zip(sides[name].rates, sides[PEER].rates, strict=True)
        report.add(
            f"train_rate_{name}", median_figure([own / other for own, other in pairs], "ratio", must, aim)
        )
        gap = losses[name] / losses[PEER] - 1
        report.add(f"validation_loss_{name}_beside", Figure(gap, "relative", must="<= 0.01"))
    bound = [own / other for own, other in zip(sides[BOUND].rates, sides[PEER].rates, strict=True)]
    report.add("train_rate_cached_bound", median_figure(bound, "ratio"))
    for name, side in sides.items():
        report.add(f"images_per_s_{name}", median_figure(side.rates, "images/s"))
    for name, loss in losses.items():
        report.add(f"validation_loss_{name}", Figure(loss, "MSE"))
    report.add("validation_loss_before", Figure(before, "MSE"))
    report.add("encoding_s", Figure(sides["cached"].prepared_s, "s"))
    return report


def validation(base: Path, data: CaptionedSet) -> Callable[[dict[str, torch.Tensor] | None], float]:
    """The denoising loss of a U-Net's weights on the images that validate, noise and timesteps fixed; None: base's."""
    foundation = Foundation(base)
    config = AdaptConfig.model_validate({"base": base, "data": base, "out": base, "rank": 0})
    tuning, unseen = UNetTuning(foundation, config), data.of("val")
    loss = ValidationLoss(tuning, unseen, FreshLatents(foundation, unseen.images, False, 1), VALIDATED, 0)

    def of(weights: dict[str, torch.Tensor] | None) -> float:
        if weights is not None:
            foundation.pipe.unet.load_state_dict(weights)
        return loss()

    foundation.pipe.unet.eval()
    return of


def one_caption(data: CaptionedSet) -> CaptionedSet:
    """The same images, each with its plainest caption: the peer knows no more."""
    return replace(data, captions=tuple(said[:1] for said in data.captions))


def _sides(asked: argparse.Namespace, data: CaptionedSet, scratch: Path) -> Iterator[tuple[str, TimedLoop]]:
    settings = {
        "base": asked.base, "data": asked.data, "out": scratch / "out", "recipe": "unet", "rank": 0, "lr": asked.lr,
        "batch": asked.batch, "ema": 0.99, "drop_caption": 0.0, "threads": 1, "precision": "float32", "keep_vae": True,
        "copy_guard": False, "validated": 1, "symmetric": False,
    }  # fmt: skip
    peer = DiffusersLoop(asked.base, data.of("train"), AdaptConfig.model_validate(settings))
    yield PEER, TimedLoop(peer.step, peer.averaged)
    for name, cached in (("uncached", False), ("cached", True)):
        yield (
            name,
            _own(AdaptConfig.model_validate({**settings, "cache_latents": cached}), data, scratch / name),
        )

    yield BOUND, TimedLoop(_passes(asked))


def _passes(asked: argparse.Namespace) -> Callable[[], None]:
    """The U-Net's forward and backward pass of a batch, and nothing else."""
    foundation = Foundation(asked.base)
    unet = foundation.pipe.unet.requires_grad_(True)
    words = foundation.embed([""]).expand(asked.batch, -1, -1)
    x = torch.randn(asked.batch, unet.config.in_channels, *(unet.config.sample_size,) * 2)

    def step() -> None:
        unet(x, torch.zeros(asked.batch), words).sample.square().mean().backward()
        unet.zero_grad(set_to_none=True)

    return step


def _own(config: AdaptConfig, data: CaptionedSet, folder: Path) -> TimedLoop:
    """vouch's trainer, as an adaptation makes it."""
    torch.manual_seed(0)
    foundation, began = Foundation(config.base), time.perf_counter()
    trainer = prepared(UNetTuning(foundation, config), data, None, config, TrainingSession(folder))
    taken, steps = time.perf_counter() - began, iter(range(10**9))

    def averaged() -> dict[str, torch.Tensor]:
        assert trainer.ema is not None
        trainer.ema.swap()
        weights = {name: value.clone() for name, value in foundation.pipe.unet.state_dict().items()}
        trainer.ema.swap()
        return weights

    return TimedLoop(lambda: trainer.step(next(steps), 0.0), averaged, taken)


if __name__ == "__main__":
    main()
