"""New words are learned: their files, their lengths, what else stays, and that they are served."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from tests.foundations import save_chests, save_foundation
from training.adaptation.config import AdaptConfig
from training.adaptation.fit import fit
from training.adaptation.foundation import Foundation
from training.adaptation.inversion import InversionTuning
from training.alignment.encoder import Encoder
from training.loop.session import TrainingSession
from vouch.domains.criteria import load_domain
from vouch.errors import AlreadyExists, InvalidInput
from vouch.models.embeddings import EMBEDDINGS_FILE, LearnedWord, add_words, read_word, write_words
from vouch.models.pipelines import load_generator
from vouch.storage.catalog import Catalog
from vouch.storage.registry import Registry

PROMPT = "a photo of <adapted>"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inversion")
    save_foundation(root / "1.x")
    save_foundation(root / "2.x", "2.x")
    save_chests(root / "chests", patients=8)  # too few to hold any out: the last weights are kept
    return root


def ask(world: Path, folder: Path, base: str = "1.x", **settings: object) -> AdaptConfig:
    values: dict[str, object] = {
        "data": world / "chests", "recipe": "text-inversion", "steps": 2, "batch": 2, "threads": 1, "lr": 0.05,
        "warmup": 1, "precision": "float32", "ema": 0.0,
        "domain": load_domain("chest_xray"), "keep_vae": True, "cache": world / "latents",
    }  # fmt: skip
    return AdaptConfig(**{**values, "base": world / base, "out": folder / "version", **settings})  # type: ignore[arg-type]


def learn(world: Path, folder: Path, base: str = "1.x", **settings: object) -> Path:
    config = ask(world, folder, base, **settings)
    fit(config, TrainingSession(folder / "run"))
    return config.out


@pytest.fixture(scope="module")
def learned(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three vectors, learned upon the 1.x model."""
    return learn(world, tmp_path_factory.mktemp("learned"), inversion={"vectors": 3})


def vectors(folder: Path) -> torch.Tensor:
    return read_word(folder / EMBEDDINGS_FILE).vectors


@pytest.mark.parametrize(("base", "count"), [("1.x", 3), ("2.x", 1)])
def test_the_file_of_a_word_loads_in_plain_diffusers_and_reads_as_the_version_does(
    world: Path, learned: Path, tmp_path: Path, base: str, count: int
) -> None:
    version = learned if count == 3 else learn(world, tmp_path, base, inversion={"vectors": count})
    plain = StableDiffusionPipeline.from_pretrained(world / base)
    plain.load_textual_inversion(str(version))
    served = load_generator(version)
    assert served.vocabulary is None
    with torch.no_grad():
        expected = plain.encode_prompt(PROMPT, "cpu", 1, False)[0]
    assert torch.allclose(served.encode(PROMPT), expected, atol=1e-6)
    assert not torch.allclose(served.encode(PROMPT), served.encode("a photo of image"), atol=1e-3)
    assert vectors(version).shape == (count, 16)


def test_the_whole_folder_loads_in_plain_diffusers_with_the_word_in_it(learned: Path) -> None:
    plain = StableDiffusionPipeline.from_pretrained(learned)
    with torch.no_grad():
        read = plain.encode_prompt(PROMPT, "cpu", 1, False)[0]
    assert torch.allclose(read, load_generator(learned).encode(PROMPT), atol=1e-6)


def test_every_prompt_without_the_word_and_every_other_part_stay_as_they_were(
    world: Path, learned: Path
) -> None:
    before, after = load_generator(world / "1.x"), load_generator(learned)
    assert torch.equal(before.encode("a bright chest"), after.encode("a bright chest"))
    for part in ("unet", "vae"):
        old, new = (getattr(one.pipe, part).state_dict() for one in (before, after))
        assert all(torch.equal(old[name].half(), new[name].half()) for name in old)


def test_a_version_with_the_word_is_published_and_draws_it(learned: Path, tmp_path: Path) -> None:
    registry = Registry(Catalog(f"sqlite:///{tmp_path}/catalog.db"), tmp_path / "models")
    version = registry.publish(learned, kind="generator", format="diffusers")
    generator = load_generator(registry.open(version.digest))
    images = [generator.generate([prompt], [0], 2, 2.0) for prompt in (PROMPT, "a photo of image")]
    assert images[0].shape == images[1].shape and not np.array_equal(*images)


