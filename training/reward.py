"""Reward training: an ensemble learns plausibility from ratings and from real images with pseudo-labels.

Sun et al. 2023 (arXiv 2306.12438), section 3.2: beside the experts' verdicts, a real image with its own class is
plausible, and with a class drawn at random is not. Here every criterion is learned as well, and what a rater left
open is masked instead of guessed.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from training import checkpoint
from training.attributes import half_of
from training.data import Examples, load_examples
from training.ema import Ema
from training.inputs import Rated, load_pairs, load_rated
from training.objectives.comparison import bradley_terry
from training.objectives.plausibility import masked_cross_entropy
from training.randomness import numbers
from training.reward_batches import (
    Batches,
    Comparison,
    PairBatches,
    RatedRows,
    RealRows,
    Rows,
    SwappedRows,
)
from training.session import Session
from vouch.captions import Vocabulary
from vouch.errors import FailedPrecondition
from vouch.networks.backbone import to_input
from vouch.networks.reward import RewardEnsemble
from vouch.recipes import RewardTraining

PRIOR_RATINGS = 10.0


class RewardConfig(RewardTraining):
    """One reward training."""

    out: Path
    parent: Path | None = None
    """A reward folder to go on from; without one the ensemble starts from random weights."""


def fit(config: RewardConfig, session: Session) -> dict[str, float]:
    """Trains the ensemble and saves it in `config.out`; returns figures on ratings that it never saw.

    Raises:
        FailedPrecondition: neither ratings nor real images.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    rated = load_rated(session.folder)
    real = half_of(load_examples(config.data, config.size), config.half) if config.data else None
    if rated is None and real is None:
        raise FailedPrecondition(
            "Reward training needs ratings or labelled real images; there are neither.", "NO_RATINGS"
        )
    model = _build(config, rated, real)
    learn, tune, test = split(rated, config)
    batches = _batches(model, rated, learn, real, config)
    pairs = _pair_batches(model, rated, [*tune, *test], config, session.folder)
    seconds = _train(model, batches, pairs, config, session)
    model.eval()
    figures = {"train_seconds": seconds, "ratings_learned": float(len(learn))}
    if rated is not None and len(tune) and len(test):
        model.temperature = fit_temperature(model, rated, tune)
        figures |= {"temperature": model.temperature, **measure(model, rated, test)}
    model.save(config.out)
    session.note("figures.json", figures)
    return figures


def _build(config: RewardConfig, rated: Rated | None, real: Examples | None) -> RewardEnsemble:
    if config.parent is not None:
        model = RewardEnsemble.load(config.parent).requires_grad_(True)
        model.temperature = 1.0
        return model
    vocabulary = real.vocabulary if real else _vocabulary_of(rated)
    criteria = config.criteria or (tuple(rated.criteria) if rated else ())
    model = RewardEnsemble(
        vocabulary, criteria, members=config.members, size=config.size, widths=config.widths
    )
    return model.to(memory_format=torch.channels_last)


def _vocabulary_of(rated: Rated | None) -> Vocabulary:
    assert rated is not None
    return Vocabulary.of((prompt.split(",")[0].strip() for prompt in rated.prompts), ())


def split(rated: Rated | None, config: RewardConfig) -> tuple[list[int], list[int], list[int]]:
    """Indices that are learned, that fit the temperature and that measure: by image, so none is in two."""
    if rated is None:
        return [], [], []
    order = list(range(len(rated)))
    numbers(config.seed, "split").shuffle(order)
    held = math.ceil(config.held_out * len(order)) if len(order) >= 20 else 0
    return order[held:], order[: held // 2], order[held // 2 : held]


def _batches(
    model: RewardEnsemble, rated: Rated | None, learn: list[int], real: Examples | None, config: RewardConfig
) -> Batches:
    """Rated images with a share of pseudo-labelled ones: real where there are some, else rated ones swapped."""
    parts: list[tuple[Rows, int]] = []
    count = config.batch
    if rated is not None and learn:
        rows = RatedRows(rated, learn, model)
        count = round(config.batch * config.real_share)
        parts.append((rows, config.batch - count))
        if real is None:
            parts.append((SwappedRows(rows), count))
    if real is not None:
        parts.append((RealRows(real, model), count))
    return Batches(model, parts, symmetric=config.symmetric, seed=config.seed)


def _pair_batches(
    model: RewardEnsemble, rated: Rated | None, held: list[int], config: RewardConfig, folder: Path
) -> PairBatches | None:
    """What was compared, but for images that the figures are measured on."""
    pairs = load_pairs(folder)
    if pairs is None:
        return None
    learn = pairs.without({rated.digests[row] for row in held} if rated else ())
    if not learn:
        return None
    count = max(1, config.batch // 4)
    return PairBatches(model, pairs, learn, count, symmetric=config.symmetric, seed=config.seed)


def _train(
    model: RewardEnsemble,
    batches: Batches,
    pairs: PairBatches | None,
    config: RewardConfig,
    session: Session,
) -> float:
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.05)
    ema = Ema([model], 0.98)
    first, seconds = 0, 0.0
    if found := checkpoint.load_latest(session.folder / "reward"):
        first, state = found
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        ema.load_state_dict(state["ema"])
        seconds = state["seconds"]
    started = time.monotonic()
    model.train()
    for step in range(first + 1, config.steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = (
                config.lr
                * min(step / 20, 1.0)
                * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / config.steps)))
            )
        loss = _step(model, batches, pairs, step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        ema.update()
        session.report(step, config.steps, "reward ensemble", loss=float(loss.detach()))
        if step % config.checkpoint_every == 0:
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "ema": ema.state_dict(),
            }
            checkpoint.save(
                session.folder / "reward", step, {**state, "seconds": seconds + time.monotonic() - started}
            )
    ema.swap()
    return seconds + time.monotonic() - started


