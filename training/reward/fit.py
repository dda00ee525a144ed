"""Reward training: an ensemble learns plausibility from ratings and from real images with pseudo-labels.

Sun et al. 2023 (arXiv 2306.12438), section 3.2: beside the experts' verdicts, a real image with its own class is
plausible, and with a class drawn at random is not. Here every criterion is learned as well, and what a rater left
open is masked instead of guessed.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from training.data.examples import Examples, load_examples
from training.data.splits import split_of
from training.inputs.pairs import load_pairs
from training.inputs.rated import Rated, load_rated
from training.inputs.snapshot import frozen_kinds
from training.loop.session import TrainingSession
from training.loop.training_loop import TrainingLoop
from training.randomness import numbers
from training.reward.batches import (
    Augmented,
    Batches,
    FrozenFeatures,
    ImageRows,
    PairBatches,
    RatedRows,
    RealRows,
    SwappedRows,
)
from training.reward.calibration import fit_calibration
from training.reward.config import RewardConfig
from training.reward.evidence import CHOSEN, MIXED, UNIFORM, RewardEvidence
from training.reward.trainer import RewardTrainer
from vouch.errors import FailedPrecondition
from vouch.models.captions import Vocabulary
from vouch.models.networks.backbone import to_input
from vouch.models.networks.reward import RewardEnsemble
from vouch.models.networks.vision import VisionBackbone
from vouch.models.scale import Scale

DEFAULT_SIZE = 64
FEWEST = 20
"""Rated images below which no share is held out, and uniformly drawn ones below which one is."""


def fit(config: RewardConfig, session: TrainingSession) -> dict[str, float]:
    """Trains the ensemble and saves it in `config.out`; returns figures on ratings that it never saw.

    Raises:
        FailedPrecondition: neither ratings nor real images.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    rated = load_rated(session.folder)
    real = _real(config)
    if rated is None and real is None:
        raise FailedPrecondition(
            "Reward training needs ratings or labelled real images; there are neither.", "NO_RATINGS"
        )
    model = _build(config, rated, real)
    learn, held = split(rated, config)
    group = session.group
    own = config.model_copy(update={"batch": group.batch_share(config.batch)})
    sources = Sources(model, rated, learn, real, own, group.rank_seed(config.seed))
    pairs = sources.pairs(held, session.folder)
    trainer = RewardTrainer(model, sources.batches(), pairs, config, session)
    result = TrainingLoop(
        trainer, session, "reward ensemble", session.folder / "reward", config.steps,
        checkpoint_every=config.checkpoint_every,
    ).run()  # fmt: skip
    trainer.ema.swap()
    if not session.group.is_rank_zero:
        return {}
    model.cpu().eval()
    figures = {"train_seconds": result.seconds, "ratings_learned": float(len(learn))}
    figures |= _calibrate(model, rated, held, config.out, session.folder)
    model.save(config.out)
    session.note("figures.json", figures)
    return figures


def _real(config: RewardConfig) -> Examples | None:
    if config.data is None:
        return None
    return split_of(load_examples(config.data, _load_size(config), config.domain), config.split)


def _load_size(config: RewardConfig) -> int | None:
    """Pixels to which real images are brought when they are read; None leaves them as they are."""
    return config.size if config.backbone else config.size or DEFAULT_SIZE


def _build(config: RewardConfig, rated: Rated | None, real: Examples | None) -> RewardEnsemble:
    parent = RewardEnsemble.load(config.parent) if config.parent else None
    if parent is not None and config.backbone is None:
        parent.scale = Scale()
        parent.class_criterion = config.domain.class_criterion
        return _trainable(parent, config)
    # Upon another backbone nothing of the parent's weights can stay; what it was asked can.
    vocabulary = parent.vocabulary if parent else real.vocabulary if real else _vocabulary_of(rated)
    criteria = config.criteria or (parent.criteria if parent else tuple(rated.criteria) if rated else ())
    model = RewardEnsemble(
        vocabulary,
        criteria,
        members=config.members,
        size=config.size or DEFAULT_SIZE,
        widths=config.widths,
        backbone=VisionBackbone.open(config.backbone) if config.backbone else None,
    )
    model.class_criterion = config.domain.class_criterion
    return _trainable(model.to(memory_format=torch.channels_last), config)


def _trainable(model: RewardEnsemble, config: RewardConfig) -> RewardEnsemble:
    model.requires_grad_(True)
    if model.backbone is not None:
        model.backbone.requires_grad_(config.fine_tune)
    return model


def _vocabulary_of(rated: Rated | None) -> Vocabulary:
    assert rated is not None
    return Vocabulary.of((prompt.split(",")[0].strip() for prompt in rated.prompts), ())


