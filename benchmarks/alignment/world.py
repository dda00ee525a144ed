"""What all methods share: the starter's images, what a simulated pathologist says of them, the reward that learns it.

Everything is kept in one folder, so a benchmark that was interrupted goes on.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import vouch
from benchmarks.alignment import peer
from benchmarks.alignment.plan import GUIDED, JUDGED_SEED, RATED_SEED, SETTINGS, AlignmentPlan, DrawingOptions
from training.alignment.config import AlignConfig
from training.alignment.fit import fit as fit_align
from training.alignment.guidance import guide
from training.alignment.path_sampler import PathSampler
from training.alignment.served import ServingDefaults
from training.alignment.student import Student
from training.data.digest import digest_of
from training.evaluation.evidence import GeneratedSet
from training.inputs.rated import RATINGS_FILE
from training.loop.session import TrainingSession
from training.raters.plausibility import Plausibility
from training.raters.simulated import SimulatedPathologist
from training.reward.config import RewardConfig
from training.reward.fit import fit as fit_reward
from vouch.formats import images as codec
from vouch.models.captions import Vocabulary
from vouch.models.networks.reward import RewardEnsemble
from vouch.models.pipelines import Generator, load_generator
from vouch.recipes import Alignment
from vouch.types.guidance import GuidanceChoice

STARTER = Path(vouch.__file__).parent / "starter"
RATER = "simulated-1"
BATCH = 32
TIMED, TIMED_ROUNDS = 8, 5
KEEP = 0.5
"""Of the images that rejection sampling draws."""


@dataclass(frozen=True)
class Unseen:
    """Images that nobody learned from: the reward's scores, the simulated rater's verdicts, and what these would be
    without the rater's errors; [N] each."""

    scores: np.ndarray
    said: np.ndarray
    meant: np.ndarray


