"""How many ratings the review queue needs for what random choice reaches.

Both choose from one pool of the starter's images; one simulated pathologist answers, with errors;
upon the reward's frozen features its last layers learn from the answers, each round anew from their parent's; one
held-out set measures. The queue is the code that the service runs.

The reward that learns on has seen real cells under their own and under another class, as in paper 1. The one that ships
also knows their annotations, by which the simulated rater judges too: ratings teach it next to nothing, whoever chose
them. `--reward` measures it, or any other.

python -m benchmarks.alignment.queue --json FILE [--quick] [--work FOLDER] [--reward FOLDER] [--strategies NAME,...]
"""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from sklearn.isotonic import isotonic_regression
from sklearn.metrics import roc_auc_score

from benchmarks.alignment.heads import Heads
from benchmarks.alignment.last_layer import LastLayer
from benchmarks.alignment.plan import PBC64
from benchmarks.alignment.rated import RatedDrawings, rated
from benchmarks.alignment.world import STARTER
from benchmarks.report import Figure, Report, arguments, screen
from services.feedback.review import POOL, RECENT
from services.feedback.selection import choose
from training.loop.session import TrainingSession
from training.reward.config import RewardConfig
from training.reward.fit import fit as fit_reward
from vouch.models.networks.reward import RewardEnsemble
from vouch.settings import ReviewSettings
from vouch.types.image import ImageRecord
from vouch.types.score import Score

THRESHOLD = ReviewSettings().threshold
POOL_SEED, HELD_SEED = 40_000_000, 41_000_000
"""Far from each other, and from the seeds on which the queue was developed."""
BEGINNING = 260
"""Steps of the reward that has seen no annotation."""
MEASURES = ("noisy", "true")
"""Against the verdicts as they were given, and as they would be without errors."""
console = screen()


@dataclass(frozen=True)
class Offer:
    """What a choice is made from: images that nobody has rated, those rated last, and the scores of both."""

    images: Sequence[ImageRecord]
    recent: Sequence[ImageRecord]
    scores: Mapping[str, Score]


Strategy = Callable[[Offer, int, random.Random], list[ImageRecord]]
Learner = Heads | LastLayer
Curve = np.ndarray
"""Rows of (ratings, AUROC against noisy verdicts, against true ones)."""


@dataclass(frozen=True)
class QueuePlan:
    """Images to choose from and to measure on; ratings at the start, of a round and at the end; how many a rater asks
    for at once; who learns, and the steps of heads; repeats, each with another start."""

    pool: int = 2880
    held: int = 960
    start: int = 64
    batch: int = 64
    last: int = 768
    asked: int = 16
    steps: int = 80
    learner: Literal["last_layer", "heads"] = "last_layer"
    seeds: tuple[int, ...] = tuple(range(20))


QUICK = QueuePlan(pool=480, held=160, last=192, seeds=(0, 1))


def main() -> None:
    parser = arguments(
        "benchmarks.alignment.queue", "Ratings that the review queue needs, by those of random choice."
    )
    parser.add_argument("--quick", action="store_true", help="two minutes; the figures mean little")
    parser.add_argument("--work", type=Path, help="keep what is drawn and measured here, and go on from it")
    parser.add_argument("--data", type=Path, default=PBC64, help="folder of pbc64")
    parser.add_argument("--reward", type=Path, help="the reward that learns on (default: one is made)")
    parser.add_argument("--learner", choices=("last_layer", "heads"), default="last_layer")
    parser.add_argument("--seeds", type=int, help="how many")
    parser.add_argument("--strategies", default=",".join(STRATEGIES), help="by comma")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        plan = replace(QUICK if chosen.quick else QueuePlan(), learner=chosen.learner)
        plan = replace(plan, seeds=tuple(range(chosen.seeds))) if chosen.seeds else plan
        work = chosen.work or Path(scratch)
        study = Study(work, chosen.reward or unannotated(work, chosen.data), plan)
        report = measured(study, ["random", *(n for n in chosen.strategies.split(",") if n != "random")])
    report.finish(chosen.json, console=console)


def unannotated(folder: Path, real: Path | None) -> Path:
    """A reward that knows cells and their classes. Without the folder of real images: the one that ships."""
    if real is None or not real.is_dir():
        console.print("[yellow]Without real images the reward that ships learns on.[/yellow]")
        return STARTER / "reward"
    out = folder / "unannotated"
    if not out.is_dir():
        criteria = RewardEnsemble.load(STARTER / "reward").criteria
        config = RewardConfig(
            out=out, data=real / "train.parquet", split="teach", criteria=tuple(criteria), steps=BEGINNING,
            recognise=0.0, threads=torch.get_num_threads(),
        )  # fmt: skip
        fit_reward(config, TrainingSession(folder / "unannotated-run"))
    return out


# ---- who chooses


