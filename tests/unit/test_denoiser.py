"""The U-Net phase: which timesteps it sees, and which weights it keeps."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.tiny import VOCABULARY
from training.data.captions import random_caption
from training.data.examples import Examples
from training.evaluation.copies import CopyAlarm
from training.loop.budget import StepBudget
from training.loop.learning_rates import cosine, trapezoid
from training.loop.session import TrainingSession
from training.loop.tracker import NoTracker
from training.pretraining.config import PretrainConfig
from training.pretraining.denoiser_trainer import DenoiserTrainer
from training.pretraining.denoising import draw_timesteps
from training.pretraining.held_out_loss import HeldOutLoss
from training.pretraining.networks import Networks, build_vae
from vouch.errors import InvalidInput
from vouch.models.pipelines import load_generator


@pytest.fixture
def config(tmp_path: Path) -> PretrainConfig:
    return PretrainConfig(
        data=tmp_path, out=tmp_path, precision="float32", vae_channels=(16, 16), latent_channels=4, batch=4,
        channels=(32, 32), text_width=16, text_layers=1, ema=(0.9, 0.5), validated=6, warmup=0, lr=3e-3,
    )  # fmt: skip


class Curves(NoTracker):
    """Keeps what it is told of each step."""

    def __init__(self) -> None:
        self.values: dict[int, dict[str, float]] = {}

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self.values[step] = dict(values)


@pytest.fixture
def trainer(config: PretrainConfig, tmp_path: Path) -> DenoiserTrainer:
    torch.manual_seed(0)
    labels = tuple(VOCABULARY.labels[number % len(VOCABULARY.labels)] for number in range(8))
    examples = Examples(torch.zeros(8, 3, 16, 16, dtype=torch.uint8), labels, ({},) * 8, ({},) * 8, "")
    networks = Networks(config, VOCABULARY, build_vae(config, 16), 8, "cpu")
    latents, session = torch.randn(2, 8, 4, 8, 8), TrainingSession(tmp_path / "run")
    validation = HeldOutLoss(config, networks, examples, latents)
    return DenoiserTrainer(config, networks, examples, latents, session, validation)


def test_a_caption_is_tokenized_once(trainer: DenoiserTrainer) -> None:
    networks, caption = trainer.networks, VOCABULARY.labels[0]
    networks.embed([caption, ""])
    before = networks._tokens.cache_info()
    networks.embed([caption, "", caption])
    after = networks._tokens.cache_info()
    assert (after.hits - before.hits, after.misses - before.misses) == (3, 0)


def test_most_timesteps_lie_in_the_middle_and_some_at_the_very_end(config: PretrainConfig) -> None:
    """Sampling begins at timestep 999, of pure noise: without a uniform share training would never see it."""
    timesteps = draw_timesteps(40_000, config, torch.Generator().manual_seed(0))
    assert int(timesteps.min()) >= 0 and int(timesteps.max()) == 999
    middle = ((timesteps > 250) & (timesteps < 750)).float().mean()
    assert 0.65 < float(middle) < 0.75
    end = (timesteps >= 990).float().mean()
    assert 0.001 < float(end) < 0.004


def test_the_held_out_loss_is_the_same_whenever_it_is_asked_for(trainer: DenoiserTrainer) -> None:
    validation = HeldOutLoss(trainer.config, trainer.networks, trainer.examples, trainer.latents)
    again = HeldOutLoss(trainer.config, trainer.networks, trainer.examples, trainer.latents)
    assert validation.loss() == validation.loss() == again.loss()
    assert trainer.networks.unet.training, "dropout is only left out while it looks"


def test_the_weights_that_predict_held_out_images_best_are_kept(
    trainer: DenoiserTrainer, tmp_path: Path
) -> None:
    session, seen = TrainingSession(tmp_path / "run", tracker=(curves := Curves())), trainer.validation
    assert seen is not None
    for step in range(1, 13):
        trainer.step(step, 0.0)
    trainer.finish(12, session)
    best = dict(trainer.best)
    for parameter in trainer.parameters:  # training goes astray
        parameter.data += 0.5 * torch.randn_like(parameter)
    for average in trainer.averages:
        for _ in range(20):
            average.update()
    trainer.finish(13, session)
    figures = trainer.keep_best()
    assert min(curves.values[13].values()) > best["loss"] and figures["unet_best_step"] == 12
    assert seen.loss() == pytest.approx(best["loss"], rel=1e-5)


def test_a_caption_is_bare_partial_or_full() -> None:
    attributes = {f"sign_{number}": "yes" for number in range(11)}
    rng = random.Random(0)
    counts = [random_caption("cell", attributes, rng, bare=0.4, full=0.15).count(",") for _ in range(2000)]
    assert 0.36 < counts.count(0) / 2000 < 0.44 and 0.12 < counts.count(11) / 2000 < 0.18
    assert max(count for count in counts if count < 11) == 4


def test_a_phase_ends_by_steps_or_by_minutes_whichever_comes_first() -> None:
    assert StepBudget(10, None, step=5).done() == 0.5
    assert StepBudget(10, 1.0, step=5, seconds=60.0).done() >= 1.0


def test_rates_rise_and_fall() -> None:
    assert cosine(0.0, 50, 100) == pytest.approx(0.5) and cosine(1.0, 1000, 100) == pytest.approx(0.03)
    assert trapezoid(0.5, 1000, 100, 0.25) == 1.0
    assert trapezoid(0.875, 1000, 100, 0.25) == pytest.approx(0.5) and trapezoid(1.0, 1000, 100, 0.25) == 0.01


def test_training_goes_on_from_the_weights_of_a_saved_generator(
    config: PretrainConfig, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    first = Networks(config, VOCABULARY, build_vae(config, 16), 8, "cpu")
    first.save(config.model_copy(update={"out": tmp_path / "saved"}))
    onward = config.model_copy(update={"unet": tmp_path / "saved"})
    second = Networks(onward, VOCABULARY, build_vae(config, 16), 8, "cpu")
    for one, other in zip(first.trained, second.trained, strict=True):
        for before, after in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(before.float(), after) and after.dtype == torch.float32


def test_a_u_net_of_wider_latents_predicts_what_it_knew(config: PretrainConfig, tmp_path: Path) -> None:
    first = Networks(config, VOCABULARY, build_vae(config, 16), 8, "cpu")
    known = first.unet.config.in_channels
    onward = config.model_copy(update={"unet": tmp_path / "saved", "latent_channels": known + 2})
    first.save(config.model_copy(update={"out": tmp_path / "saved"}))
    second = Networks(onward, VOCABULARY, build_vae(onward, 16), 8, "cpu")
    latents, prompts = torch.randn(2, known + 2, 8, 8), first.embed(["cell", "cell"])
    before = first.unet.float().eval()(latents[:, :known], 500, prompts).sample
    after = second.unet.eval()(latents, 500, prompts).sample
    assert torch.allclose(after[:, :known], before, atol=1e-4)


def test_weights_of_another_architecture_are_refused_with_what_to_set(
    config: PretrainConfig, tmp_path: Path
) -> None:
    small = Networks(config, VOCABULARY, build_vae(config, 16), 8, "cpu")
    small.save(config.model_copy(update={"out": tmp_path / "saved"}))
    wide = config.model_copy(update={"unet": tmp_path / "saved", "channels": (32, 64)})
    with pytest.raises(InvalidInput, match="another size than these settings.*channels, text_width"):
        Networks(wide, VOCABULARY, build_vae(config, 16), 8, "cpu")


def test_an_early_version_is_kept_for_autoguidance(trainer: DenoiserTrainer, tmp_path: Path) -> None:
    trainer.config = trainer.config.model_copy(update={"guide_at": 0.5})
    session = TrainingSession(tmp_path / "run")
    early: list[torch.Tensor] = []
    for step in range(1, 5):
        trainer.step(step, step / 4)
        trainer.after_step(step, session)
        if step == 2:
            early = [weight.clone() for weight in trainer.averages[-1].shadow]
    assert all(torch.equal(kept, then) for kept, then in zip(trainer.guide, early, strict=True))
    trainer.networks.save_guide(trainer.guide, tmp_path / "generator" / "guide")
    trainer.networks.save(trainer.config.model_copy(update={"out": tmp_path / "generator"}))
    guide = load_generator(tmp_path / "generator").guide
    assert guide is not None
    first = next(guide.pipe.unet.parameters())
    assert torch.allclose(first, early[0], atol=1e-3) and not torch.equal(
        first, trainer.averages[-1].shadow[0]
    )


def test_a_model_that_repeats_training_images_sets_the_alarm_off_while_it_trains(
    trainer: DenoiserTrainer, tmp_path: Path
) -> None:
    class Repeating:
        """A pipeline that returns training images."""

        def __call__(self, prompts: list[str], **_: object) -> SimpleNamespace:
            return SimpleNamespace(images=train[: len(prompts)] / 255)

    random_ = np.random.default_rng(0)
    train, unseen = random_.integers(0, 255, (2, 64, 16, 16, 3), dtype=np.uint8)
    trainer.alarm = CopyAlarm.calibrated(train, unseen, symmetric=True)
    trainer.networks.pipeline = Repeating  # type: ignore[assignment,method-assign]
    trainer.draw_grid(TrainingSession(tmp_path / "run", tracker=(curves := Curves())), 500)
    assert curves.values[500] == {"copy_alarms": 1.0}
