"""Validation of an alignment: a reward that nothing is trained against, and statistics that no reward sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import vouch
from tests.real import PBC64, needs_pbc64
from tests.tiny import VOCABULARY, save_generator
from training.alignment.guidance import guide
from training.alignment.path_sampler import PathSampler
from training.alignment.pool import Pool
from training.alignment.student import Student
from training.alignment.validation_monitor import SLACK, ValidationMonitor
from training.data.augmentation import to_unit
from training.data.examples import load_examples
from training.evaluation.diversity import within_prompt
from training.randomness import tensors
from vouch.models.networks.reward import RewardEnsemble
from vouch.recipes.alignment import Alignment, ValidationSettings

STARTER = Path(vouch.__file__).parent / "starter"
PROMPTS = tuple(VOCABULARY.labels[:4]) * 2


def validated(**settings: float) -> Alignment:
    """The default alignment, validated so."""
    return Alignment(validation=ValidationSettings.model_validate(settings))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A random generator and a random reward of three."""
    root = tmp_path_factory.mktemp("watch")
    torch.manual_seed(0)
    RewardEnsemble(VOCABULARY, (), members=3, size=32, widths=(8, 8)).save(root / "reward")
    return save_generator(root / "base", seed=0), root / "reward"


@pytest.fixture
def student(folders: tuple[Path, Path]) -> Student:
    torch.manual_seed(0)
    return Student(folders[0], None, folders[1], rank=2)


@pytest.fixture
def monitor(student: Student) -> ValidationMonitor:
    return ValidationMonitor(student, pool(student), validated(images=4, patience=2, max_drift=0.5))


def pool(student: Student) -> Pool:
    size = student.unet.config.sample_size
    latents, ones = torch.zeros(len(PROMPTS), 4, size, size), torch.ones(len(PROMPTS))
    return Pool(latents, PROMPTS, ones, ones)


def move(student: Student, by: float) -> None:
    with torch.no_grad():
        for weight in student.trained:
            weight.add_(by)


def test_the_last_member_examines_and_does_not_teach(student: Student) -> None:
    images = torch.zeros(2, 3, 32, 32)
    every = student.reward.logits(images, student.reward.encode(PROMPTS[:2]))[:, :, 0]
    assert torch.equal(student.teacher_logits(images, PROMPTS[:2]), every[:2])
    assert torch.equal(student.validation_reward(images, PROMPTS[:2]), every[2].sigmoid())


def test_the_same_noise_is_drawn_at_every_validation(monitor: ValidationMonitor) -> None:
    first, second = monitor.measure(0), monitor.measure(1)
    assert (first.reward, first.drift, second.drift) == (second.reward, 0.0, 0.0)


def test_it_stops_when_the_reward_has_not_risen_for_some_validations(monitor: ValidationMonitor) -> None:
    stops = []
    for step in range(3):
        monitor.measure(step)
        stops.append(monitor.stop)
    assert stops == [False, False, True]
    assert monitor.best.step == 0


def test_images_that_drift_are_never_the_best_and_end_it(
    student: Student, monitor: ValidationMonitor
) -> None:
    monitor.measure(0)
    before = [weight.clone() for weight in student.trained]
    move(student, 1.0)
    assert monitor.measure(1).drift > 0.5
    assert monitor.stop and monitor.best.step == 0
    monitor.restore()
    assert all(torch.equal(now, was) for now, was in zip(student.trained, before, strict=True))


