"""Alignment on a toy where better is known: a reward that likes bright images, a generator that draws noise."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.tiny import VOCABULARY, save_generator
from tests.unit.test_reward_training import SMALL, rated_folder
from training.alignment.config import AlignConfig
from training.alignment.fit import METHODS, fit
from training.alignment.methods.ddpo import Ddpo
from training.alignment.pool import Pool, rated_pool
from training.alignment.student import Student
from training.inputs.pairs import PAIRS_FILE
from training.inputs.rated import RATINGS_FILE, Rated
from training.loop.progress import TrainingProgress
from training.loop.session import TrainingSession
from training.reward.config import RewardConfig
from training.reward.fit import fit as fit_reward
from vouch.errors import Cancelled, FailedPrecondition
from vouch.formats import images as codec
from vouch.models.captions import Vocabulary
from vouch.models.defaults import Defaults
from vouch.models.networks.reward import RewardEnsemble
from vouch.models.pipelines import Generator, load_generator
from vouch.recipes import Alignment, nested

WITHOUT_REAL = [
    method for method in METHODS if method != "real"
]  # it learns from images that the toy has not
UNSTOPPED = {
    "guidance": 1.0,
    "validation.images": 4,
    "validation.every": 5,
    "validation.patience": 1000,
    "validation.max_drift": 1e6,
    "draft.diversity": 0.0,
    "reward_gradient.diversity": 0.0,
    **{f"{method}.sample_steps": 4 for method in ("draft", "nft", "awm", "ddpo")},
    **{
        f"{method}.round_{what}": n for method in ("nft", "awm") for what, n in (("images", 12), ("steps", 4))
    },
}
UNVALIDATED: dict[str, object] = {"validation.every": 0}
slow = pytest.mark.slow
BY_KIND = [
    method if method in ("kto", "draft", "nft") else pytest.param(method, marks=slow)
    for method in WITHOUT_REAL
]
"""One method of each kind for every run, of rated images, of sampled paths and of rounds; the others are slow."""
PROMPTS = [VOCABULARY.labels[i % 5] for i in range(10)]
SEEDS = list(range(10))


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random generator, a reward that likes bright images, and the generator's own images as rated ones."""
    root = tmp_path_factory.mktemp("toy")
    generator = load_generator(save_generator(root / "base", seed=0))
    config = RewardConfig(out=root / "reward", steps=40, real_share=0.0, **SMALL)
    fit_reward(config, TrainingSession(rated_folder(root / "rated")))
    images = draw(generator)
    bright = np.median(images.mean((1, 2, 3)))
    rows = [
        {
            "image": codec.encode_png(image),
            "prompt": prompt,
            "digest": str(number),
            "overall": float(image.mean() > bright),
            "criteria": "{}",
            "ratings": json.dumps([str(number)]),
            "kinds": '["human"]',
        }
        for number, (image, prompt) in enumerate(zip(images, PROMPTS, strict=True))
    ]
    pq.write_table(pa.Table.from_pylist(rows), root / RATINGS_FILE)
    return root


def draw(generator: Generator) -> np.ndarray:
    return generator.generate(PROMPTS, SEEDS, 4, 1.0)


def compare(folder: Path) -> None:
    """Leaves every verdict in a run's folder open; of two images of a class the brighter one was preferred instead."""
    rated = pq.read_table(folder / RATINGS_FILE).to_pylist()
    unsure = pa.Table.from_pylist([{**row, "overall": None} for row in rated])
    rows = [
        {
            **{f"{side}_{name}": row[name] for side, row in sides for name in ("digest", "prompt")},
            **{side: row["image"] for side, row in sides},
            "preferred": 0.9 if sides[0][1]["overall"] > sides[1][1]["overall"] else 0.1,
        }
        for one, other in itertools.combinations(rated, 2)
        if one["prompt"] == other["prompt"] and one["overall"] != other["overall"]
        for sides in [(("first", one), ("second", other))]
    ]
    pq.write_table(unsure, folder / RATINGS_FILE)
    pq.write_table(pa.Table.from_pylist(rows), folder / PAIRS_FILE)