def by_queue(offer: Offer, count: int, rng: random.Random) -> list[ImageRecord]:
    """As the service chooses what teaches the most; without the uniform share that it is measured on."""
    chosen = choose(offer.images, offer.scores, count, threshold=THRESHOLD, rng=rng, beside=offer.recent)
    return [choice.image for choice in chosen]


def at_random(offer: Offer, count: int, rng: random.Random) -> list[ImageRecord]:
    return rng.sample(list(offer.images), count)


def only(*factors: str) -> Strategy:
    """The queue with these of its factors, the others made equal for all images."""

    def strategy(offer: Offer, count: int, rng: random.Random) -> list[ImageRecord]:
        scores = {digest: _flattened(score, factors) for digest, score in offer.scores.items()}
        if "diversity" in factors:
            return by_queue(replace(offer, scores=scores), count, rng)
        left, chosen = list(offer.images), list[ImageRecord]()
        for _ in range(count):  # one at a time, beside nothing: there is nothing to differ from
            chosen += by_queue(Offer(left, (), scores), 1, rng)
            left.remove(chosen[-1])
        return chosen

    return strategy


def _flattened(score: Score, factors: Sequence[str]) -> Score:
    """Without the factors that are not named. At the threshold the overall score says nothing to diversity either."""
    std = score.std if "disagreement" in factors else 0.1
    return replace(score, std=std, overall=score.overall if "nearness" in factors else THRESHOLD)


STRATEGIES: dict[str, Strategy] = {
    "random": at_random,
    "queue": by_queue,
    "disagreement": only("disagreement"),
    "nearness": only("nearness"),
    "diversity": only("diversity"),
    "without_disagreement": only("nearness", "diversity"),
    "without_nearness": only("disagreement", "diversity"),
    "without_diversity": only("disagreement", "nearness"),
}


# ---- what comes of it


class Study:
    """One pool, one held-out set, one reward to begin with. What was measured stays in the folder."""

    def __init__(self, folder: Path, reward: Path, plan: QueuePlan) -> None:
        self.plan, heads = plan, Heads.load(reward)
        told = json.dumps([{**vars(plan), "seeds": None}, heads.digest], sort_keys=True)
        self._folder = folder / hashlib.sha256(told.encode()).hexdigest()[:12]
        self._folder.mkdir(parents=True, exist_ok=True)
        self.pool = rated(folder / "drawn", heads, POOL_SEED, plan.pool)
        self.held = rated(folder / "drawn", heads, HELD_SEED, plan.held)
        self._parent: Learner = heads if plan.learner == "heads" else LastLayer(heads, self.pool.seen)
        self._records = [_record(self.pool, row) for row in range(len(self.pool))]

    def parent(self) -> tuple[float, float]:
        """What the reward reaches before any rating."""
        return self._measure(self._parent)

    def curve(self, strategy: str, seed: int) -> Curve:
        kept = self._folder / f"{strategy}-{seed}.json"
        if not kept.is_file():
            kept.write_text(json.dumps(self._grow(STRATEGIES[strategy], seed)))
        return np.array(json.loads(kept.read_text()))

    def _grow(self, strategy: Strategy, seed: int) -> list[tuple[int, float, float]]:
        """Rounds of rating, learning and measuring."""
        rng = random.Random(seed)
        rows = rng.sample(range(len(self.pool)), self.plan.start)
        found = []
        while True:
            seen, targets = self.pool.seen.part(rows), self.pool.targets[rows]
            reward = self._parent.fitted(seen, targets, steps=self.plan.steps, seed=seed)
            found.append((len(rows), *self._measure(reward)))
            if len(rows) >= self.plan.last:
                return found
            rows += self._asked(strategy, reward, rows, rng)

    def _measure(self, reward: Learner) -> tuple[float, float]:
        said = reward.score(self.held.seen).overall
        verdicts = self.held.targets[:, 0].numpy(), self.held.truth
        noisy, true = (float(roc_auc_score(wanted, said)) for wanted in verdicts)
        return noisy, true

    def _asked(self, strategy: Strategy, reward: Learner, rated_: list[int], rng: random.Random) -> list[int]:
        """A round's images, in as many calls as a rater makes: each looks at so many that nobody has rated."""
        rows: list[int] = []
        while len(rows) < self.plan.batch:
            left = sorted(set(range(len(self.pool))) - set(rated_) - set(rows))
            some, recent = rng.sample(left, min(POOL, len(left))), [*rated_, *rows][-RECENT:]
            offer = Offer(
                [self._records[row] for row in some],
                [self._records[row] for row in recent],
                self._scores(reward, [*some, *recent]),
            )
            place = {self._records[row].digest: row for row in some}
            rows += [place[image.digest] for image in strategy(offer, self.plan.asked, rng)]
        return rows

    def _scores(self, reward: Learner, rows: list[int]) -> dict[str, Score]:
        found = reward.score(self.pool.seen.part(rows))
        return {
            self._records[row].digest: Score(
                image=self._records[row].digest,
                version="",
                overall=float(found.overall[n]),
                std=float(found.std[n]),
                criteria={name: float(values[n]) for name, values in found.criteria.items()},
            )
            for n, row in enumerate(rows)
        }


