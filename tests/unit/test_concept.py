"""A new concept: from sub-labels to a generator that has a word for it, with everything else as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.tiny import SIZE, VOCABULARY, save_generator, save_reward
from training.alignment.path_sampler import PathSampler
from training.alignment.pool import Pool
from training.alignment.step_rng import StepRng
from training.alignment.student import Student
from training.concepts.batches import Kept
from training.concepts.fit import ConceptConfig, fit
from training.concepts.practice import Practice, Practising, settings
from training.concepts.student import ConceptStudent
from training.concepts.sublabels import read_sub_labels
from training.concepts.subtype import best_head, features_of, learn_head, sight_of_reward
from training.concepts.tutor import Tutor
from training.concepts.tutors import Tutors, learn_tutors, tutor_backbones
from training.concepts.words import NewWord
from training.data.augmentation import to_unit
from training.data.examples import load_examples
from training.loop.progress import TrainingProgress
from training.loop.session import TrainingSession
from training.objectives.concept import both, concept_loss
from training.randomness import tensors
from vouch.errors import AlreadyExists, Cancelled, FailedPrecondition, InvalidInput
from vouch.formats import images as codec
from vouch.models.captions import Vocabulary
from vouch.models.loading import load_pipeline
from vouch.models.networks.reward import RewardEnsemble
from vouch.models.pipelines import load_generator


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random generator and reward, and cells of two classes, one of which has bright and dark ones."""
    root = tmp_path_factory.mktemp("concept")
    save_generator(root / "base", seed=0)
    save_reward(root / "reward", seed=0)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        level = 180 if number % 2 else 70
        pixels = np.clip(rng.normal(level, 20, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
        neutrophil = number % 3 != 2
        rows.append(
            {
                "image": codec.encode_png(pixels),
                "label": "neutrophil" if neutrophil else "monocyte",
                "cell_size": "big",
                "subtype": ("bright" if number % 2 else "dark") if neutrophil else None,
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), root / "cells.parquet")
    return root


def ask(world: Path, folder: Path, **settings: object) -> ConceptConfig:
    values: dict[str, object] = {
        "concept": "bright neutrophil", "kind_of": "neutrophil", "data": world / "cells.parquet",
        "column": "subtype", "value": "bright", "steps": 4, "batch": 6, "least": 4, "threads": 1, "rank": 2,
        "lr": 1e-2, "practice_steps": 0, "tutor_steps": 10,
    }  # fmt: skip
    values |= {"base": world / "base", "reward": world / "reward", **settings}
    return ConceptConfig(out=folder / "version", **values)  # type: ignore[arg-type]


def test_the_concept_can_be_asked_for_and_what_was_known_encodes_the_same(
    world: Path, tmp_path: Path
) -> None:
    figures = fit(ask(world, tmp_path, most=24), TrainingSession(tmp_path / "run"))
    before, after = load_generator(world / "base"), load_generator(tmp_path / "version")
    assert after.vocabulary is not None
    assert after.vocabulary.concepts == {"bright neutrophil": "neutrophil"}
    assert after.vocabulary.parse("bright neutrophil, cell size big").label == "bright neutrophil"
    for prompt in ("neutrophil", "monocyte, cell size big", ""):
        assert torch.equal(before.encode(prompt), after.encode(prompt))
    assert not torch.equal(after.encode("bright neutrophil"), after.encode("neutrophil"))
    assert after.generate(["bright neutrophil"], [0], 2, 2.0).shape == (1, SIZE, SIZE, 3)
    assert (figures["sub_labels_yes"] + figures["sub_labels_no"], figures["pseudo_of"]) == (24, 16)


def test_a_word_begins_as_the_word_that_it_is_a_kind_of(world: Path) -> None:
    pipe = load_pipeline(world / "base")
    NewWord(pipe.tokenizer, pipe.text_encoder, "bright neutrophil", "neutrophil").keep()
    ids = pipe.tokenizer(["neutrophil", "Bright neutrophil"], padding="max_length", return_tensors="pt")
    known, new = pipe.text_encoder(ids.input_ids)[0]
    assert torch.equal(known, new)


def test_a_head_learns_from_few_sub_labels_and_says_how_good_it_is(world: Path) -> None:
    examples = load_examples(world / "cells.parquet")
    found = read_sub_labels(examples, "neutrophil", "subtype", "bright").limited(16, seed=0)
    reward = RewardEnsemble.load(world / "reward")
    features = features_of(sight_of_reward(reward), found.images)
    noise = np.random.default_rng(0).normal(size=features.shape)
    concept = (found.probability[found.labelled] > 0.5).numpy()
    name, head = best_head({"noise": noise, "reward": features}, found.labelled, concept, seed=0)
    assert name == "reward"
    truth = read_sub_labels(examples, "neutrophil", "subtype", "bright").probability.numpy()
    assert (head.accuracy, head.auroc) == (1.0, 1.0)
    assert ((head.probability(features) > 0.5) == truth).all()
    guess = learn_head(np.random.default_rng(0).normal(size=(40, 8)), np.arange(40) % 2 == 0, seed=0)
    assert guess.accuracy < 0.8


@pytest.mark.parametrize("text_encoder", [False, True])
def test_an_aligned_generator_learns_on_from_where_it_was(
    world: Path, tmp_path: Path, text_encoder: bool
) -> None:
    aligned = Student(world / "base", None, world / "reward", 2, text_encoder=text_encoder)
    with torch.no_grad():
        for parameter in aligned.trained:
            parameter.add_(0.1)
    aligned.save(tmp_path / "lora")
    config = ask(world, tmp_path, parent=tmp_path / "lora", lr=0.0, word_lr=0.0, steps=1)
    fit(config, TrainingSession(tmp_path / "run"))
    base, lora, concept = (
        load_generator(*folders).generate(["neutrophil"], [0], 2, 2.0).astype(int)
        for folders in ((world / "base",), (tmp_path / "lora", world / "base"), (config.out,))
    )
    assert np.abs(lora - concept).max() <= 2 < np.abs(lora - base).max()


@pytest.mark.parametrize("sharpness", [1.0, 2.5])
def test_the_loss_goes_as_far_from_class_to_concept_as_it_is_told(sharpness: float) -> None:
    """The class's mean is 3, the concept's 4, the others' 2: the optimum is 3 + s."""
    yes = torch.tensor([True, False])
    wanted = torch.tensor([4.0, 2.0]).view(2, 1, 1, 1)
    for output, at_rest in ((3.0 + sharpness, True), (3.0, False)):
        said = torch.full((2, 1, 1, 1), output, requires_grad=True)
        concept_loss(said, torch.full_like(said, 3.0).detach(), wanted, yes, sharpness=sharpness).backward()
        assert said.grad is not None
        assert (float(said.grad.sum().abs()) < 1e-5) == at_rest


def test_keeping_costs_nothing_at_first_and_something_once_it_has_moved(world: Path) -> None:
    student = ConceptStudent(
        world / "base", None, world / "reward", 2, concept="bright neutrophil", kind_of="neutrophil"
    )
    images = torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)
    prompts = ["monocyte", ""]
    assert float(student.keeping(images, prompts, StepRng.of(0, 1)).detach().max()) == 0.0
    with torch.no_grad():
        for parameter in student.trained:
            parameter.add_(0.1)
    held = student.keeping(images, prompts, StepRng.of(0, 1))
    assert float(held.detach().min()) > 0.0
    held.sum().backward()
    assert student.word.row.grad is None


def test_every_label_that_was_known_is_kept_also_without_a_caption() -> None:
    kept = Kept(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), ("a", "a", "b"), ({}, {"size": "big"}, {}))
    captions = kept.draw(400, True, StepRng.of(0, 1))[1]
    shares = {name: captions.count(name) / 400 for name in ("a", "a, size big", "b", "")}
    assert sum(shares.values()) == 1.0
    assert shares["b"] > 0.4 > shares["a"] > shares["a, size big"] > 0.04 < shares[""] < 0.2