def split(rated: Rated | None, config: RewardConfig) -> tuple[list[int], list[int]]:
    """Indices that are learned, and those that calibrate and measure.

    Images that the review queue drew uniformly calibrate and measure, and teach nobody: those that it chose by their
    score are harder than what is scored later. While fewer than `FEWEST` of them are rated, a share of the others is
    held out as well. An image's own digest decides, there and in the queue: whatever is rated later, the parent has
    not learned from it either.
    """
    if rated is None:
        return [], []
    held = [i for i, digest in enumerate(rated.digests) if digest in rated.uniform]
    if len(held) < FEWEST <= len(rated):
        held += [
            i
            for i, digest in enumerate(rated.digests)
            if digest not in rated.uniform and numbers("held out", digest).random() < config.held_out
        ]
    return sorted(set(range(len(rated))) - set(held)), sorted(held)


def measured_on(rated: Rated, held: list[int]) -> str:
    """Which stratum the held-out images are of."""
    fair = [rated.digests[i] in rated.uniform for i in held]
    return UNIFORM if all(fair) else MIXED if any(fair) else CHOSEN


class Sources:
    """Where members' batches come from."""

    def __init__(
        self,
        model: RewardEnsemble,
        rated: Rated | None,
        learn: list[int],
        real: Examples | None,
        config: RewardConfig,
        seed: object,
    ) -> None:
        self.model, self.rated, self.learn, self.real, self.config = model, rated, learn, real, config
        self.seed = seed
        self.size = _picture_size(model, rated, real, config)
        frozen = model.backbone is not None and not config.fine_tune
        self.show = (
            FrozenFeatures(model, config.views, config.symmetric) if frozen else Augmented(config.symmetric)
        )

    def batches(self) -> Batches:
        """Rated images with a share of pseudo-labelled ones: real where there are some, else rated ones swapped."""
        config, parts = self.config, list[tuple[ImageRows, int]]()
        count = config.batch
        if self.rated is not None and self.learn:
            rows = RatedRows(self.rated, self.learn, self.model, self.size)
            count = round(config.batch * config.real_share)
            parts.append((rows, config.batch - count))
            if self.real is None:
                parts.append((SwappedRows(rows), count))
        if self.real is not None:
            parts.append((RealRows(self.real, self.model, self.size), count))
        return Batches(self.model, parts, show=self.show, seed=self.seed)

    def pairs(self, held: list[int], folder: Path) -> PairBatches | None:
        """What was compared, but for images that the figures are measured on."""
        pairs = load_pairs(folder)
        if pairs is None:
            return None
        learn = pairs.without({self.rated.digests[row] for row in held} if self.rated else ())
        if not learn:
            return None
        count = max(1, self.config.batch // 4)
        return PairBatches(self.model, pairs, learn, count, size=self.size, show=self.show, seed=self.seed)


def _picture_size(
    model: RewardEnsemble, rated: Rated | None, real: Examples | None, config: RewardConfig
) -> int:
    """Pixels square of the images in memory. A foreign backbone brings them to its own size itself, so they stay as
    small as they came."""
    if model.backbone is None:
        return model.size
    came = rated.images if rated is not None else real.images if real is not None else None
    assert came is not None
    return config.size or came.shape[-1]


def _calibrate(
    model: RewardEnsemble, rated: Rated | None, held: list[int], out: Path, folder: Path
) -> dict[str, float]:
    """Fits the scale on all that was held out, and writes down what these images say of the ensemble."""
    if rated is None or not held:
        return {}
    every = rated.targets(model.criteria)
    logits, targets, stratum = member_logits(model, rated, held), every[held], measured_on(rated, held)
    known = ~targets.isnan()
    passed = every.nanmean(0).tolist() if stratum == CHOSEN else [None] * targets.shape[1]
    fitted = [
        fit_calibration(logits[:, known[:, c], c], targets[known[:, c], c], share)
        for c, share in enumerate(passed)
    ]
    model.scale = Scale(
        verdict=fitted[0],
        criteria=dict(zip(model.criteria, fitted[1:], strict=True)),
        calibrated_on=int(known[:, 0].sum()),
        raters=frozen_kinds(folder),
    )
    figures = asdict(fitted[0])
    evidence = RewardEvidence.of(logits, targets, model.criteria, stratum)
    if evidence is None:
        return figures
    out.mkdir(parents=True, exist_ok=True)
    evidence.write(out, model.scale)
    return {**figures, **evidence.figures()}


@torch.no_grad()
def member_logits(model: RewardEnsemble, rated: Rated, rows: list[int], batch: int = 64) -> torch.Tensor:
    """What the members say of these rated images: [K, N, 1 + criteria]."""
    codes = model.encode([rated.prompts[i] for i in rows])
    parts = [
        model.logits(to_input(rated.images[rows[i : i + batch]], model.size), codes[i : i + batch])
        for i in range(0, len(rows), batch)
    ]
    return torch.cat(parts, 1)
