"""Training of attribute networks: what a rater or a judge knows, learned from one half of the annotations."""

from __future__ import annotations

import torch

from training.attributes.config import AttributesConfig
from training.attributes.trainer import AttributeTrainer
from training.data.examples import load_examples
from training.data.splits import split_of
from training.loop.session import TrainingSession
from training.loop.training_loop import TrainingLoop


def fit(config: AttributesConfig, session: TrainingSession) -> dict[str, float]:
    """Trains the network, resuming from the session's folder, and saves it in `config.out`."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    examples = split_of(load_examples(config.data, config.size, config.domain), config.split)
    trainer = AttributeTrainer(config, examples, session)
    result = TrainingLoop(
        trainer, session, f"attribute network ({config.split})", session.folder, config.steps,
        checkpoint_every=config.checkpoint_every,
    ).run()  # fmt: skip
    trainer.ema.swap()
    trainer.net.eval().save(config.out)
    return {"steps": result.steps, "seconds": result.seconds, "images": len(examples)}
