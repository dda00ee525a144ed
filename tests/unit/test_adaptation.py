"""A foundation model learns from captioned images: steps, options, validation, resume, and what is written."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from safetensors.torch import load_file

from tests.foundations import SIZE, save_chests, save_foundation
from training.adaptation.config import AdaptConfig
from training.adaptation.data import load_set
from training.adaptation.embeddings import EmbeddingCache
from training.adaptation.fit import fit, looked_through
from training.adaptation.forecast import check_memory, forecast, kept_bytes
from training.adaptation.foundation import Foundation
from training.adaptation.images import ReadOptions
from training.adaptation.latents import CachedLatents, variant
from training.adaptation.lessons import checked
from training.adaptation.recipes import TUNINGS
from training.adaptation.unet import UNetTuning
from training.evaluation.codec import load_autoencoder, through
from training.loop.session import TrainingSession
from training.loop.worker_group import WorkerGroup
from vouch.domains.criteria import load_domain
from vouch.errors import Exhausted, FailedPrecondition
from vouch.models.pipelines import LORA_FILE, load_generator
from vouch.recipes import nested


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Foundation models of two forms, and images."""
    root = tmp_path_factory.mktemp("adaptation")
    save_foundation(root / "1.x")
    save_foundation(root / "2.x", "2.x")
    save_foundation(root / "half", variant="fp16")
    save_chests(root / "chests")
    return root


def ask(world: Path, folder: Path, base: str = "1.x", **settings: object) -> AdaptConfig:
    values: dict[str, object] = {
        "data": world / "chests", "steps": 4, "batch": 4, "threads": 1, "rank": 2, "lr": 1e-2, "warmup": 1,
        "validate_every": 2, "precision": "float32", "domain": load_domain("chest_xray"), "cooldown": 0.0,
        "keep_vae": True,
    }  # fmt: skip
    return AdaptConfig(**{**values, "base": world / base, "out": folder / "version", **settings})  # type: ignore[arg-type]


def drawn(folder: Path, base: Path | None = None) -> np.ndarray:
    return load_generator(folder, base).generate(["a bright chest, and any words"], [0], 2, 2.0)


@pytest.mark.parametrize("base", ["1.x", "2.x", "half"])
@pytest.mark.parametrize("rank", [0, 2])
def test_an_adapted_model_draws_another_image_of_any_words(
    world: Path, tmp_path: Path, base: str, rank: int
) -> None:
    figures = fit(ask(world, tmp_path, base, rank=rank), TrainingSession(tmp_path / "run"))
    before, after = drawn(world / base), drawn(tmp_path / "version", world / base if rank else None)
    assert after.shape == (1, SIZE, SIZE, 3)
    assert not np.array_equal(before, after)
    assert (tmp_path / "version" / "pytorch_lora_weights.safetensors").is_file() == bool(rank)
    assert figures["validation_loss"] <= figures["validation_loss_before"]


def test_a_run_that_is_cut_resumes_to_the_same_weights(world: Path, tmp_path: Path) -> None:
    whole = ask(world, tmp_path / "whole", steps=4, checkpoint_every=2)
    fit(whole, TrainingSession(tmp_path / "whole"))
    for steps in (2, 4):
        cut = ask(world, tmp_path / "cut", steps=steps, checkpoint_every=2)
        fit(cut, TrainingSession(tmp_path / "cut"))
    files = [load_file(config.out / LORA_FILE) for config in (whole, cut)]
    assert files[0].keys() == files[1].keys()
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0])


def test_another_seed_validates_on_the_same_images(world: Path, tmp_path: Path) -> None:
    splits = [
        checked(ask(world, tmp_path, seed=seed), SIZE, TrainingSession(tmp_path / str(seed))).splits
        for seed in (0, 1)
    ]
    assert splits[0] == splits[1] and splits[0].count("val") == 4


def test_few_validating_images_do_not_judge_the_autoencoder_alone(world: Path) -> None:
    data = load_set(world / "chests", SIZE, ReadOptions(load_domain("chest_xray")))
    unet = ask(world, world)
    vae = unet.model_copy(update={"recipe": "vae"})
    assert len(looked_through(data, unet)) == 40
    assert torch.equal(looked_through(data, vae), data.of("val").images)
    many = replace(data, splits=("val",) * 32 + ("train",) * 8)
    assert torch.equal(looked_through(many, unet), many.images[:32])
    assert len(looked_through(data.of("train"), vae)) == len(data.of("train"))


def test_embeddings_beyond_the_limit_are_forgotten_the_oldest_first() -> None:
    asked: list[list[str]] = []

    def encode(captions: list[str]) -> torch.Tensor:
        asked.append(captions)
        return torch.stack([torch.full((2, 3), float(len(caption))) for caption in captions])

    cache = EmbeddingCache(encode, most_bytes=2 * 2 * 3 * 4)
    assert cache.embed(["a", "bb", "a"])[:, 0, 0].tolist() == [1, 2, 1]
    cache.embed(["bb"])
    cache.embed(["a"])
    cache.embed(["ccc"])  # in the place of bb
    cache.embed(["a"])
    assert cache.embed(["bb", "ccc", "a"])[:, 1, 2].tolist() == [2, 3, 1]  # more at once than are kept
    assert asked == [["a", "bb"], ["ccc"], ["bb"]]


