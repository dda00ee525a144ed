"""Bad candidates, planted: does the policy take them out before they get 25 % of the traffic?

The champion's pictures are drawn by the starter. Candidates of four kinds stand beside it on the same prompts and
seeds: less plausible (cells of another class for a share of the prompts), copies (real images that it has by heart),
narrowed (few pictures of its own again and again), brightened. The starter's judge judges every pair; policy and
analysis are those of serving. Each pair is a look.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

import vouch
from benchmarks.report import Figure, Report
from benchmarks.rollout.plan import MeasurementPlan
from services.rollout.analysis import Events
from services.rollout.comparison import counted
from services.rollout.evidence import COUNTS, Evidence
from services.rollout.policy import Decision, Hold, Observation, Promote, RollBack, decide
from training.data.examples import load_examples
from training.evaluation.intervals import wilson
from training.evaluation.judge import Judge
from training.judging import PairJudge
from vouch.models.pipelines import Generator, load_generator
from vouch.types.clock import now
from vouch.types.rollout import Rollout
from vouch.types.rollout_plan import RolloutPlan
from vouch.types.serving import ReplicaReport, Serving

STARTER = Path(vouch.__file__).parent / "starter"
CHUNK = 16
KINDS = ("less plausible", "copies", "narrowed", "brightened")
FIRST_SEED = 7_000_000
Pictures = Iterator[np.ndarray]
"""One image uint8 [H, W, 3] for each prompt of the pool."""


@dataclass(frozen=True)
class PicturePool:
    """What is asked for, and what the champion drew: uint8 [N, H, W, 3]. spare: more of its pictures."""

    prompts: list[str]
    drawn: np.ndarray
    spare_prompts: list[str]
    spare: np.ndarray


@dataclass(frozen=True)
class Candidate:
    """A kind, how bad it is (0 mild to 1), and what it draws."""

    kind: str
    strength: float
    pictures: Callable[[], Pictures]


def measure(report: Report, plan: MeasurementPlan) -> None:
    """`bad_candidates_stopped`, by kind too, and how many pairs it took."""
    torch.set_num_threads(1)
    pool, judge = _pool(plan), Judge.load(STARTER / "judge")
    kinds = KINDS if (plan.data / "train.parquet").is_file() else tuple(k for k in KINDS if k != "copies")
    candidates = [_candidate(kinds[n % len(kinds)], n // len(kinds), plan, pool) for n in range(plan.planted)]
    stopped: dict[str, list[bool]] = {kind: [] for kind in kinds}
    pairs, escaped = [], 0
    for candidate in candidates:
        decision, looks = _judged(candidate, pool, judge)
        stopped[candidate.kind].append(isinstance(decision, RollBack))
        escaped += isinstance(decision, Promote)
        pairs += [looks] if isinstance(decision, RollBack) else []
        print(f"{candidate.kind} {candidate.strength:.2f}: {type(decision).__name__} after {looks} pairs "
              f"{getattr(decision, 'reason', '')}", flush=True)  # fmt: skip
    _add(report, stopped, pairs, escaped)


def _add(report: Report, stopped: dict[str, list[bool]], pairs: list[int], escaped: int) -> None:
    total, all_of = sum(map(sum, stopped.values())), sum(map(len, stopped.values()))
    low, high = wilson(total, all_of)
    report.add(
        "bad_candidates_stopped",
        Figure(
            total,
            low=low * all_of,
            high=high * all_of,
            unit=f"of {all_of} planted",
            must=">= 48",
            aim=">= 50",
        ),
    )
    for kind, told in stopped.items():
        report.add(f"stopped, {kind}", Figure(sum(told), unit=f"of {len(told)} planted"))
    report.add("bad_candidates_promoted", Figure(escaped, unit="candidates", must="<= 0"))
    if pairs:
        report.add("pairs_until_stopped_p50", Figure(float(np.median(pairs)), unit="pairs"))
        report.add("pairs_until_stopped_max", Figure(max(pairs), unit="pairs"))


def _pool(plan: MeasurementPlan) -> PicturePool:
    generator = load_generator(STARTER / "generator")
    assert generator.vocabulary is not None
    labels = generator.vocabulary.labels
    prompts = [labels[n % len(labels)] for n in range(plan.pool + plan.spare)]
    drawn = np.concatenate(list(_drawn(generator, prompts, plan.steps)))
    kept = plan.pool
    return PicturePool(prompts[:kept], drawn[:kept], prompts[kept:], drawn[kept:])


def _drawn(generator: Generator, prompts: list[str], steps: int) -> Iterator[np.ndarray]:
    """Images uint8 [CHUNK, H, W, 3], each with a seed of its own."""
    for start in range(0, len(prompts), CHUNK):
        some = prompts[start : start + CHUNK]
        seeds = [FIRST_SEED + start + n for n in range(len(some))]
        yield generator.generate(some, seeds, steps, generator.default_guidance)


def _judged(candidate: Candidate, pool: PicturePool, judge: Judge) -> tuple[Decision, int]:
    """The decision that ends the candidate's rollout at its first share, and after how many pairs."""
    pairs, evidence = PairJudge(judge), Evidence()
    decision: Decision = Hold("no pair yet")
    for look, (prompt, champion, drawn) in enumerate(
        zip(pool.prompts, pool.drawn, candidate.pictures(), strict=False), 1
    ):
        evidence = evidence.plus(counted(pairs.compare(prompt, champion, drawn)))  # type: ignore[arg-type]
        decision = decide(_observation(evidence))
        if not isinstance(decision, Hold):
            return decision, look
    return decision, len(pool.prompts)


