"""What an alignment draws and watches is drawn as requests are; fresh images are learned from round by round."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import VOCABULARY, save_generator
from training.alignment.methods.awm import Awm
from training.alignment.methods.draft import Draft
from training.alignment.pool import Pool
from training.alignment.rounds import Rounds, goodness
from training.alignment.served import ServingDefaults
from training.alignment.step_rng import StepRng
from training.alignment.student import Student
from training.alignment.validation_monitor import ValidationMonitor
from vouch.models.loading import load_pipeline
from vouch.models.networks.reward import RewardEnsemble
from vouch.models.pipelines import load_generator
from vouch.models.sampling import with_sampler
from vouch.recipes import Alignment, nested
from vouch.types.guidance import GuidanceOptions

PROMPTS = tuple(VOCABULARY.labels[:4]) * 2


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A random generator that is served in 3 steps with guidance 2.5, and a random reward of three."""
    root = tmp_path_factory.mktemp("served")
    torch.manual_seed(0)
    RewardEnsemble(VOCABULARY, (), members=3, size=32, widths=(8, 8)).save(root / "reward")
    base = save_generator(root / "base", seed=0)
    (base / "defaults.json").write_text(json.dumps({"steps": 3, "guidance": 2.5}))
    return base, root / "reward"


@pytest.fixture
def student(folders: tuple[Path, Path]) -> Student:
    torch.manual_seed(0)
    return Student(folders[0], None, folders[1], rank=2)


def pool(student: Student) -> Pool:
    size = student.unet.config.sample_size
    latents, ones = torch.zeros(len(PROMPTS), 4, size, size), torch.ones(len(PROMPTS))
    return Pool(latents, PROMPTS, ones, ones)


def config(**settings: object) -> Alignment:
    small = {"validation.images": 4, "awm.round_images": 8, "awm.groups": 2, "batch": 4}
    return Alignment.model_validate(nested({**small, **settings}))


def drawn(student: Student, monitor: ValidationMonitor) -> int:
    """Images that pass the U-Net in one validation."""
    before = student.passes.forward
    monitor.measure(0)
    return student.passes.forward - before


def test_what_is_validated_is_drawn_as_it_is_served_whatever_training_draws(student: Student) -> None:
    guided = 2 * 3 * 4  # with and without caption, three steps, four images
    assert (
        drawn(student, ValidationMonitor(student, pool(student), config(**{"draft.sample_steps": 7})))
        == guided
    )
    assert drawn(student, ValidationMonitor(student, pool(student), config(guidance=1.0))) == guided / 2


def test_draft_learns_from_images_that_are_drawn_as_they_are_served(student: Student) -> None:
    for settings, steps in (({}, 3), ({"draft.sample_steps": 2}, 2)):
        method = Draft(student, pool(student), config(method="draft", **settings))
        before = student.passes.forward
        method.loss(StepRng.of(0, 1))
        # Then, on the noised image, student and parent.
        assert student.passes.forward - before == 2 * steps * 4 + 2 * 4


def test_an_adapter_that_is_trained_on_is_drawn_by_its_own_defaults(
    folders: tuple[Path, Path], tmp_path: Path, student: Student
) -> None:
    student.save(tmp_path)
    (tmp_path / "defaults.json").write_text(json.dumps({"guidance": 1.5}))
    found = ServingDefaults.of(Student(folders[0], tmp_path, folders[1], rank=2), config())
    assert (found.steps, found.guidance) == (3, 1.5)


def test_guidance_counts_in_the_loss_where_it_does_in_the_sampler() -> None:
    timesteps = torch.tensor([999, 499, 99])
    all_of_it = ServingDefaults(20, 2.5, GuidanceOptions())
    assert all_of_it.scales(timesteps, 1000).flatten().tolist() == [2.5, 2.5, 2.5]
    middle = ServingDefaults(20, 2.5, GuidanceOptions(start=0.2, stop=0.8))
    assert middle.scales(timesteps, 1000).flatten().tolist() == [1.0, 2.5, 1.0]
    other = ServingDefaults(20, 2.5, GuidanceOptions(method="autoguidance"))
    assert other.scales(timesteps, 1000).flatten().tolist() == [1.0, 1.0, 1.0]


# ---- fresh images


def rounds_of(student: Student, steps: int) -> Rounds:
    """Each is learned from for so many steps."""
    settings = config(method="awm", **{"awm.round_steps": steps})
    return Rounds(student, pool(student), settings, settings.awm)


def test_a_round_is_learned_from_for_some_steps_and_then_drawn_afresh(student: Student) -> None:
    rounds = rounds_of(student, 2)
    seen = [rounds.now(StepRng.of(0, step)) for step in range(1, 6)]
    assert [seen[0] is one for one in seen] == [True, True, False, False, False]
    assert seen[2] is seen[3] and seen[3] is not seen[4]
    assert len(seen[0].prompts) == 8 and len(set(seen[0].prompts)) <= 2
    assert not torch.equal(seen[0].latents, seen[2].latents)