def test_vectors_keep_their_length_and_turn(world: Path, learned: Path) -> None:
    table = load_generator(world / "1.x").pipe.text_encoder.get_input_embeddings().weight.detach()
    lengths, turned = vectors(learned).norm(dim=1), vectors(learned)
    known = table.norm(dim=1)
    assert all((known - length).abs().min() < 1e-5 for length in lengths)
    assert not any((table - vector).norm(dim=1).min() < 1e-3 for vector in turned)


def test_lengths_change_where_they_are_not_kept(world: Path, tmp_path: Path) -> None:
    free = vectors(learn(world, tmp_path, inversion={"vectors": 3, "keep_norm": False}))
    table = load_generator(world / "1.x").pipe.text_encoder.get_input_embeddings().weight.detach()
    assert all((table.norm(dim=1) - length).abs().min() > 1e-4 for length in free.norm(dim=1))


def test_words_take_the_place_of_their_phrases_and_have_a_file_each(world: Path, tmp_path: Path) -> None:
    words = ("<bright>=bright chest", "<chest>=chest")
    config = ask(world, tmp_path, inversion={"words": words, "vectors": 2})
    tuning = InversionTuning(Foundation(world / "1.x"), config)
    assert tuning.worded("A Bright Chest, no chest tube") == "A <bright>, no <chest> tube"
    assert tuning.worded("lungs") == "lungs" and tuning.worded("") == ""
    tuning.save(tmp_path / "version")
    plain = StableDiffusionPipeline.from_pretrained(world / "1.x")
    for name in ("bright", "chest"):
        plain.load_textual_inversion(str(tmp_path / "version" / f"learned_embeds-{name}.safetensors"))
    assert {"<bright>_1", "<chest>_1"} <= set(plain.tokenizer.get_vocab())


def test_a_phrase_that_no_caption_holds_is_refused_by_name(world: Path, tmp_path: Path) -> None:
    for phrases in (("<x>=chest", "<y>=Effusion"), ("<x>=bright chest", "<z>=dark chest", "<y>=chest")):
        given = {"words": phrases, "vectors": 1}
        with pytest.raises(
            InvalidInput, match="No training caption holds the phrase '(effusion|chest)', so .* <y>"
        ):
            learn(world, tmp_path, inversion=given)


def test_a_word_without_a_phrase_stands_before_every_caption(world: Path, tmp_path: Path) -> None:
    tuning = InversionTuning(Foundation(world / "1.x"), ask(world, tmp_path, token="<lung>"))
    assert tuning.worded("a dark chest") == "<lung> a dark chest" and tuning.worded("") == ""