def _record(pool: RatedDrawings, row: int) -> ImageRecord:
    label = str(pool.labels[row])
    return ImageRecord(
        digest=str(pool.digests[row]), media_type="image/png", width=64, height=64, size_bytes=0,
        source="generated", prompt=label, label=label,
    )  # fmt: skip


# ---- what it says


def measured(study: Study, strategies: Sequence[str]) -> Report:
    report = Report(f"queue_{study.plan.learner}")
    for measure, value in zip(MEASURES, study.parent(), strict=True):
        report.add(f"parent_auroc_{measure}", Figure(value, "share"))
    curves: dict[str, np.ndarray] = {}
    for name in strategies:
        curves[name] = np.stack([study.curve(name, seed) for seed in study.plan.seeds])
        _tell(report, name, curves[name])
    for name in strategies[1:]:
        for column, measure in enumerate(MEASURES, start=1):
            _compare(
                report, name, measure, curves[name][:, :, [0, column]], curves["random"][:, :, [0, column]]
            )
    return report


def _tell(report: Report, name: str, curves: np.ndarray) -> None:
    mean = curves.mean(0)
    for column, measure in enumerate(MEASURES, start=1):
        for row in sorted({0, len(mean) // 4, len(mean) // 2, len(mean) - 1}):
            figure = Figure(float(mean[row, column]), "share")
            report.add(f"{name}_auroc_{measure}_at_{int(mean[row, 0])}", figure)


def _compare(report: Report, name: str, measure: str, own: np.ndarray, random_: np.ndarray) -> None:
    """own, random_: [seeds, rounds, (ratings, AUROC)]."""
    main_figure = name == "queue" and measure == "noisy"
    limits = {"must": "<= 0.67", "aim": "<= 0.25"} if main_figure else {}
    value, low, high = ratio(own, random_)
    report.add(f"{name}_not_reached_{measure}", Figure(not_reached(own, random_), "of resamples"))
    title = "ratings_vs_random" if main_figure else f"{name}_ratings_vs_random_{measure}"
    report.add(title, Figure(value, "ratio", low, high, **limits))
    value, low, high = ratio(own, random_, at=random_.shape[1] // 2 - 1)
    report.add(f"{title}_at_half", Figure(value, "ratio", low, high))


def ratio(
    own: np.ndarray, random_: np.ndarray, *, at: int = -1, rounds: int = 1000
) -> tuple[float | None, float | None, float | None]:
    """Ratings that `own` needs for the AUROC that `random_` has after round `at`, by those that it needed itself, and
    the interval over seeds. None where that many are not reached.

    own, random_: [seeds, rounds, (ratings, AUROC)], seed by seed from the same start.
    """
    low, high = np.quantile(_resampled(own, random_, at, rounds), (0.025, 0.975), method="nearest")
    return _finite(_ratio(own.mean(0), random_.mean(0), at)), _finite(low), _finite(high)


def not_reached(own: np.ndarray, random_: np.ndarray) -> float:
    """In which share of the resampled repeats `own` ends below `random_`: such a ratio has no upper bound."""
    return float(np.mean(~np.isfinite(_resampled(own, random_, -1, 1000))))


def _resampled(own: np.ndarray, random_: np.ndarray, at: int, rounds: int) -> list[float]:
    picks = np.random.default_rng(0).integers(0, len(own), (rounds, len(own)))
    return [_ratio(own[pick].mean(0), random_[pick].mean(0), at) for pick in picks]


def _ratio(own: np.ndarray, random_: np.ndarray, at: int) -> float:
    target = _rising(random_)[at]
    return _reached(own, target) / _reached(random_, target)


def _reached(curve: np.ndarray, target: float) -> float:
    """The first number of ratings at which the rising curve is at `target`, between rounds by a straight line."""
    ratings, auroc = curve[:, 0], _rising(curve)
    above = np.flatnonzero(auroc >= target - 1e-9)
    if not len(above):
        return float("inf")
    row = above[0]
    if row == 0:
        return float(ratings[0])
    share = (target - auroc[row - 1]) / (auroc[row] - auroc[row - 1])
    return float(ratings[row - 1] + share * (ratings[row] - ratings[row - 1]))


def _rising(curve: np.ndarray) -> np.ndarray:
    """More ratings teach no less: what says otherwise is rng."""
    return np.asarray(isotonic_regression(curve[:, 1]))


def _finite(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None


if __name__ == "__main__":
    main()