def test_without_data_it_keeps_what_the_generator_itself_draws(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the sub-labelled images come from the catalog, frozen into the run's folder."""
    rows = pq.read_table(world / "cells.parquet").to_pylist()
    frozen = [
        {"image": row["image"], "said": float(row["subtype"] == "bright"), "ratings": "[]", "kinds": "[]"}
        for row in rows
        if row["subtype"]
    ]
    (tmp_path / "run").mkdir()
    pq.write_table(pa.Table.from_pylist(frozen), tmp_path / "run" / "sublabels.parquet")
    monkeypatch.setattr("training.concepts.batches.DRAWN_OF_EACH", 2)
    config = ask(world, tmp_path, data=None, column=None, value=None, steps=1)
    figures = fit(config, TrainingSession(tmp_path / "run"))
    assert figures["kept_images"] == 2 * len(VOCABULARY.labels)
    assert figures["sub_labels_yes"] == 20


def test_a_run_that_was_stopped_goes_on_to_the_same_generator(world: Path, tmp_path: Path) -> None:
    def stop_at_4(progress: TrainingProgress) -> bool:
        return progress.step < 4

    whole, broken = (ask(world, tmp_path / name, steps=6, checkpoint_every=2) for name in ("whole", "broken"))
    fit(whole, TrainingSession(tmp_path / "whole" / "run", every_s=0))
    with pytest.raises(Cancelled):
        fit(broken, TrainingSession(tmp_path / "broken" / "run", stop_at_4, every_s=0))
    fit(broken, TrainingSession(tmp_path / "broken" / "run", every_s=0))
    for part in ("unet/diffusion_pytorch_model", "text_encoder/model"):
        weights = [(config.out / f"{part}.safetensors").read_bytes() for config in (whole, broken)]
        assert weights[0] == weights[1]


def test_practice_is_left_as_it_was_best(world: Path, tmp_path: Path) -> None:
    config = ask(world, tmp_path, practice_steps=3, practice_gradient_steps=1)
    unpractised = ask(world, tmp_path / "before")
    figures = fit(config, TrainingSession(tmp_path / "run"))
    fit(unpractised, TrainingSession(tmp_path / "before" / "run"))
    assert (figures["practice_steps"], figures["tutor_auroc"]) == (3, 1.0)
    after, before = (
        load_generator(one.out).generate(["bright neutrophil"], [0], 2, 2.0) for one in (config, unpractised)
    )
    assert (figures["practice_best_step"] > 0) == bool((after != before).any())


def test_a_step_of_practice_makes_the_same_drawing_more_of_what_the_tutors_teach(
    world: Path, tmp_path: Path
) -> None:
    config = ask(world, tmp_path, practice_steps=1, practice_gradient_steps=2, tutor_steps=40)
    fit(ask(world, tmp_path), TrainingSession(tmp_path / "run"))
    found = read_sub_labels(load_examples(world / "cells.parquet"), "neutrophil", "subtype", "bright")
    tutors, _ = learn_tutors(
        tutor_backbones(RewardEnsemble.load(world / "reward"), None),
        found,
        config,
        TrainingSession(tmp_path / "run"),
    )
    student = Practising(config.out, config.reward, tutors, config)
    sampler, asked = PathSampler(student, 3), [config.concept] * 4

    def taught() -> torch.Tensor:
        images = student.decode(sampler.sample(asked, tensors("practice"), last=2).clean)
        return student.teacher_logits(images, asked).mean()

    before = taught()
    before.backward()
    with torch.no_grad():
        for weight in student.trained:
            if weight.grad is not None:
                weight.add_(weight.grad, alpha=1e-3 / float(weight.grad.norm() + 1e-12))
    assert taught().item() > before.item()


def test_other_classes_are_held_at_the_price_asked(world: Path, tmp_path: Path) -> None:
    fit(ask(world, tmp_path), TrainingSession(tmp_path / "run"))
    config = ask(world, tmp_path, practice_steps=1)
    tutors = Tutors(
        [Tutor(backbone).eval() for backbone in tutor_backbones(RewardEnsemble.load(world / "reward"), None)]
    )
    student = Practising(config.out, config.reward, tutors, config)
    with torch.no_grad():
        for weight in student.trained:
            weight.add_(0.1)
    images = torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)
    kept = Kept(images, ("monocyte", "monocyte"), ({}, {}))
    align = settings(config, config.out, config.reward, config.out)
    nothing = torch.zeros(4)
    pool = Pool(nothing, (config.concept,) * 4, nothing, nothing)
    losses = [
        float(Practice(student, pool, kept, align, *held).loss(StepRng.of(0, 1)).detach())
        for held in ((0, 1.0), (2, 0.0), (2, 1.0), (2, 2.0))
    ]
    assert losses[1] < losses[2] < losses[3]
    assert losses[3] - losses[1] == pytest.approx(2 * (losses[2] - losses[1]), rel=1e-3)