def test_the_version_that_drew_a_round_stays_what_the_student_is_compared_with(student: Student) -> None:
    rounds = rounds_of(student, 9)
    round_ = rounds.now(StepRng.of(0, 1))
    before = rounds.outputs(round_, [0, 1], StepRng.of(0, 1))
    assert torch.allclose(before.guided, before.old, atol=1e-5)
    with torch.no_grad():
        for weight in student.trained:
            weight.add_(0.05)
    kept = [weight.clone() for weight in student.trained]
    after = rounds.outputs(round_, [0, 1], StepRng.of(0, 1))
    assert torch.allclose(after.old, before.old, atol=1e-5)
    assert not torch.allclose(after.guided, before.guided, atol=1e-3)
    assert all(torch.equal(weight, own) for weight, own in zip(student.trained, kept, strict=True))
    after.guided.sum().backward()
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in student.trained)


def test_a_round_survives_a_checkpoint(student: Student) -> None:
    one, other = (
        Awm(student, pool(student), config(method="awm", **{"awm.round_steps": 3})) for _ in range(2)
    )
    one.loss(StepRng.of(0, 1))
    other.load_state_dict(one.state_dict())
    expected, found = (method.loss(StepRng.of(0, 2)).item() for method in (one, other))
    assert found == pytest.approx(expected)


def test_images_are_as_good_as_their_reward_among_those_of_their_prompt() -> None:
    rewards, groups = torch.tensor([0.9, 0.8, 0.3, 0.2]), torch.tensor([0, 0, 1, 1])
    found = goodness(rewards, torch.zeros(4, 2), groups, 0.0)
    assert found.tolist() == pytest.approx([1.0, 0.0, 1.0, 0.0], abs=1e-5)


def test_with_novelty_an_image_unlike_the_others_of_its_prompt_is_better() -> None:
    features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.05], [0.0, 1.0]])
    groups, same = torch.zeros(4, dtype=torch.long), torch.full((4,), 0.5)
    found = goodness(same, features, groups, 1.0)
    assert found.argmax() == 3 and found[3] > 0.9 > 0.5 > found[:3].max()
    assert goodness(same, features, groups, 0.0).tolist() == pytest.approx([0.5] * 4)


def test_the_judged_features_are_those_of_members_that_teach(student: Student) -> None:
    images = torch.randn(3, 3, 32, 32)
    found = student.features(images)
    assert found.shape == (3, 2 * 8) and torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("name", ["ddim", "dpm++2m", "euler"])
def test_it_draws_what_a_request_that_says_nothing_gets_whatever_the_generators_sampler(
    folders: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    base = save_generator(tmp_path / "base", seed=1)
    pipe = load_pipeline(base)
    with_sampler(pipe.scheduler, name).save_pretrained(base / "scheduler")
    index = json.loads((base / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", type(with_sampler(pipe.scheduler, name)).__name__]
    (base / "model_index.json").write_text(json.dumps(index))
    (base / "defaults.json").write_text(json.dumps({"steps": 5, "guidance": 2.5, "guidance_stop": 0.8}))
    student = Student(base, None, folders[1], rank=2)
    sampler = ServingDefaults.of(student, config()).sampler(student)
    noise = torch.stack(
        [torch.randn(sampler.shape, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)]
    )
    with torch.no_grad():
        images = student.decode(sampler.sample_from(noise, PROMPTS[:2], torch.Generator()).clean).clamp(-1, 1)
    ours = ((images + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    served = load_generator(base)
    assert served.sampler == name
    theirs = served.generate(PROMPTS[:2], [3, 4], served.default_steps, served.default_guidance)
    assert np.abs(ours - theirs.astype(float)).max() <= 1


def test_ddpo_counts_the_probability_of_the_guided_step(student: Student) -> None:
    sampler = ServingDefaults.of(student, config()).sampler(student, eta=1.0)
    path = sampler.sample(PROMPTS[:2], torch.Generator().manual_seed(0))
    for transition in path.transitions[1:-1]:
        with torch.no_grad():
            usual, _ = sampler.distribution(transition, PROMPTS[:2], of_parent=True)
        mean, deviation = sampler.distribution(transition, PROMPTS[:2])
        # What was drawn lies where the policy says: its distance is noise of that deviation.
        apart = ((transition.after - mean.detach()) / deviation.view(-1, 1, 1, 1)).flatten()
        assert apart.mean().abs() < 0.2 and apart.std() == pytest.approx(1, abs=0.15)
        assert torch.allclose(usual, mean, atol=1e-5)