def run(toy: Path, folder: Path, **settings: object) -> AlignConfig:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(toy / RATINGS_FILE, folder)
    values = {
        "threads": 1,
        "rank": 4,
        "batch": 8,
        "steps": 12,
        "lr": 1e-2,
        "anchor": 0.1,
        **UNSTOPPED,
        **settings,
    }
    folders = {"out": folder / "lora", "base": toy / "base", "reward": toy / "reward"}
    return AlignConfig.model_validate({**folders, **nested(values)})


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "reward_gradient"},
        {"method": "draft", "draft.gradient_steps": 2},
        pytest.param({"method": "draft", "draft.views": 2}, marks=slow),
        {"method": "ddpo", "ddpo.gradient_steps": 3, "ddpo.groups": 2},
        {"method": "nft"},
        pytest.param({"method": "nft", "nft.round_steps": 0}, marks=slow),
        {"method": "awm", "awm.novelty": 0.5, "lr": 2e-2, "steps": 50},
        pytest.param({"method": "draft", "draft.novelty": 0.5}, marks=slow),
        {"method": "kto", "kto.beta": 100.0},
    ],
    ids=lambda settings: " ".join(f"{name}={value}" for name, value in settings.items()),
)
def test_every_method_raises_the_reward_of_what_is_drawn(toy: Path, tmp_path: Path, settings: dict) -> None:
    config = run(toy, tmp_path / "run", **{"steps": 25, **settings})
    fit(config, TrainingSession(tmp_path / "run"))
    reward = RewardEnsemble.load(toy / "reward")
    before, after = (
        draw(load_generator(f, b)) for f, b in ((toy / "base", None), (config.out, toy / "base"))
    )
    assert reward.score(after, PROMPTS).overall.mean() > reward.score(before, PROMPTS).overall.mean()


def test_a_reward_that_likes_brightness_is_not_followed_into_the_light(toy: Path, tmp_path: Path) -> None:
    """The planted error of a reward: unlimited it bleaches the images, with a limit on drift it is stopped."""
    drifted = {}
    for name, limit in (("unlimited", 1e6), ("limited", 1.0)):
        validation = {"validation.max_drift": limit, "validation.every": 2}
        config = run(toy, tmp_path / name, steps=40, lr=3e-2, anchor=0.0, std_penalty=0.0, **validation)
        drifted[name] = fit(config, TrainingSession(tmp_path / name))
    assert drifted["unlimited"]["drift"] > 1.0 >= drifted["limited"]["drift"]
    assert drifted["limited"]["steps"] < 40


def test_pairs_are_told_apart_by_whom_they_are_likelier_from(toy: Path, tmp_path: Path) -> None:
    """Two images of a class differ too little here to move what is drawn; that the loss sees it can be asked."""
    config = run(toy, tmp_path / "run", method="dpo", batch=16, steps=60, **{"dpo.beta": 1000.0})
    assert fit(config, TrainingSession(tmp_path / "run"))["loss"] < 0.9 * math.log(2)


def test_comparisons_alone_tell_them_apart_as_well(toy: Path, tmp_path: Path) -> None:
    config = run(toy, tmp_path / "run", method="dpo", batch=16, steps=60, **{"dpo.beta": 1000.0})
    compare(tmp_path / "run")
    assert fit(config, TrainingSession(tmp_path / "run"))["loss"] < 0.9 * math.log(2)


@pytest.mark.parametrize(
    ("method", "missing"), [("kto", "one kind is missing"), ("dpo", "no class has both")]
)
def test_verdicts_of_one_kind_teach_no_difference(
    toy: Path, tmp_path: Path, method: str, missing: str
) -> None:
    config = run(toy, tmp_path / "run", method=method)
    table = pq.read_table(tmp_path / "run" / RATINGS_FILE).to_pylist()
    pq.write_table(
        pa.Table.from_pylist([{**row, "overall": 1.0} for row in table]), tmp_path / "run" / RATINGS_FILE
    )
    with pytest.raises(FailedPrecondition, match=missing):
        fit(config, TrainingSession(tmp_path / "run"))


