"""Generator and word in training: the concept's images on one side, everything that is to stay on the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from training.alignment.step_rng import StepRng
from training.concepts.batches import Kept, SubTyped
from training.concepts.config import ConceptConfig
from training.concepts.student import ConceptStudent
from training.loop.gradient_step import gradient_step
from training.loop.learning_rates import warm_up
from training.loop.session import TrainingSession
from training.loop.trainer import Trainer


@dataclass(frozen=True)
class Lesson:
    """What is learned from: images of either side, and what is to be kept."""

    new: SubTyped
    kept: Kept


class ConceptTrainer(Trainer):
    """The student's LoRA and its word, with a learning rate each."""

    parts = ("trained", "optimizer")

    def __init__(
        self, student: ConceptStudent, lesson: Lesson, config: ConceptConfig, session: TrainingSession
    ) -> None:
        self.student, self.lesson, self.config, self.group = student, lesson, config, session.group
        self.parameters = [*student.trained, student.word.row]
        self.trained = torch.nn.ParameterList(self.parameters)
        groups = [
            {"params": student.trained, "lr": config.lr},
            {"params": [student.word.row], "lr": config.word_lr},
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.0)

    def rate(self, done: float, step: int) -> float:
        """Linear warm-up over 10 steps, and a linear fall to nothing over the last 30 %."""
        return min(1.0, (1.0 - done) / 0.3, warm_up(step, 10))

    def step(self, step: int, done: float) -> dict[str, float]:
        """The concept's loss, and the distance to what the parent says of everything else."""
        del done
        config, student = self.config, self.student
        rng, count = StepRng.of(self.group.rank_seed(config.seed), step), self.group.batch_share(config.batch)
        keeping = max(1, round(count * config.prior_share))
        batch = self.lesson.new.draw(count - keeping, config.concept, config.kind_of, config.symmetric, rng)
        learned = student.learning(batch, config.sharpness, config.cleanest, rng)
        images, prompts = self.lesson.kept.draw(keeping, config.symmetric, rng)
        held = student.keeping(images, prompts, rng)
        loss = learned + config.prior * held.mean()
        gradient_step(loss, self.optimizer, self.parameters, self.group, clipped=student.trained)
        return {"loss": float(learned.detach()), "forgetting": float(held.detach().mean())}