def _observation(evidence: Evidence) -> Observation:
    """A rollout at 5 %, whose hold is over and whose requests all go well: pairs alone keep it from 25 %."""
    moment = now()
    return Observation(
        rollout=Rollout(
            rollout_id="rollout-1", slot="generator", version="b", previous_version="a",
            state="ACTIVE", percent=5, events=(),
            created_at=moment, updated_at=moment,
        ),
        serving=Serving(slot="generator", champion="a", candidate="b", percent=5),
        reports=(ReplicaReport(slot="generator", replica_id="r", revision=1, ok=True),),
        plan=RolloutPlan(steps=(5, 25, 100), hold_s=0.0),
        evidence=replace(evidence, events=dict.fromkeys(COUNTS, (Events(0, 0, 0.05, good=5_000),))),
    )  # fmt: skip


# ---- the candidates


def _candidate(kind: str, number: int, plan: MeasurementPlan, pool: PicturePool) -> Candidate:
    most = max(1, -(-plan.planted // len(KINDS)) - 1)
    strength = 1.0 - number / most
    make = {
        "less plausible": lambda: _confused(pool, 0.2 + 0.4 * strength, number),
        "copies": lambda: _copies(plan, pool, round(2 + 6 * (1 - strength)), number),
        "narrowed": lambda: _narrowed(pool, round(1 + 5 * (1 - strength)), number),
        "brightened": lambda: _brightened(pool, 10 + 40 * strength),
    }[kind]
    return Candidate(kind, strength, make)


def _confused(pool: PicturePool, share: float, seed: int) -> Pictures:
    """For such a share of the prompts it draws a cell of another class; the rest is as the champion draws it."""
    random, classes = np.random.default_rng(seed), np.array(pool.spare_prompts)
    for prompt, drawn in zip(pool.prompts, pool.drawn, strict=True):
        other = random.choice(np.flatnonzero(classes != prompt))
        yield pool.spare[other] if random.random() < share else drawn


def _copies(plan: MeasurementPlan, pool: PicturePool, by_heart: int, seed: int) -> Pictures:
    """Real images of the prompt's class, of which it has so many by heart."""
    random = np.random.default_rng(seed)
    images, labels = _real(plan.data / "train.parquet")
    known = {label: random.choice(np.flatnonzero(labels == label), by_heart) for label in set(pool.prompts)}
    for prompt in pool.prompts:
        yield images[random.choice(known[prompt])]


@functools.cache
def _real(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, H, W, 3] and their labels [N]."""
    real = load_examples(path)
    return real.images.permute(0, 2, 3, 1).numpy(), np.array(real.labels)


def _narrowed(pool: PicturePool, kept: int, seed: int) -> Pictures:
    """So many of its own pictures of each class again and again, each with a little noise of its own."""
    random, prompts = np.random.default_rng(seed), np.array(pool.prompts)
    for prompt in pool.prompts:
        row = random.choice(np.flatnonzero(prompts == prompt)[-kept:])
        noise = random.normal(0, 2, pool.drawn[row].shape)
        yield np.clip(pool.drawn[row] + noise, 0, 255).astype(np.uint8)


def _brightened(pool: PicturePool, grey_levels: float) -> Pictures:
    for image in pool.drawn:
        yield np.clip(image + grey_levels, 0, 255).astype(np.uint8)