def test_ddpo_doubts_what_the_members_disagree_about(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = Student(toy / "base", None, toy / "reward", rank=2)
    said = torch.tensor(
        [[4.0, 1.0], [0.0, 1.0]]
    )  # the first image is the better one on average, and disputed
    monkeypatch.setattr(student, "teacher_logits", lambda images, prompts: said)
    nothing = torch.ones(2)
    pool = Pool(torch.zeros(2, 4, 8, 8), ("monocyte",) * 2, nothing, nothing)
    found = [
        Ddpo(student, pool, Alignment(method="ddpo", std_penalty=penalty))._rewards(
            pool.latents, [*pool.prompts]
        )
        for penalty in (0.0, 1.0)
    ]
    assert [rewards.tolist() for rewards in found] == [[2.0, 1.0], [0.0, 1.0]]


def test_the_pool_knows_what_the_members_disagree_about(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = Student(toy / "base", None, toy / "reward", rank=2)
    monkeypatch.setattr(
        student, "teacher_logits", lambda images, prompts: torch.tensor([[4.0, 1.0], [0.0, 1.0]])
    )
    rated = Rated(
        torch.zeros(2, 3, 32, 32).byte(), ("monocyte",) * 2, ("a", "b"), torch.ones(2), {}, ("generated",) * 2
    )
    pool = rated_pool(student, rated, std_penalty=0.5)
    assert pool.disagreement is not None and pool.disagreement.tolist() == [2.0, 0.0]
    assert pool.rewards.tolist() == pytest.approx([1 / (1 + math.exp(-1))] * 2)


def test_real_images_that_were_hidden_in_reviews_are_not_taken_for_the_generators_own(
    toy: Path, tmp_path: Path
) -> None:
    config = run(toy, tmp_path / "run", method="nft", steps=1)
    table = pq.read_table(tmp_path / "run" / RATINGS_FILE).to_pylist()
    for real in (3, len(table)):
        rows = [{**row, "source": "real" if n < real else "generated"} for n, row in enumerate(table)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "run" / RATINGS_FILE)
        if real == 3:
            assert fit(config, TrainingSession(tmp_path / "run"))["rated_images"] == len(table) - 3
        else:
            with pytest.raises(FailedPrecondition, match="all that were rated are real"):
                fit(config, TrainingSession(tmp_path / "run"))


def test_a_strong_anchor_keeps_the_parent(toy: Path, tmp_path: Path) -> None:
    moved = {}
    base = draw(load_generator(toy / "base")).astype(int)
    for anchor in (0.0, 1000.0):
        config = run(toy, tmp_path / str(anchor), anchor=anchor)
        fit(config, TrainingSession(tmp_path / str(anchor)))
        moved[anchor] = np.abs(draw(load_generator(config.out, toy / "base")).astype(int) - base).mean()
    assert moved[1000.0] < moved[0.0]


@pytest.mark.parametrize("method", BY_KIND)
def test_the_adapter_is_diffusers_own_and_another_round_begins_where_it_ended(
    toy: Path, tmp_path: Path, method: str
) -> None:
    from diffusers import StableDiffusionPipeline

    first = run(toy, tmp_path / "first", method=method, steps=3)
    fit(first, TrainingSession(tmp_path / "first"))
    second = run(toy, tmp_path / "second", method=method, steps=1, lr=0.0, parent=first.out)
    fit(second, TrainingSession(tmp_path / "second"))
    assert np.array_equal(
        draw(load_generator(first.out, toy / "base")), draw(load_generator(second.out, toy / "base"))
    )
    StableDiffusionPipeline.from_pretrained(str(toy / "base")).load_lora_weights(str(first.out))


def test_an_adapted_text_encoder_stays_so_when_the_unet_alone_learns_on(toy: Path, tmp_path: Path) -> None:
    both = run(toy, tmp_path / "both", method="kto", text_encoder=True, steps=3, **UNVALIDATED)
    fit(both, TrainingSession(tmp_path / "both"))
    alone = run(toy, tmp_path / "alone", method="kto", steps=2, parent=both.out, **UNVALIDATED)
    fit(alone, TrainingSession(tmp_path / "alone"))
    first, second = (load_generator(config.out, toy / "base") for config in (both, alone))
    assert torch.equal(first.encode(PROMPTS[0]), second.encode(PROMPTS[0]))
    assert not np.array_equal(draw(first), draw(second))


def test_what_learns_upon_a_version_that_reads_any_words_reads_any_words(toy: Path, tmp_path: Path) -> None:
    free = run(toy, tmp_path / "free", method="kto", steps=1, **UNVALIDATED)
    fit(free, TrainingSession(tmp_path / "free"))
    Vocabulary((), {}).save(free.out)
    Defaults(7, 3.0).save(free.out)
    onward = run(toy, tmp_path / "onward", method="kto", steps=1, parent=free.out, **UNVALIDATED)
    fit(onward, TrainingSession(tmp_path / "onward"))
    generator = load_generator(onward.out, toy / "base")
    assert generator.vocabulary is None
    assert (generator.default_steps, generator.default_guidance) == (7, 3.0)


def weights_of(config: AlignConfig) -> bytes:
    return next(config.out.glob("*.safetensors")).read_bytes()


def from_the_checkpoint_before(config: AlignConfig, folder: Path, step: int) -> bytes:
    """The weights of an attempt after one that was killed before its last checkpoint."""
    *_, last = sorted(folder.rglob("step-*"))
    shutil.rmtree(last)
    (saved,) = folder.rglob("step-*")
    assert saved.name.endswith(f"{step}"), "it would begin anew"
    next(config.out.glob("*.safetensors")).unlink()
    fit(config, TrainingSession(folder))
    return weights_of(config)


@pytest.mark.parametrize("method", WITHOUT_REAL)
def test_every_method_adapts_the_text_encoder_and_goes_on_to_the_same_weights(
    toy: Path, tmp_path: Path, method: str
) -> None:
    """The checkpoint lies within a round, and behind a validation."""
    config = run(toy, tmp_path, method=method, text_encoder=True, checkpoint_every=5, steps=7)
    fit(config, TrainingSession(tmp_path))
    adapted, base = (
        load_generator(folder, parent)
        for folder, parent in ((config.out, toy / "base"), (toy / "base", None))
    )
    assert not torch.equal(adapted.encode(PROMPTS[0]), base.encode(PROMPTS[0]))
    assert weights_of(config) == from_the_checkpoint_before(config, tmp_path, 5)


@pytest.mark.parametrize("method", BY_KIND)
def test_every_method_goes_on_to_the_same_weights_of_the_unet_alone(
    toy: Path, tmp_path: Path, method: str
) -> None:
    config = run(toy, tmp_path, method=method, checkpoint_every=5, steps=7)
    fit(config, TrainingSession(tmp_path))
    assert weights_of(config) == from_the_checkpoint_before(config, tmp_path, 5)


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(toy: Path, tmp_path: Path) -> None:
    def stop_at_4(progress: TrainingProgress) -> bool:
        return progress.step < 4

    whole, broken = (
        run(toy, tmp_path / name, method="kto", checkpoint_every=2, steps=6) for name in ("whole", "broken")
    )
    fit(whole, TrainingSession(tmp_path / "whole", every_s=0))
    with pytest.raises(Cancelled):
        fit(broken, TrainingSession(tmp_path / "broken", stop_at_4, every_s=0))
    fit(broken, TrainingSession(tmp_path / "broken", every_s=0))
    assert weights_of(whole) == weights_of(broken)


def test_a_run_that_learns_from_comparisons_goes_on_to_the_same_weights_too(
    toy: Path, tmp_path: Path
) -> None:
    config = run(toy, tmp_path, method="dpo", checkpoint_every=2, steps=3)
    compare(tmp_path)
    fit(config, TrainingSession(tmp_path))
    assert weights_of(config) == from_the_checkpoint_before(config, tmp_path, 2)


@pytest.mark.parametrize("method", ["real", "reward_weighted"])
def test_a_run_beside_real_images_goes_on_to_the_same_weights(toy: Path, tmp_path: Path, method: str) -> None:
    """Which of them are its anchor, and by which captions, is drawn again by every attempt."""
    rows = [
        {"image": codec.encode_png(image), "label": prompt, "cell_size": "big" if number % 2 else "small"}
        for number, (image, prompt) in enumerate(
            zip(draw(load_generator(toy / "base")), PROMPTS, strict=True)
        )
    ]
    data = tmp_path / "real.parquet"
    pq.write_table(pa.Table.from_pylist(rows), data)
    config = run(toy, tmp_path / "run", method=method, data=data, checkpoint_every=5, steps=7)
    fit(config, TrainingSession(tmp_path / "run"))
    assert weights_of(config) == from_the_checkpoint_before(config, tmp_path / "run", 5)


def test_without_validation_the_last_weights_are_kept(toy: Path, tmp_path: Path) -> None:
    config = run(toy, tmp_path / "run", steps=3, **UNVALIDATED)
    figures = fit(config, TrainingSession(tmp_path / "run"))
    assert figures["steps"] == 3 and "best_step" not in figures
    assert not np.array_equal(
        draw(load_generator(config.out, toy / "base")), draw(load_generator(toy / "base"))
    )


def test_without_rated_images_there_is_nothing_to_align_to(toy: Path, tmp_path: Path) -> None:
    config = AlignConfig(out=tmp_path / "lora", base=toy / "base", reward=toy / "reward")
    with pytest.raises(FailedPrecondition, match="learns from rated images"):
        fit(config, TrainingSession(tmp_path / "run"))
