"""Evaluation: draws with one or two versions from the same prompts and seeds, and writes down all that is found.

    vouch evaluate VERSION --against VERSION --data test.parquet

`evidence.json` holds every figure with its interval, `report.html` shows them with pictures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.data.captions import random_caption
from training.data.examples import Examples, load_examples
from training.evaluation.codec import through
from training.evaluation.config import EvaluateConfig, EvaluatedVersion
from training.evaluation.copies import KINDS, Codec
from training.evaluation.downstream import Labelled, Learning, downstream, share_of
from training.evaluation.downstream import figures as downstream_figures
from training.evaluation.evidence import GeneratedSet, RealReference, Seen, paired_changes
from training.evaluation.features import local_model
from training.evaluation.gate import Gate, decide
from training.evaluation.intervals import Estimate
from training.evaluation.judge import Judge
from training.evaluation.repeats import Beside, Repeated, SeedRepeats
from training.evaluation.report import Column, write_report
from training.jobs.plans import Store
from training.loop.session import TrainingSession
from training.randomness import numbers
from vouch.models.pipelines import Generator, load_generator
from vouch.storage.atomic import write_whole
from vouch.storage.catalog.tokens import ADMINISTRATOR
from vouch.types.clock import now

MAIN = (
    "plausible",
    "real plausible",
    "recognised",
    "attributes asked for",
    "below nearly all real",
    "coverage, against real",
    "coverage, real against real",
    "beta recall, against real",
    "pairwise distance within a prompt",
    "real pairwise distance within a prompt",
    "diversity within a class",
    "high-band power",
    "attribute distance",
    "real attribute distance",
    "authentic",
    "real authentic",
    "copy alarms",
    "real copy alarms",
    *(f"copy alarm power, {kind}" for kind in KINDS),
    "downstream gain",
)
"""What is kept with the version itself."""


FIRST_SEED = 900_000
"""Far from the seeds that anything was trained or rated on."""


REPEATED_SEED = 5_000_000
"""How much further those of repeated prompts begin."""


TRIES = 10
"""Captions that are thought of for each repeated prompt, for them to differ."""


@dataclass(frozen=True)
class Drawings:
    """What one version drew: of the different prompts, and of those that are repeated; and its autoencoder."""

    images: GeneratedSet
    repeated: GeneratedSet
    through: Codec


@dataclass(frozen=True)
class Request:
    """What is drawn, by every version alike."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]


def fit(config: EvaluateConfig, session: TrainingSession) -> dict[str, float]:
    """Draws, measures, and writes `evidence.json` and `report.html` into `config.out`. Images are kept in the session's
    folder, so a resumed evaluation draws only what is missing.

    Raises:
        InvalidInput: data without labels, or with a label or attribute that the judge does not know.
    """
    torch.set_num_threads(config.threads)
    judge, more = Judge.load(config.judge), [local_model(folder) for folder in config.features]
    unseen = load_examples(config.data, domain=config.domain)
    train = load_examples(config.train, domain=config.domain) if config.train else None
    request, repeated = _request(unseen, config), _repeated(unseen, config)
    for prompt in (*request.prompts, *repeated.prompts, *unseen.labels):
        judge.plausibility.vocabulary.check(prompt)
    sides = [side for side in (config.version, config.against, config.first) if side is not None]
    drawn = [_drawn(side, (request, repeated), config, session) for side in sides]
    session.report(1, 1, "measuring")
    cache = config.cache or session.folder / "features"
    real = RealReference.of(
        judge, unseen, train, cache, more, asked=request.prompts, symmetric=config.symmetric
    )
    within = _beside([one.repeated for one in drawn], unseen, judge)
    seen = [
        Seen(one.images, judge, real, again, one.through, 0 if number else config.planted)
        for number, (one, again) in enumerate(zip(drawn, within, strict=True))
    ]
    columns = [
        Column(side.name, one, one.evidence() | _use(one, config, session))
        for side, one in zip(sides, seen, strict=True)
    ]
    gain = paired_changes(*seen[:2]) if config.against else {}
    since_first = paired_changes(seen[0], seen[-1]) if config.first else None
    gate = decide(gain, since_first) if gain else None
    _write(config, request, columns, gain, since_first, gate)
    estimates = dict(columns[0].figures) | {f"gain, {name}": estimate for name, estimate in gain.items()}
    return {name: estimate.value for name, estimate in estimates.items()}


def _request(unseen: Examples, config: EvaluateConfig) -> Request:
    """As many prompts of each class, with attributes as real images of it have them."""
    rng, prompts = numbers(config.seed, "evaluate"), []
    for label in sorted(set(unseen.labels)):
        rows = [row for row, other in enumerate(unseen.labels) if other == label]
        chosen = rng.choices(rows, k=config.per_class)
        prompts += [random_caption(label, unseen.attributes[row], rng) for row in chosen]
    first = FIRST_SEED + config.seed * 10_000_000
    return Request(tuple(prompts), tuple(range(first, first + len(prompts))))


def _repeated(unseen: Examples, config: EvaluateConfig) -> Request:
    """Few different prompts of each class, each with several seeds."""
    rng, prompts = numbers(config.seed, "repeated"), []
    for label in sorted(set(unseen.labels)):
        rows = [row for row, other in enumerate(unseen.labels) if other == label]
        tried = [
            random_caption(label, unseen.attributes[rng.choice(rows)], rng)
            for _ in range(TRIES * config.repeated_per_class)
        ]
        prompts += list(dict.fromkeys(tried))[: config.repeated_per_class]
    repeated = tuple(prompt for prompt in prompts for _ in range(config.repeats))
    first = FIRST_SEED + config.seed * 10_000_000 + REPEATED_SEED
    return Request(repeated, tuple(range(first, first + len(repeated))))