@pytest.mark.parametrize(
    "settings",
    [
        {"inversion": {"vectors": 2}},
        {"inversion": {"vectors": 3, "begins_as": "dark"}},
        {"inversion": {"vectors": 3, "keep_norm": False}},
        {"inversion": {"vectors": 3, "words": ("<adapted>=chest",)}},
        {"inversion": {"vectors": 3}, "seed": 1},
        {"inversion": {"vectors": 3}, "lr": 0.5},
        {"inversion": {"vectors": 3}, "min_snr": 0.0},
    ],
    ids=str,
)
def test_every_option_changes_what_is_learned(
    world: Path, learned: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    other = vectors(learn(world, tmp_path, **settings))
    assert other.shape != vectors(learned).shape or not torch.equal(other, vectors(learned))


def test_a_run_that_is_cut_resumes_to_the_same_vectors(world: Path, tmp_path: Path) -> None:
    settings = {"cooldown": 0.0, "checkpoint_every": 2}
    whole = learn(world, tmp_path / "whole", steps=4, **settings)
    for steps in (2, 4):
        resumed = learn(world, tmp_path / "cut", steps=steps, **settings)
    assert torch.equal(vectors(resumed), vectors(whole))


# ---- files


def test_a_file_of_others_is_imported_as_it_is(world: Path, tmp_path: Path) -> None:
    given = torch.randn(2, 16)
    save_file({"emb_params": given}, tmp_path / "Old-Film.safetensors")
    version = learn(world, tmp_path, embeddings=tmp_path / "Old-Film.safetensors", lr=0.0, steps=1)
    word = read_word(version / EMBEDDINGS_FILE)
    assert word.text == "old-film" and torch.allclose(word.vectors, given, atol=1e-6)
    generator = load_generator(version)
    assert not torch.equal(generator.encode("a photo of old-film"), generator.encode("a photo of"))


def test_an_imported_word_is_learned_on_under_another_name(world: Path, tmp_path: Path) -> None:
    save_file({"<film>": torch.randn(16)}, tmp_path / "film.safetensors")
    settings = {"embeddings": tmp_path / "film.safetensors", "inversion": {"words": ("<scan>=chest",)}}
    version = learn(world, tmp_path, **settings)
    ((name, learned),) = load_file(version / EMBEDDINGS_FILE).items()
    assert name == "<scan>" and learned.shape == (1, 16)
    assert not torch.allclose(learned[0], load_file(tmp_path / "film.safetensors")["<film>"], atol=1e-3)


@pytest.mark.parametrize(
    ("tensors", "name", "says"),
    [
        ({"clip_l": torch.zeros(1, 16), "clip_g": torch.zeros(1, 32)}, "xl.safetensors", "SDXL"),
        ({"<Big>": torch.zeros(1, 16)}, "big.safetensors", "capitals"),
        ({"<cube>": torch.zeros(1, 2, 16)}, "word.pt", "never unpickles"),
    ],
    ids=["sdxl", "capitals", "pickle"],
)
def test_other_files_are_refused_with_what_to_do(
    tmp_path: Path, tensors: dict[str, torch.Tensor], name: str, says: str
) -> None:
    save_file(tensors, tmp_path / name)
    with pytest.raises(InvalidInput, match=says):
        read_word(tmp_path / name)


def test_a_damaged_file_and_one_that_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "damaged.safetensors").write_bytes(b"12345678{")
    for name in ("damaged", "absent"):
        with pytest.raises(InvalidInput, match="cannot be read"):
            read_word(tmp_path / f"{name}.safetensors")


def test_a_word_that_is_known_or_too_wide_is_refused(world: Path) -> None:
    pipe = load_generator(world / "1.x").pipe
    with pytest.raises(InvalidInput, match="learned for another model"):
        add_words(pipe, [LearnedWord("<wide>", torch.zeros(1, 32))])
    add_words(pipe, [LearnedWord("<new>", torch.zeros(2, 16))])
    with pytest.raises(AlreadyExists, match="<new>"):
        add_words(pipe, [LearnedWord("<new>", torch.zeros(1, 16))])


def test_words_are_written_and_read_again(tmp_path: Path) -> None:
    word = LearnedWord("<lung-x>", torch.randn(3, 8))
    write_words([word], tmp_path)
    read = read_word(tmp_path / EMBEDDINGS_FILE)
    assert read.text == word.text and torch.equal(read.vectors, word.vectors)
    assert read.tokens == ("<lung-x>", "<lung-x>_1", "<lung-x>_2")


def test_alignment_reads_a_word_of_several_vectors_as_serving_does(learned: Path) -> None:
    generator = load_generator(learned)
    encoder = Encoder(generator.pipe.tokenizer, generator.pipe.text_encoder)
    assert torch.allclose(encoder([PROMPT]), generator.encode(PROMPT), atol=1e-6)


def test_a_version_is_learned_upon_again(learned: Path, world: Path, tmp_path: Path) -> None:
    shutil.copytree(learned, tmp_path / "base")
    more = learn(
        world, tmp_path, base=str(tmp_path / "base"), inversion={"words": ("<second>",), "vectors": 1}
    )
    generator = load_generator(more)
    assert torch.equal(generator.encode(PROMPT), load_generator(learned).encode(PROMPT))
    assert not torch.equal(generator.encode("<second>"), generator.encode(""))