class World:
    """One plan's own part of a benchmark's folder. real: folder of pbc64, or None."""

    def __init__(self, folder: Path, plan: AlignmentPlan, real: Path | None) -> None:
        self.plan, self.real = plan, real
        models = [digest_of(STARTER / part) for part in ("generator", "reward", "rater")]
        told = json.dumps([plan.same_runs(), str(real), models], sort_keys=True)
        self.folder = folder / hashlib.sha256(told.encode()).hexdigest()[:12]
        self.folder.mkdir(parents=True, exist_ok=True)

    # ---- what is given

    def rate(self) -> dict[str, float]:
        """The starter draws, a simulated pathologist rates; the figures of the reward that learns from it."""
        if not (self.folder / RATINGS_FILE).is_file():
            rows = _rated(self.starters_own())
            pq.write_table(pa.Table.from_pylist(rows), self.folder / RATINGS_FILE)
        figures = self.folder / "reward.json"
        if not figures.is_file():
            config = RewardConfig(
                out=self.reward, parent=STARTER / "reward", steps=self.plan.reward_steps,
                threads=torch.get_num_threads(), **self._teaching(),
            )  # fmt: skip
            figures.write_text(json.dumps(fit_reward(config, self.session("reward-run"))))
        found: dict[str, float] = json.loads(figures.read_text())
        return found

    def starters_own(self) -> GeneratedSet:
        """The images that are rated."""
        return self.drawn("rated", STARTER / "generator", RATED_SEED, self.plan.rated)

    def on_unseen(self) -> Unseen:
        """The reward on the starter's images that are judged later: it never saw them, nor did the temperature."""
        drawn = self._many()
        rater = SimulatedPathologist(Plausibility.load(STARTER / "rater"), RATER)
        digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in drawn.images]
        said = [
            opinion.verdict == "plausible" for opinion in rater.rate(drawn.images, drawn.prompts, digests)
        ]
        pixels = torch.from_numpy(np.ascontiguousarray(drawn.images)).permute(0, 3, 1, 2)
        meant = rater.plausibility.assess(pixels, drawn.prompts).plausible
        scores = RewardEnsemble.load(self.reward).score(drawn.images, drawn.prompts).overall
        return Unseen(scores, np.array(said, float), meant.astype(float))

    @property
    def reward(self) -> Path:
        return self.folder / "reward"

    # ---- what the methods make of it

    def align(self, method: str, seed: int, seconds: float | None = None) -> tuple[str, Path, dict[str, Any]]:
        """The run's name, a LoRA by this method after so many seconds (default: the plan's), and the figures of its
        training."""
        seconds = seconds or self.plan.seconds
        told = json.dumps(SETTINGS[method], sort_keys=True)
        name = f"{method}-{seed}-{seconds:g}s-{hashlib.sha256(told.encode()).hexdigest()[:6]}".replace(
            " ", "-"
        )
        out = self.folder / name
        figures = out / "figures.json"
        if not figures.is_file():
            train = self._train_by_peer if method in peer.ENVIRONMENTS else self._train
            found = train(method, seed, seconds, out)
            figures.write_text(json.dumps(found))
        return name, out / "lora", json.loads(figures.read_text())

    def _train(self, method: str, seed: int, seconds: float, out: Path) -> dict[str, float]:
        given: dict[str, Any] = {"steps": 100_000, "minutes": seconds / 60, "seed": seed}
        given |= {"threads": torch.get_num_threads(), **self._teaching()}
        config = AlignConfig(
            out=out / "lora", base=STARTER / "generator", reward=self.reward, method=method.split()[0],
            **given, **SETTINGS[method],
        )  # fmt: skip
        return fit_align(config, self.session(f"{out.name}/run"))

    def _train_by_peer(self, method: str, seed: int, seconds: float, out: Path) -> dict[str, Any]:
        out.mkdir(parents=True, exist_ok=True)
        base = STARTER / "generator"
        return peer.align(method, base, self.reward, out / "lora", seconds, seed, SETTINGS[method])

    def starter_at(self, drawing: DrawingOptions) -> GeneratedSet:
        """The starter's images at another setting: the prompts and seeds of what is judged."""
        return self.drawn(
            f"starter-{drawing.name}", STARTER / "generator", JUDGED_SEED, self.plan.judged, drawing
        )

    def seconds_an_image(self, versions: Mapping[str, Path | None]) -> dict[str, float]:
        """What an image of each version takes, decoding included: the median of rounds in which all take turns, so that
        a machine that slows down slows all. versions: folders of LoRAs; None: the starter. Measured once."""
        kept = (
            self.folder / f"image-{hashlib.sha256(' '.join(versions).encode()).hexdigest()[:6]}.seconds.json"
        )
        if not kept.is_file():
            base = STARTER / "generator"
            generators = [load_generator(folder or base, base) for folder in versions.values()]
            rounds = [[_seconds(one) for one in generators] for _ in range(TIMED_ROUNDS + 1)][
                1:
            ]  # the first warms
            kept.write_text(json.dumps(dict(zip(versions, np.median(rounds, axis=0).tolist(), strict=True))))
        return dict(json.loads(kept.read_text()))

    def seconds_a_score(self) -> float:
        """What the reward takes for an image; measured once, over some of the starter's."""
        kept = self.folder / "score.seconds.json"
        if not kept.is_file():
            some, reward = self.judged("starter", None), RewardEnsemble.load(self.reward)
            images, prompts = some.images[:64], some.prompts[:64]
            reward.score(images, prompts)  # the first call is slower
            began = time.perf_counter()
            reward.score(images, prompts)
            kept.write_text(json.dumps((time.perf_counter() - began) / len(prompts)))
        return float(json.loads(kept.read_text()))

    def judged(self, name: str, lora: Path | None) -> GeneratedSet:
        """What is judged of a version: the same prompts and seeds for all."""
        base = STARTER / "generator"
        return self.drawn(name, lora or base, JUDGED_SEED, self.plan.judged)

    def guided(self) -> GeneratedSet:
        """Ensemble guidance: the starter draws from the same noise, and the reward steers."""
        labels = self.judged("starter", None).prompts
        kept = self.folder / "guided.npy"
        if not kept.is_file():
            student = Student(STARTER / "generator", None, self.reward, rank=1)
            sampler = ServingDefaults.of(student, Alignment()).sampler(student)
            parts = [self._steered(student, sampler, labels, first) for first in range(0, len(labels), BATCH)]
            np.save(kept, np.concatenate(parts))
        return GeneratedSet(np.load(kept, allow_pickle=False), labels)

    def _steered(
        self, student: Student, sampler: PathSampler, labels: Sequence[str], first: int
    ) -> np.ndarray:
        prompts = labels[first : first + BATCH]
        seeded = [torch.Generator().manual_seed(JUDGED_SEED + first + row) for row in range(len(prompts))]
        noise = torch.stack([torch.randn(sampler.shape, generator=one) for one in seeded])
        steer = guide(student, prompts, **GUIDED)
        latents = sampler.sample_from(noise, prompts, torch.Generator(), steer=steer).clean
        with torch.no_grad():
            pixels = student.decode(latents).clamp(-1, 1)
        return ((pixels + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()

    def rejected(self, keep: float) -> GeneratedSet:
        """Rejection sampling: of the starter's images those that the reward likes best, the share `keep` of each class;
        as many as of every other version."""
        drawn = self._many(keep)
        scores = RewardEnsemble.load(self.reward).score(drawn.images, drawn.prompts).overall
        rows = []
        for label in sorted(set(drawn.prompts)):
            own = [row for row, prompt in enumerate(drawn.prompts) if prompt == label]
            rows += sorted(own, key=lambda row: -scores[row])[: round(keep * len(own))]
        return GeneratedSet(drawn.images[rows], tuple(drawn.prompts[row] for row in rows))

    def _many(self, keep: float = KEEP) -> GeneratedSet:
        """More of the starter's images than are judged of a version."""
        many = round(self.plan.judged / keep)
        return self.drawn("many", STARTER / "generator", JUDGED_SEED, many)

    def _teaching(self) -> dict[str, Any]:
        """The real images that may teach: the judge learned from the other half."""
        return {"data": self.real / "train.parquet", "split": "teach"} if self.real is not None else {}

    def drawn(
        self, name: str, folder: Path, first_seed: int, count: int, drawing: DrawingOptions | None = None
    ) -> GeneratedSet:
        """Images of all classes in turn by the generator in `folder`; those of an earlier start are read. drawing:
        default: the plan's."""
        vocabulary = Vocabulary.load(STARTER / "generator")
        assert vocabulary is not None
        labels = vocabulary.labels
        prompts = tuple(labels[number % len(labels)] for number in range(count))
        kept = self.folder / f"{name}.npy"
        if not kept.is_file():
            generator = load_generator(folder, STARTER / "generator")
            np.save(kept, _drawn(generator, prompts, first_seed, drawing or self.plan.drawing))
        return GeneratedSet(np.load(kept, allow_pickle=False), prompts)

    def session(self, name: str) -> TrainingSession:
        """A run's folder with the same ratings in it."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / RATINGS_FILE).exists():
            (folder / RATINGS_FILE).hardlink_to(self.folder / RATINGS_FILE)
        return TrainingSession(folder)


def _drawn(
    generator: Generator, prompts: Sequence[str], first_seed: int, drawing: DrawingOptions
) -> np.ndarray:
    """uint8 [N, H, W, 3], as the generator is served but for what `drawing` says."""
    steps = drawing.steps or generator.default_steps
    guidance = generator.default_guidance if drawing.guidance is None else drawing.guidance
    options = GuidanceChoice(start=drawing.start, stop=drawing.stop).upon(generator.default_options)
    parts = []
    for start in range(0, len(prompts), BATCH):
        asked = prompts[start : start + BATCH]
        seeds = list(range(first_seed + start, first_seed + start + len(asked)))
        parts.append(generator.generate(asked, seeds, steps, guidance, options=options))
    return np.concatenate(parts)


def _seconds(generator: Generator) -> float:
    """Of an image in a batch of TIMED, as the generator is served."""
    assert generator.vocabulary is not None
    labels = generator.vocabulary.labels
    prompts = tuple(labels[number % len(labels)] for number in range(TIMED))
    began = time.perf_counter()
    _drawn(generator, prompts, JUDGED_SEED, DrawingOptions())
    return (time.perf_counter() - began) / TIMED


def _rated(drawn: GeneratedSet) -> Sequence[dict[str, Any]]:
    """As a simulated pathologist rates them."""
    rater = SimulatedPathologist(Plausibility.load(STARTER / "rater"), RATER)
    digests = [hashlib.sha256(codec.encode_png(image)).hexdigest() for image in drawn.images]
    opinions = rater.rate(drawn.images, drawn.prompts, digests)
    known = {"pass": 1.0, "fail": 0.0}
    criteria = [{k: known[v] for k, v in opinion.answers.items() if v in known} for opinion in opinions]
    verdicts = np.array([opinion.verdict == "plausible" for opinion in opinions])
    return [
        {**row, "criteria": json.dumps(answers)}
        for row, answers in zip(rated_rows(drawn, verdicts), criteria, strict=True)
    ]


def rated_rows(drawn: GeneratedSet, verdicts: np.ndarray) -> list[dict[str, Any]]:
    """Frozen ratings, as `training.inputs` writes them, with nothing said of the criteria. verdicts: bool [N]."""
    rows = []
    for image, prompt, verdict in zip(drawn.images, drawn.prompts, verdicts, strict=True):
        data = codec.encode_png(image)
        digest = hashlib.sha256(data).hexdigest()
        rows.append(
            {
                "image": data,
                "prompt": prompt,
                "digest": digest,
                "overall": float(verdict),
                "criteria": "{}",
                "ratings": json.dumps([digest]),
                "kinds": '["simulated"]',
            }
        )
    return rows