def _step(model: RewardEnsemble, batches: Batches, pairs: PairBatches | None, step: int) -> torch.Tensor:
    losses = []
    for number, member in enumerate(model.members):
        batch = batches.batch(number, step)
        losses.append(masked_cross_entropy(member(batch.images, batch.prompts), batch.targets))
        if pairs is not None:
            losses.append(_compared(member, pairs.batch(number, step)))
    return torch.stack(losses).sum()


def _compared(member: torch.nn.Module, pair: Comparison) -> torch.Tensor:
    first = member(pair.first, pair.first_prompts)[:, 0]
    second = member(pair.second, pair.second_prompts)[:, 0]
    return bradley_terry(first, second, pair.preferred)


@torch.no_grad()
def _mean_logits(model: RewardEnsemble, rated: Rated, rows: list[int]) -> torch.Tensor:
    codes = model.encode([rated.prompts[i] for i in rows])
    images = to_input(rated.images[rows], model.size)
    return torch.cat(
        [model.logits(images[i : i + 64], codes[i : i + 64]) for i in range(0, len(rows), 64)], 1
    )


def fit_temperature(model: RewardEnsemble, rated: Rated, rows: list[int]) -> float:
    """The temperature that makes the ensemble's mean probability most likely on `rows` (Guo et al. 2017).

    A log-normal prior about 1 weighs as much as ten ratings: a handful that all went right would otherwise claim
    certainty, and a certain reward has no gradient left to align with.
    """
    known = [i for i in rows if not rated.overall[i].isnan()]
    if not known:
        return 1.0
    logits, wanted = _mean_logits(model, rated, known)[:, :, 0], rated.overall[known]
    grid = torch.logspace(-0.7, 1.0, 60)

    def cost(temperature: torch.Tensor) -> torch.Tensor:
        said = (logits / temperature).sigmoid().mean(0).clamp(1e-4, 1 - 1e-4)
        return (
            F.binary_cross_entropy(said, wanted, reduction="sum")
            + PRIOR_RATINGS * temperature.log().pow(2) / 2
        )

    return float(grid[int(torch.stack([cost(t) for t in grid]).argmin())])


def measure(model: RewardEnsemble, rated: Rated, rows: list[int]) -> dict[str, float]:
    """AUROC, calibration error (10 equal-width bins) and size on held-out rated images."""
    known = [i for i in rows if float(rated.overall[i]) in (0.0, 1.0)]
    if not known:
        return {}
    score = _mean_logits(model, rated, known)[:, :, 0].sigmoid().mean(0).numpy()
    wanted = rated.overall[known].numpy()
    figures = {"held_out": float(len(known)), "ece": expected_calibration_error(score, wanted)}
    if 0 < wanted.mean() < 1:
        figures["auroc"] = float(roc_auc_score(wanted, score))
    return figures


def expected_calibration_error(score: np.ndarray, wanted: np.ndarray, bins: int = 10) -> float:
    """Σ_b n_b/N · |mean score − share of ones| over equal-width bins (Naeini et al. 2015)."""
    place = np.minimum((score * bins).astype(int), bins - 1)
    parts = [
        (place == b).mean() * abs(score[place == b].mean() - wanted[place == b].mean())
        for b in set(place.tolist())
    ]
    return float(sum(parts))