def test_an_autoencoder_that_does_not_know_the_images_is_tuned_first(world: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FailedPrecondition, match="autoencoder does not know these images: .* dB .*--recipe vae"
    ):
        fit(ask(world, tmp_path / "refused", keep_vae=False), TrainingSession(tmp_path / "refused"))
    for part in ("decoder", "all"):
        config = AdaptConfig(
            base=world / "1.x", data=world / "chests", out=tmp_path / part / "version", recipe="vae", lr=3e-3, steps=30,
            batch=4, threads=1, warmup=1, cooldown=0.0, precision="float32", domain=load_domain("chest_xray"), ema=0.5,
            validate_every=2,
            **nested({"vae.part": part}),
        )  # fmt: skip
        figures = fit(config, TrainingSession(tmp_path / part / "run"))
        assert figures["vae_psnr"] > figures["vae_psnr_before"] + 1
        assert drawn(config.out).shape == (1, SIZE, SIZE, 3)
        before, after = (
            load_generator(folder).pipe.vae.encoder.conv_in.weight for folder in (world / "1.x", config.out)
        )
        assert torch.allclose(before, after, atol=1e-3) == (part == "decoder")


def test_a_tuned_autoencoder_restores_what_the_base_drew_better_where_that_is_kept(
    world: Path, tmp_path: Path
) -> None:
    errors = {}
    for weight in (0.0, 10.0):
        folder = tmp_path / str(weight)
        prompts = {"prior.images": 8, "prior.prompts": ("bright", "dark"), "prior.share": 0.9}
        config = AdaptConfig(
            base=world / "1.x", data=world / "chests", out=folder / "version", recipe="vae", lr=3e-3, steps=40,
            batch=4, threads=1, warmup=1, cooldown=0.0, precision="float32", domain=load_domain("chest_xray"),
            **nested({"prior.weight": weight, **(prompts if weight else {})}),
        )  # fmt: skip
        fit(config, TrainingSession(folder / "run"))
        base = load_generator(world / "1.x")
        images = base.generate(["bright", "dark"] * 4, range(500, 508), 4, 1.0)
        restored = through(load_autoencoder(config.out), images)
        errors[weight] = np.abs(restored.astype(float) - images).mean()
    assert errors[10.0] < errors[0.0] - 0.1, errors


def test_images_and_captions_stay_together_however_they_are_cached_and_shuffled(
    world: Path, tmp_path: Path
) -> None:
    base, session = Foundation(world / "1.x"), TrainingSession(tmp_path)
    data = load_set(world / "chests", SIZE, ReadOptions(load_domain("chest_xray")))
    own = replace(data, captions=tuple((f"image {digest}",) for digest in data.digests))
    order = list(range(len(own)))
    random.Random(1).shuffle(order)
    cached = [
        (some, CachedLatents(base, some.images, True, 8, tmp_path / "latents", session))
        for some in (own, own.subset(order))
    ]
    assert len(list((tmp_path / "latents").glob("*.npy"))) == 1
    for some, latents in cached:
        for row in range(len(some)):
            (caption,), number = some.captions[row], row % 8
            original = own.images[own.captions.index((caption,))]
            mean, _ = base.posterior(variant(original, number, True)[None])
            stored = torch.from_numpy(latents.stored(row, number)[0].astype("float32"))
            assert torch.allclose(stored, mean[0], atol=2e-3)


