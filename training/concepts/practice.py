"""Practice: a generator that has a word for a concept draws it again and again, and follows what its tutors say.

An alignment like any other (DRaFT, with all its guards), but for its reward: that an image is a plausible one of its
class and that it is the concept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from training.alignment.config import AlignConfig
from training.alignment.methods.draft import Draft
from training.alignment.methods.method import Method
from training.alignment.pool import Pool
from training.alignment.step_rng import StepRng
from training.alignment.student import Student
from training.alignment.trainer import train
from training.alignment.validation_monitor import ValidationMonitor
from training.concepts.batches import Kept
from training.concepts.tutors import Tutors
from training.loop.session import TrainingSession
from training.objectives import denoising
from training.objectives.concept import both
from vouch.errors import FailedPrecondition
from vouch.models.captions import Vocabulary, general
from vouch.models.defaults import load_defaults
from vouch.models.networks.reward import RewardEnsemble
from vouch.recipes import ConceptLearning, nested


class Practising(Student):
    """A student in `folder`, which has the word already, whose reward is of the class and of the concept."""

    def __init__(
        self, folder: Path, reward: Path, tutors: Tutors, config: ConceptLearning, device: str = "cpu"
    ) -> None:
        super().__init__(folder, None, reward, config.rank, device=device)
        self._tutors, self._config = tutors, config
        self._concepts = _vocabulary(folder).concepts

    def teacher_logits(self, images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Of every teaching member of the reward with every teaching tutor: logits [K·T, N] of both together."""
        plausible = super().teacher_logits(images, self._as_class(prompts))
        concept = self._tutors.teacher_logits(images)
        pairs = both(plausible[:, None], concept[None], self._config.emphasis)
        return pairs.flatten(0, 1)

    @torch.no_grad()
    def validation_reward(self, images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Of the member and the tutor that nothing is trained against."""
        return super().validation_reward(images, self._as_class(prompts)) * self._tutors.validation_reward(
            images
        )

    def _as_class(self, prompts: Sequence[str]) -> list[str]:
        """The reward does not know the word, nor those of earlier concepts."""
        return [general(prompt, self._concepts) for prompt in prompts]


class Practice(Method):
    """DRaFT upon the concept, while everything else stays what the generator said of it before: of `keeping` images a
    step, each at `price`."""

    def __init__(
        self, student: Student, pool: Pool, kept: Kept, config: AlignConfig, keeping: int, price: float
    ) -> None:
        self._draft = Draft(student, pool, config)
        self._student, self._kept, self._config = student, kept, config
        self._keeping, self._price = keeping, price

    def loss(self, rng: StepRng) -> torch.Tensor:
        moved = self._moved(rng).mean() if self._keeping else 0.0
        return self._draft.loss(rng) + self._price * moved

    def _moved(self, rng: StepRng) -> torch.Tensor:
        images, prompts = self._kept.draw(self._keeping, self._config.symmetric, rng)
        clean = self._student.encode(images)
        noised = self._student.noised(clean, prompts, *self._student.noise(clean, rng.torch))
        return denoising.per_sample_error(self._student.predict(noised), self._student.predict_parent(noised))


def practise(
    student: Practising, kept: Kept, config: ConceptLearning, align: AlignConfig, session: TrainingSession
) -> dict[str, float]:
    """Trains the student's LoRA and leaves it as it was when the validation reward was best; what came of it."""
    own = align.model_copy(update={"batch": session.group.batch_share(align.batch)})
    pool = _asked(config.concept, align.validation.images)
    keeping = max(1, round(own.batch * config.prior_share)) if config.prior_share else 0
    method = Practice(student, pool, kept, own, keeping, price=config.prior * align.anchor)
    monitor = ValidationMonitor(student, pool, align)
    result = train(student, method, monitor, align, session, message=f"practising {config.concept}")
    monitor.restore()
    if session.group.is_rank_zero:
        monitor.save_sheet(session)
    return {"practice_steps": float(result.steps), "practice_seconds": result.seconds} | {
        f"practice_{name}": value for name, value in monitor.figures().items()
    }


def check_reward(reward: Path, kind_of: str, grown: Vocabulary) -> None:
    """Raises FailedPrecondition unless the reward can say how plausible a concept of this class is."""
    known, name = RewardEnsemble.load(reward).vocabulary.labels, general(kind_of, grown.concepts)
    if name not in known:
        raise FailedPrecondition(
            f"Practice asks the reward model how plausible a {name} is, and it knows only {', '.join(known)}. Train it "
            "on ratings of that class, or leave practice out with --practice-steps 0.",
            "UNKNOWN_LABEL",
        )


def _vocabulary(folder: Path) -> Vocabulary:
    vocabulary = Vocabulary.load(folder)
    assert vocabulary is not None, f"{folder} has learned a word, so it has a vocabulary"
    return vocabulary


def settings(config: ConceptLearning, base: Path, reward: Path, out: Path) -> AlignConfig:
    """The alignment that a practice is."""
    own = {
        "base": base, "reward": reward, "out": out, "method": "draft",
        "steps": config.practice_steps, "minutes": config.practice_minutes, "lr": config.practice_lr,
        "anchor": config.practice_anchor,
        "draft.sample_steps": config.practice_sample_steps, "draft.gradient_steps": config.practice_gradient_steps,
        "validation.max_drift": config.practice_drift,
        "guidance": config.practice_guidance or max(1.0, load_defaults(base).guidance),
    }  # fmt: skip
    same = ("domain", "seed", "threads", "symmetric", "rank", "checkpoint_every")
    return AlignConfig.model_validate(nested(own) | {name: getattr(config, name) for name in same})


def _asked(concept: str, count: int) -> Pool:
    """The word alone, over and over: no image is needed to ask for it."""
    nothing = torch.zeros(count)
    return Pool(nothing, (concept,) * count, nothing, nothing)