def _beside(drawn: list[GeneratedSet], unseen: Examples, judge: Judge) -> list[Repeated | None]:
    """Each version's repeated prompts, with the same real images beside them."""
    if not drawn[0].prompts:
        return [None] * len(drawn)
    repeats = [SeedRepeats(one.images, one.prompts) for one in drawn]
    real = Beside.of(repeats[0], unseen, judge.plausibility.vocabulary)
    return [Repeated(one, real) for one in repeats]


def _drawn(
    side: EvaluatedVersion,
    requests: tuple[Request, Request],
    config: EvaluateConfig,
    session: TrainingSession,
) -> Drawings:
    generator = load_generator(side.folder, side.base)
    images, repeated = (_images(side, generator, request, config, session) for request in requests)
    return Drawings(images, repeated, partial(through, generator.pipe.vae))


def _images(
    side: EvaluatedVersion,
    generator: Generator,
    request: Request,
    config: EvaluateConfig,
    session: TrainingSession,
) -> GeneratedSet:
    steps = config.steps or generator.default_steps
    guidance = generator.default_guidance if config.guidance is None else config.guidance
    # Other prompts, seeds or settings, or another version of that name, are other images.
    key = json.dumps([str(side.folder), request.prompts, request.seeds, steps, guidance, config.batch])
    folder = session.folder / hashlib.sha256(key.encode()).hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    parts = []
    for start in range(0, len(request.prompts), config.batch):
        kept = folder / f"{start}.npy"
        rows = slice(start, start + config.batch)
        if not kept.is_file():
            images = generator.generate(request.prompts[rows], request.seeds[rows], steps, guidance)
            with kept.with_suffix(".tmp").open("wb") as file:
                np.save(file, images)
            kept.with_suffix(".tmp").replace(kept)
        parts.append(np.load(kept, allow_pickle=False))
        session.report(start, len(request.prompts), f"drawing with {side.name}")
    return GeneratedSet(np.concatenate(parts) if parts else np.zeros((0, 0, 0, 3), np.uint8), request.prompts)


def first_champion(store: Store, against: str) -> str:
    """The name of the version at the root of the lineage of `against`; "" where that is `against` itself."""
    lineage = store.registry.lineage(against)
    return lineage[-1].name if len(lineage) > 1 else ""


def attach(
    store: Store, version: str, against: str, out: Path, first: str = "", *, by: str = ADMINISTRATOR
) -> None:
    """Keeps with the version what `out` says of it, in short; the whole of it stays in `out`. by: who asked for it."""
    data = (out / "evidence.json").read_bytes()
    evidence, record = json.loads(data), store.registry.get(version)
    figures = evidence["versions"][record.name]
    other, root = (store.registry.get(ref) if ref else None for ref in (against, first))
    summary = {
        "measured_at": now().isoformat(timespec="seconds"),
        "sha256": hashlib.sha256(data).hexdigest(),
        "report": str(out / "report.html"),
        "images": evidence["images"],
        "against": other.digest if other else "",
        "against_name": other.name if other else "",
        "first": root.digest if root else "",
        "first_name": root.name if root else "",
        "figures": {name: figures[name] for name in MAIN if name in figures},
        "gain": evidence["gain"],
        "since_first": evidence["since_first"],
        "gate": evidence["gate"],
    }
    store.registry.attach_evidence(record.digest, summary, by=by)


def _use(seen: Seen, config: EvaluateConfig, session: TrainingSession) -> dict[str, Estimate]:
    """What a classifier learns from these images, where that is asked for."""
    real, steps = seen.real.train, config.downstream_steps
    if not config.downstream or real is None:
        return {}
    few = real.subset(share_of(real.labels, config.downstream_share, config.seed, real.groups))
    test = Labelled.of(seen.real.unseen)
    made = torch.from_numpy(seen.drawn.images).permute(0, 3, 1, 2).contiguous()
    correct = downstream(
        Labelled.of(few),
        Labelled(made, seen.drawn.labels),
        test,
        Learning(steps=steps, symmetric=config.symmetric),
        range(config.downstream_seeds),
        session.folder / "classifiers",
        lambda arm, step: session.report(step - 1, steps, f"a classifier learns from {arm}"),
    )
    return downstream_figures(correct, test.groups)


def _write(
    config: EvaluateConfig,
    request: Request,
    columns: list[Column],
    gain: dict[str, Estimate],
    since_first: dict[str, Estimate] | None,
    gate: Gate | None,
) -> None:
    config.out.mkdir(parents=True, exist_ok=True)
    document = {
        "format": "evidence-1",
        "images": len(request.prompts),
        "first_seed": request.seeds[0],
        "settings": config.model_dump(mode="json", exclude={"out", "threads", "domain"}),
        "versions": {column.name: _plain(column.figures) for column in columns},
        "gain": _plain(gain),
        "since_first": {} if since_first is None else _plain(since_first),
        "notes": columns[0].seen.notes(),
        "gate": None if gate is None else _gate(gate),
    }
    write_whole(config.out / "evidence.json", json.dumps(document, indent=1).encode())
    write_report(config.out / "report.html", columns, gain, gate)


def _gate(gate: Gate) -> dict[str, Any]:
    return {
        "verdict": "pass" if gate.passed else "refuse",
        "reasons": list(gate.reasons),
        "checks": [asdict(check) for check in gate.checks],
    }


def _plain(figures: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    """Without nan, which JSON has not."""
    return {
        name: {key: None if value != value else value for key, value in asdict(estimate).items()}
        for name, estimate in figures.items()
    }