def test_cached_and_fresh_latents_teach_the_same(world: Path, tmp_path: Path) -> None:
    losses = []
    for cached in (True, False):
        config = ask(world, tmp_path / str(cached), cache_latents=cached, crops=2)
        losses.append(fit(config, TrainingSession(tmp_path / str(cached) / "run"))["validation_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_parts_of_a_batch_and_checkpointing_save_memory_and_change_nothing_else(
    world: Path, tmp_path: Path
) -> None:
    learned, calls = {}, {}
    for name, own in {
        "plain": {},
        "parts": {"accumulate": 2},
        "checkpointing": {"checkpointing": True},
    }.items():
        config = ask(world, tmp_path / name, **own)
        calls[name] = counted_passes(config, tmp_path / name)
        learned[name] = load_file(config.out / LORA_FILE)
    for name in ("parts", "checkpointing"):
        assert all(torch.allclose(learned["plain"][k], learned[name][k], atol=2e-3) for k in learned["plain"])
        assert calls[name] > calls["plain"]


def counted_passes(config: AdaptConfig, folder: Path) -> int:
    """How often residual blocks were computed, again in the backward pass where they are checkpointed."""
    count = 0
    block = ResnetBlock2D.forward

    def resnet(self: ResnetBlock2D, *inputs: object, **named: object) -> object:
        nonlocal count
        count += 1
        return block(self, *inputs, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResnetBlock2D, "forward", resnet)
        fit(config, TrainingSession(folder / "run"))
    return count


def test_training_ends_when_validation_brings_nothing_and_keeps_the_best(world: Path, tmp_path: Path) -> None:
    config = ask(world, tmp_path, lr=5.0, steps=40, validate_every=1, patience=3, ema=0.0)
    figures = fit(config, TrainingSession(tmp_path / "run"))
    assert figures["steps"] < 40
    assert figures["best_step"] + 3 == figures["steps"]
    assert figures["validation_loss"] <= figures["validation_loss_before"]


def test_what_does_not_fit_is_refused_with_what_would(world: Path, tmp_path: Path) -> None:
    config = ask(world, tmp_path, batch=64)
    base = Foundation(world / "1.x")
    weights = sum(weight.numel() for weight in UNetTuning(base, config).weights)
    bytes_of = {
        parts: forecast(base, weights, config.model_copy(update={"accumulate": parts})).total
        for parts in (1, 2, 4)
    }
    assert bytes_of[1] > bytes_of[2] > bytes_of[4]
    limit = (bytes_of[2] + bytes_of[4]) / 2 / 1e9
    with pytest.raises(Exhausted, match=r"would take .* GB .* It would fit with --accumulate 4 "):
        fit(config.model_copy(update={"memory_gb": limit}), TrainingSession(tmp_path / "run"))
    with pytest.raises(Exhausted, match="Nothing that is trained upon this base fits"):
        fit(ask(world, tmp_path, memory_gb=1e-6), TrainingSession(tmp_path / "run"))
    assert not (tmp_path / "version").exists()


def test_a_worker_is_forecast_its_own_share_of_the_batch(world: Path, tmp_path: Path) -> None:
    config, base = ask(world, tmp_path, batch=64), Foundation(world / "1.x")
    weights = sum(weight.numel() for weight in UNetTuning(base, config).weights)
    shared = forecast(base, weights, config, WorkerGroup(1, 4))
    assert shared == forecast(base, weights, config.model_copy(update={"batch": 16}))
    with pytest.raises(Exhausted, match="It would fit with --accumulate 2 "):
        check_memory(
            base,
            weights,
            config.model_copy(update={"memory_gb": (shared.total - 1) / 1e9}),
            WorkerGroup(1, 4),
        )


def _embedded(embedded: torch.Tensor, captions: list[str]) -> torch.Tensor:
    """In place of a text encoder."""
    return embedded.expand(len(captions), -1, -1)


def test_a_gpu_is_not_forecast_the_weights_that_lie_on_the_cpu(world: Path, tmp_path: Path) -> None:
    config, base = ask(world, tmp_path), Foundation(world / "1.x")
    weights = sum(weight.numel() for weight in UNetTuning(base, config).weights)
    here = forecast(base, weights, config)
    base.encode = partial(_embedded, base.encode([""]))  # type: ignore[method-assign]
    base.device = "cuda"
    there = forecast(base, weights, config)
    assert here.learning - there.learning == 2 * 4 * weights and there.saving == 4 * weights


def test_gradients_of_the_parts_before_are_forecast_beside_those_of_the_next(
    world: Path, tmp_path: Path
) -> None:
    base = Foundation(world / "1.x")
    whole, parts = (ask(world, tmp_path, rank=0, batch=4 * n, accumulate=n) for n in (1, 4))
    weights = sum(weight.numel() for weight in UNetTuning(base, whole).weights)
    assert forecast(base, weights, parts).kept - forecast(base, weights, whole).kept == 4 * weights


def test_a_text_encoder_that_passes_gradients_is_forecast_with_what_it_keeps(
    world: Path, tmp_path: Path
) -> None:
    kept = {}
    for recipe in ("unet", "unet-text", "text-inversion"):
        base = Foundation(world / "1.x")
        config = ask(world, tmp_path).model_copy(update={"recipe": recipe, "batch": 1})
        weights = sum(weight.numel() for weight in TUNINGS[recipe](base, config).weights)
        own = forecast(base, weights, config)
        embedded = base.encode([""]).detach()
        base.encode = partial(_embedded, embedded)  # type: ignore[method-assign]
        kept[recipe] = own.kept - forecast(base, weights, config).kept
    states = 4 * 16 * 16  # bytes of one layer's hidden states
    assert kept["unet"] == 0 and min(kept["unet-text"], kept["text-inversion"]) > states


def test_what_the_backward_pass_keeps_is_counted_exactly() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Sigmoid(), torch.nn.Linear(16, 4))
    assert kept_bytes(network, (torch.empty((10, 8), device="meta"),)) == 4 * 10 * (8 + 16)