def test_tutors_that_tell_no_better_than_chance_are_not_followed(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.concepts.fit.LEAST_AUROC", 1.01)
    figures = fit(ask(world, tmp_path, practice_steps=3), TrainingSession(tmp_path / "run"))
    assert figures["practice_steps"] == 0
    assert load_generator(tmp_path / "version").vocabulary is not None


def test_a_concept_may_be_a_kind_of_another(world: Path, tmp_path: Path) -> None:
    """The reward knows neither word: practice asks it about the class that both belong to."""
    first = ask(world, tmp_path / "first")
    fit(first, TrainingSession(tmp_path / "first" / "run"))
    rows = pq.read_table(world / "cells.parquet").to_pylist()
    again = [{**row, "label": row["label"].replace("neutrophil", first.concept)} for row in rows]
    pq.write_table(pa.Table.from_pylist(again), tmp_path / "again.parquet")
    second = ask(
        world, tmp_path / "second", base=first.out, concept="giant bright neutrophil", kind_of=first.concept,
        data=tmp_path / "again.parquet", practice_steps=1, practice_gradient_steps=1,
    )  # fmt: skip
    figures = fit(second, TrainingSession(tmp_path / "second" / "run"))
    assert figures["practice_steps"] == 1
    grown = Vocabulary.load(second.out)
    assert grown is not None
    assert grown.concepts == {
        "bright neutrophil": "neutrophil",
        "giant bright neutrophil": "bright neutrophil",
    }


def test_practice_is_refused_before_anything_is_learned_where_the_reward_knows_no_such_class(
    world: Path, tmp_path: Path
) -> None:
    vocabulary = Vocabulary(("monocyte",), {})
    RewardEnsemble(vocabulary, (), members=1, size=SIZE, widths=(8, 8)).save(tmp_path / "reward")
    config = ask(world, tmp_path, reward=tmp_path / "reward", practice_steps=1)
    with pytest.raises(FailedPrecondition, match="how plausible a neutrophil is, and it knows only monocyte"):
        fit(config, TrainingSession(tmp_path / "run"))
    assert not (tmp_path / "run" / "concept").exists()


def test_a_practice_that_was_stopped_goes_on_to_the_same_generator(world: Path, tmp_path: Path) -> None:
    def stop_in_practice(progress: TrainingProgress) -> bool:
        return not (progress.message.startswith("practising") and progress.step == 3)

    asked = {"practice_steps": 4, "practice_gradient_steps": 1, "checkpoint_every": 2, "steps": 3}
    whole, broken = (ask(world, tmp_path / name, **asked) for name in ("whole", "broken"))
    fit(whole, TrainingSession(tmp_path / "whole" / "run", every_s=0))
    with pytest.raises(Cancelled):
        fit(broken, TrainingSession(tmp_path / "broken" / "run", stop_in_practice, every_s=0))
    fit(broken, TrainingSession(tmp_path / "broken" / "run", every_s=0))
    weights = [
        (config.out / "unet/diffusion_pytorch_model.safetensors").read_bytes() for config in (whole, broken)
    ]
    assert weights[0] == weights[1]


def test_tutors_learn_the_concept_and_the_last_of_three_teaches_nothing(world: Path, tmp_path: Path) -> None:
    found = read_sub_labels(load_examples(world / "cells.parquet"), "neutrophil", "subtype", "bright")
    backbones = tutor_backbones(RewardEnsemble.load(world / "reward"), None)
    assert len(backbones) == 3
    config, images = ask(world, tmp_path, tutor_steps=60), to_unit(found.images)
    tutors, auroc = learn_tutors(backbones, found, config, TrainingSession(tmp_path / "run"))
    assert tutors.teacher_logits(images).shape == (2, len(found))
    assert ((tutors.validation_reward(images) > 0.5) == (found.probability > 0.5)).float().mean() > 0.9
    assert auroc == 1.0


def test_tutors_that_were_learned_once_are_not_learned_again(world: Path, tmp_path: Path) -> None:
    found = read_sub_labels(load_examples(world / "cells.parquet"), "neutrophil", "subtype", "bright")
    backbones, images = (
        tutor_backbones(RewardEnsemble.load(world / "reward"), None)[:2],
        to_unit(found.images),
    )
    config = ask(world, tmp_path)
    first, *_ = learn_tutors(backbones, found, config, TrainingSession(tmp_path / "run"))
    unlike = replace(found, probability=1 - found.probability)
    again, *_ = learn_tutors(backbones, unlike, config, TrainingSession(tmp_path / "run"))
    other, *_ = learn_tutors(backbones, unlike, config, TrainingSession(tmp_path / "elsewhere"))
    assert torch.equal(again.teacher_logits(images), first.teacher_logits(images))
    assert not torch.equal(other.teacher_logits(images), first.teacher_logits(images))


def test_what_is_held_out_is_of_both_sides_and_told_apart_from_the_rest(world: Path) -> None:
    found = read_sub_labels(load_examples(world / "cells.parquet"), "neutrophil", "subtype", "bright")
    known, held = found.apart(0.2, seed=0)
    assert held.counts() == (4, 4)
    assert known.counts() == (16, 16)
    assert len(known) == len(found)


def test_a_drawing_is_worth_as_much_as_it_is_plausible_and_the_concept() -> None:
    half = torch.zeros(1)
    assert float(both(half, half, 1.0).sigmoid()) == pytest.approx(0.25)
    assert float(both(half, half, 3.0).sigmoid()) == pytest.approx(0.0625)
    sure = torch.full((1,), 60.0, requires_grad=True)
    worth = both(sure, sure, 3.0)
    worth.backward()
    assert float(worth.detach()) > 10
    assert sure.grad is not None
    assert bool(sure.grad.isfinite().all())


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"kind_of": "platelet"}, InvalidInput, "knows no 'platelet'.*basophil"),
        ({"concept": "monocyte"}, AlreadyExists, "knows 'monocyte' already"),
        ({"concept": "big"}, InvalidInput, "said in 'cell size big' already"),
        ({"concept": "big, bright"}, InvalidInput, "cannot name a concept"),
        (
            {"least": 21},
            FailedPrecondition,
            "20 sub-labels that say 'bright neutrophil' and 20 .* at least 21",
        ),
        ({"column": None}, FailedPrecondition, "There are 0 sub-labels"),
        ({"column": "kind"}, InvalidInput, "No image of neutrophil has anything in the column 'kind'"),
        ({"value": "bandlike"}, InvalidInput, "never says 'bandlike' of a neutrophil. It says: bright, dark"),
        ({"kind_of": "basophil"}, InvalidInput, "The data hold no basophil. They hold: monocyte, neutrophil"),
        ({"data": None}, FailedPrecondition, "no image of neutrophil"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_learned_is_said(
    world: Path, tmp_path: Path, settings: dict, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        fit(ask(world, tmp_path, **settings), TrainingSession(tmp_path / "run"))


def test_only_the_values_named_count_as_not_the_concept(world: Path) -> None:
    examples = load_examples(world / "cells.parquet")
    assert read_sub_labels(examples, "neutrophil", "subtype", "bright", ["shiny"]).counts() == (20, 0)
    assert read_sub_labels(examples, "neutrophil", "subtype", "bright", ["dark"]).counts() == (20, 20)


def test_a_vocabulary_with_concepts_survives_its_file(tmp_path: Path) -> None:
    grown = VOCABULARY.with_concept("band neutrophil", "neutrophil")
    grown.save(tmp_path)
    assert Vocabulary.load(tmp_path) == grown