def test_images_that_become_alike_are_never_the_best_and_end_it(folders: tuple[Path, Path]) -> None:
    """Each is as good as the best one, so the reward rises."""

    class Copying(Student):
        copies = False

        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            images = super().decode(latents)
            return images[:1].expand_as(images) if self.copies else images

        def validation_reward(self, images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
            return torch.full((len(images),), 0.5 + 0.4 * self.copies)

    student = Copying(folders[0], None, folders[1], rank=2)
    monitor = ValidationMonitor(student, pool(student), validated(images=8, max_drift=99.0))
    assert monitor.measure(0).variety == 1.0
    student.copies = True
    point = monitor.measure(1)
    assert (point.reward > monitor.points[0].reward, point.variety) == (True, pytest.approx(0.0, abs=1e-3))
    assert monitor.stop and monitor.best.step == 0


@needs_pbc64
def test_variety_sees_one_cell_shown_again_and_again_where_pixels_do_not(folders: tuple[Path, Path]) -> None:
    """Planted: of each class one real cell, shifted and of another brightness each time, as a collapse draws it."""
    student = Student(folders[0], None, STARTER / "reward", rank=2)
    cells = load_examples(PBC64 / "val.parquet")
    rows = [row for label in ("neutrophil", "monocyte") for row in _rows_of(cells.labels, label)[:20]]
    labels = [cells.labels[row] for row in rows]
    varied = to_unit(cells.images[rows])
    random = np.random.default_rng(0)
    alike = torch.stack([
        torch.roll(varied[20 * (row // 20)], random.integers(-6, 7, 2).tolist(), (1, 2)) + random.normal(0, 0.05)
        for row in range(40)
    ])  # fmt: skip

    def left(of: Callable[[torch.Tensor], np.ndarray]) -> float:
        apart = [np.mean(list(within_prompt(of(images), labels).values())) for images in (alike, varied)]
        return float(apart[0] / apart[1])

    features = left(lambda images: student.validation_features(images).double().numpy())
    pixels = left(lambda images: images.flatten(1).double().numpy())
    assert features < 0.7 and pixels > features + 0.15


def _rows_of(labels: Sequence[str], label: str) -> list[int]:
    return [row for row, other in enumerate(labels) if other == label]


def test_a_reward_that_creeps_up_is_followed_once_it_has_risen_enough(folders: tuple[Path, Path]) -> None:
    """What is kept and what is told are of the same look, also where single looks gain next to nothing."""

    class Creeping(Student):
        level = 0.5

        def validation_reward(self, images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
            return torch.full((len(images),), self.level, dtype=torch.float64)

    student = Creeping(folders[0], None, folders[1], rank=2)
    monitor = ValidationMonitor(student, pool(student), validated(images=4, patience=5, max_drift=99.0))
    kept = []
    for step in range(4):
        monitor.measure(step)
        kept.append([weight.clone() for weight in student.trained])
        move(student, 0.01)
        student.level += 0.6 * SLACK
    assert monitor.best.step == 2
    monitor.restore()
    assert all(torch.equal(now, was) for now, was in zip(student.trained, kept[2], strict=True))


def test_it_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(
    student: Student, monitor: ValidationMonitor
) -> None:
    monitor.measure(0)
    move(student, 0.02)
    monitor.measure(1)
    later = ValidationMonitor(student, pool(student), validated(images=4, patience=2, max_drift=0.5))
    later.load_state_dict(monitor.state_dict())
    assert later.measure(2) == monitor.measure(2)
    assert later.best == monitor.best


def test_guidance_draws_what_the_reward_likes_and_trains_nothing(student: Student) -> None:
    sampler, prompts = PathSampler(student, 4), list(PROMPTS)

    def reward(scale: float) -> float:
        steer = guide(student, prompts, scale, std_penalty=0.0)
        images = student.decode(sampler.sample(prompts, tensors("guided"), steer=steer).clean)
        return float(student.teacher_logits(images, prompts).mean())

    before = [weight.clone() for weight in student.trained]
    plain = student.decode(sampler.sample(prompts, tensors("guided")).clean)
    assert reward(0.0) == pytest.approx(float(student.teacher_logits(plain, prompts).mean()), abs=1e-5)
    assert reward(50.0) > reward(0.0)
    assert all(torch.equal(now, was) for now, was in zip(student.trained, before, strict=True))
    assert np.isfinite(reward(1000.0))


def test_passes_are_counted_by_the_image_and_by_whether_the_gradient_comes_back(student: Student) -> None:
    sampler = PathSampler(student, 4)
    forward, backward = student.passes.forward, student.passes.backward
    sampler.sample(PROMPTS[:2], tensors("counted"), last=1)
    assert student.passes.forward - forward == 4 * 2
    assert student.passes.backward - backward == 2
