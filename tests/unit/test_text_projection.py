"""Another text encoder reads the prompts, through a projection: shapes, files, what learns and what stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from tests.foundations import save_chests, save_foundation
from tests.text_encoders import minilm, needs_minilm, save_bert
from training.adaptation.config import AdaptConfig
from training.adaptation.fit import fit
from training.adaptation.foundation import Foundation
from training.adaptation.projection import NEUTRAL, ProjectionTuning
from training.alignment.encoder import Encoder
from training.loop.session import TrainingSession
from vouch.domains.criteria import load_domain
from vouch.errors import InvalidInput
from vouch.models.pipelines import load_generator
from vouch.models.projection import PROJECTION_FOLDER
from vouch.models.text_encoders import load_text_encoder

PROMPT = "a bright chest and any words"
WIDTH, OUT = 24, 16


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("projection")
    save_foundation(root / "1.x")
    save_foundation(root / "2.x", "2.x")
    save_bert(root / "bert", width=WIDTH)
    save_bert(root / "other", seed=1, width=WIDTH)
    save_chests(root / "chests")
    return root


def ask(world: Path, folder: Path, base: str = "1.x", **settings: object) -> AdaptConfig:
    values: dict[str, object] = {
        "data": world / "chests", "recipe": "text-projection", "steps": 2, "batch": 2, "threads": 1, "lr": 0.01,
        "warmup": 1, "validate_every": 2, "validated": 4, "precision": "float32", "ema": 0.0,
        "domain": load_domain("chest_xray"), "keep_vae": True, "cache": world / "latents", "encoder": world / "bert",
        "drop_caption": 0.0,
    }  # fmt: skip
    return AdaptConfig(**{**values, "base": world / base, "out": folder / "version", **settings})  # type: ignore[arg-type]


def learn(world: Path, folder: Path, base: str = "1.x", **settings: object) -> Path:
    config = ask(world, folder, base, **settings)
    fit(config, TrainingSession(folder / "run"))
    return config.out


@pytest.fixture(scope="module")
def linear(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learn(world, tmp_path_factory.mktemp("linear"))


@pytest.fixture(scope="module")
def hidden(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learn(world, tmp_path_factory.mktemp("hidden"), "2.x", projection={"hidden": 8})


def projection_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_generator(folder).pipe.unet.encoder_hid_proj.state_dict()


def test_a_linear_projection_loads_in_plain_diffusers_and_draws_the_same(linear: Path) -> None:
    config = json.loads((linear / "unet" / "config.json").read_text())
    assert config["encoder_hid_dim_type"] == "text_proj" and config["encoder_hid_dim"] == WIDTH
    plain = StableDiffusionPipeline.from_pretrained(linear)
    plain.set_progress_bar_config(disable=True)
    seeds = [torch.Generator().manual_seed(0)]
    expected = plain(
        [PROMPT], num_inference_steps=2, guidance_scale=2.0, generator=seeds, output_type="np"
    ).images
    served = load_generator(linear).generate([PROMPT], [0], 2, 2.0)
    assert np.abs(served.astype(int) - (expected * 255).round().astype(int)).max() <= 1
    assert tuple(projection_of(linear)["weight"].shape) == (OUT, WIDTH)


def test_a_projection_with_a_hidden_layer_is_served(hidden: Path, world: Path) -> None:
    generator = load_generator(hidden)
    assert tuple(generator.encode(PROMPT).shape) == (1, 32, WIDTH)
    shapes = {name: tuple(value.shape) for name, value in projection_of(hidden).items()}
    assert shapes["first.weight"] == (8, WIDTH) and shapes["second.weight"] == (OUT, 8)
    drawn, otherwise = (generator.generate([prompt], [0], 2, 2.0) for prompt in (PROMPT, "dark photo"))
    assert drawn.shape == (1, 32, 32, 3) and not np.array_equal(drawn, otherwise)
    assert not np.array_equal(drawn, load_generator(world / "2.x").generate([PROMPT], [0], 2, 2.0))
    assert json.loads((hidden / "unet" / "config.json").read_text())["encoder_hid_dim_type"] is None


@pytest.mark.parametrize("size", [0, 8])
def test_what_is_served_predicts_as_what_was_trained(world: Path, tmp_path: Path, size: int) -> None:
    base = Foundation(world / "1.x")
    tuning = ProjectionTuning(base, ask(world, tmp_path, projection={"hidden": size}))
    x, timesteps = torch.randn(1, 4, 8, 8), torch.tensor([500])
    with torch.no_grad():
        trained = tuning.predict(x, timesteps, [PROMPT])
    tuning.save(tmp_path / "version")
    generator = load_generator(tmp_path / "version")
    assert torch.allclose(generator.predict(x, timesteps, generator.encode(PROMPT)), trained, atol=0.01)


def test_the_projection_learns_and_everything_else_stays(world: Path, linear: Path) -> None:
    source, kept = load_file(world / "bert" / "model.safetensors"), load_generator(linear).pipe
    assert all(torch.equal(value, source[name]) for name, value in kept.text_encoder.state_dict().items())
    before = load_generator(world / "1.x").pipe.unet.state_dict()
    after = kept.unet.state_dict()
    assert all(torch.equal(value.half(), after[name].half()) for name, value in before.items())


def test_a_tuned_encoder_learns_too(world: Path, tmp_path: Path) -> None:
    version = learn(world, tmp_path, projection={"tune_encoder": True}, text_lr=0.01)
    source = load_file(world / "bert" / "model.safetensors")
    tuned = load_generator(version).pipe.text_encoder.state_dict()
    moved = [name for name, value in tuned.items() if not torch.equal(value, source[name])]
    assert any("attention" in name for name in moved) and not any("pooler" in name for name in moved)


@pytest.mark.parametrize(
    "settings",
    [
        {"projection": {"hidden": 4}},
        {"projection": {"tokens": 4}},
        {"projection": {"tune_encoder": True}},
        {"projection": {"tune_encoder": True}, "text_lr": 0.1},
        {"lr": 0.1},
        {"seed": 1},
        {"drop_caption": 1.0},
        {"encoder": "other"},
    ],
    ids=str,
)
def test_every_option_changes_what_is_learned(
    world: Path, linear: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    if "encoder" in settings:
        settings = {"encoder": world / str(settings["encoder"])}
    one, other = projection_of(linear), projection_of(learn(world, tmp_path, **settings))
    assert one.keys() != other.keys() or any(not torch.equal(one[name], other[name]) for name in one)


def test_the_rate_of_a_tuned_encoder_counts(world: Path, tmp_path: Path) -> None:
    slow, fast = (
        learn(world, tmp_path / str(lr), projection={"tune_encoder": True}, text_lr=lr) for lr in (1e-4, 1e-2)
    )
    one, other = (load_generator(folder).pipe.text_encoder.state_dict() for folder in (slow, fast))
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_run_that_is_cut_resumes_to_the_same_projection(world: Path, tmp_path: Path) -> None:
    settings = {"cooldown": 0.0, "checkpoint_every": 2, "projection": {"tune_encoder": True}}
    whole = load_generator(learn(world, tmp_path / "whole", steps=4, **settings)).pipe
    for steps in (2, 4):
        resumed = load_generator(learn(world, tmp_path / "cut", steps=steps, **settings)).pipe
    for part in ("unet", "text_encoder"):
        one, other = (getattr(pipe, part).state_dict() for pipe in (whole, resumed))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_base_reads_as_ever_while_it_is_asked_as_itself(world: Path, tmp_path: Path) -> None:
    base, alone = Foundation(world / "1.x"), Foundation(world / "1.x")
    tuning = ProjectionTuning(base, ask(world, tmp_path))
    x, timesteps = torch.randn(1, 4, 8, 8), torch.tensor([500])
    with torch.no_grad():
        expected = alone.pipe.unet(x, timesteps, alone.embed([PROMPT])).sample
        tuning.predict(x, timesteps, [PROMPT])  # what it read once, it remembers
        with tuning.as_base():
            assert torch.equal(tuning.predict(x, timesteps, [PROMPT]), expected)
            assert torch.equal(base.pipe.unet(x, timesteps, base.embed([PROMPT])).sample, expected)
        assert not torch.equal(tuning.predict(x, timesteps, [PROMPT]), expected)


def test_projected_words_begin_as_large_as_the_base_is_used_to(world: Path, tmp_path: Path) -> None:
    wanted = Foundation(world / "1.x").embed(NEUTRAL).std()
    tuning = ProjectionTuning(Foundation(world / "1.x"), ask(world, tmp_path, projection={"hidden": 8}))
    with torch.no_grad():
        projected = tuning.base.pipe.unet.encoder_hid_proj(tuning.embed(NEUTRAL))
    assert projected.std() == pytest.approx(float(wanted), rel=1e-3)


def test_padding_is_masked_in_serving_and_in_alignment(linear: Path) -> None:
    generator = load_generator(linear)
    tokenizer, network = generator.pipe.tokenizer, generator.pipe.text_encoder
    short = tokenizer(["a chest"], return_tensors="pt").input_ids
    with torch.no_grad():
        alone = network(short)[0]
    read = generator.encode("a chest")[:, : short.shape[1]]
    assert torch.allclose(read, alone, atol=1e-5)
    assert torch.allclose(Encoder(tokenizer, network)(["a chest"]), generator.encode("a chest"), atol=1e-5)


def test_what_a_run_reads_is_checked_as_paths_and_bound_by_digest() -> None:
    from training.jobs.plans import DATA
    from vouch import recipes

    assert {"encoder", "embeddings", "features"} <= set(recipes.path_settings("adapt"))
    assert {"encoder", "embeddings", "features"} <= set(DATA)
    settings = {"data": "chests", "recipe": "text-inversion", "inversion.words": ["<a>=b c", "<d>"]}
    _, recipe = recipes.parse("adapt", settings)
    assert recipe.inversion.pairs("") == (("<a>", "b c"), ("<d>", ""))  # type: ignore[attr-defined]
    assert recipe.publishes == "diffusers"  # type: ignore[attr-defined]


# ---- what is refused


def test_without_an_encoder_it_says_what_is_missing(world: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="--encoder FOLDER"):
        ProjectionTuning(Foundation(world / "1.x"), ask(world, tmp_path, encoder=None))


@pytest.mark.parametrize("left", ["model.safetensors", "config.json", "tokenizer.json"])
def test_an_encoder_that_lacks_a_file_is_refused(tmp_path: Path, left: str) -> None:
    save_bert(tmp_path / "bert")
    (tmp_path / "bert" / left).unlink()
    with pytest.raises(InvalidInput, match="Remedy: name a folder of transformers"):
        load_text_encoder(tmp_path / "bert")


def test_a_tokenizer_of_another_encoder_is_refused(tmp_path: Path) -> None:
    from transformers import BertTokenizer

    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(40)))
    folder = save_bert(tmp_path / "bert")
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)
    with pytest.raises(InvalidInput, match="a tokenizer of 45 tokens, and vectors of 15"):
        load_text_encoder(folder)


def test_an_encoder_that_lacks_weights_is_refused_by_their_name(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = save_bert(tmp_path / "bert") / "model.safetensors"
    weights = load_file(path)
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(InvalidInput, match=r"lacks encoder\.layer\.1\.output\.dense\.weight"):
        load_text_encoder(tmp_path / "bert")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_damaged_projection_is_named(hidden: Path, tmp_path: Path, file: str) -> None:
    import shutil

    shutil.copytree(hidden, tmp_path / "version")
    (tmp_path / "version" / PROJECTION_FOLDER / file).write_bytes(b"{")
    with pytest.raises(InvalidInput, match=PROJECTION_FOLDER):
        load_generator(tmp_path / "version")


@needs_minilm
def test_a_real_sentence_encoder_is_read_with_its_weights() -> None:
    tokenizer, network = load_text_encoder(minilm())
    assert tokenizer.model_max_length == 77 and network.config.hidden_size == 384

    def read(text: str) -> torch.Tensor:
        tokens = tokenizer([text], padding="max_length", return_tensors="pt")
        with torch.no_grad():
            states = network(**tokens)[0]
        mask = tokens.attention_mask[..., None]
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1))[0]

    lung, same, cat = map(read, ("an x-ray of the lungs", "a radiograph of the chest", "a cat on a sofa"))
    assert lung @ same > 0.5 > lung @ cat


@needs_minilm
def test_a_projection_is_learned_from_a_real_sentence_encoder(world: Path, tmp_path: Path) -> None:
    version = learn(world, tmp_path, encoder=minilm())
    plain = StableDiffusionPipeline.from_pretrained(version)
    plain.set_progress_bar_config(disable=True)
    assert plain(PROMPT, num_inference_steps=2, output_type="np").images.shape == (1, 32, 32, 3)
    assert tuple(projection_of(version)["weight"].shape) == (OUT, 384)
