"""The autoencoder phase: what whitening keeps, what a discriminator sees, what is encoded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from training.data.augmentation import to_unit, turned
from training.data.examples import Examples
from training.loop.session import TrainingSession
from training.loop.worker_group import WorkerGroup
from training.pretraining.adversary import Adversary
from training.pretraining.autoencoder_trainer import AutoencoderTrainer, random_crops
from training.pretraining.config import PretrainConfig
from training.pretraining.discriminator import (
    Discriminator,
    FeatureDiscriminator,
    Observed,
    PatchDiscriminator,
)
from training.pretraining.latents import encode_views
from training.pretraining.networks import GROUPS, build_vae
from training.pretraining.perceptual import feature_maps
from training.pretraining.whitening import whiten
from vouch.errors import InvalidInput


@pytest.fixture
def config(tmp_path: Path) -> PretrainConfig:
    return PretrainConfig(
        data=tmp_path, out=tmp_path, precision="float32", vae_channels=(16, 16), latent_channels=3, vae_batch=4,
        vae_crop=16, views=8,
    )  # fmt: skip


@pytest.fixture
def examples() -> Examples:
    """Smooth colours with fine stripes."""
    torch.manual_seed(0)
    images = torch.rand(12, 3, 1, 1) * 120 + 60 + 40 * (torch.arange(32) % 2).view(1, 1, 1, 32)
    images = (images + 10 * torch.rand(12, 3, 32, 32)).to(torch.uint8)
    return Examples(images, ("cell",) * 12, ({},) * 12, ({},) * 12, "")


def test_whitening_changes_the_latents_and_no_decoded_pixel(
    config: PretrainConfig, examples: Examples
) -> None:
    torch.manual_seed(1)
    vae = build_vae(config, 32).eval()
    images = to_unit(examples.images)
    with torch.no_grad():
        vae.quant_conv.weight[0] *= 7.0  # a channel that is far wider than the others
        posterior = vae.encode(images).latent_dist
        before, spread_before = (
            vae.decode(posterior.mode()).sample,
            posterior.std / posterior.mean.std((0, 2, 3))[:, None, None],
        )
        whiten(vae, examples)
        posterior = vae.encode(images).latent_dist
        latents, after = posterior.mode(), vae.decode(posterior.mode()).sample
    assert torch.allclose(latents.mean((0, 2, 3)), torch.zeros(3), atol=1e-3)
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(3), atol=1e-3)
    assert torch.allclose(before, after, atol=1e-4)
    assert torch.allclose(posterior.std, spread_before, rtol=1e-2), "the posterior is scaled like its mean"
    assert vae.config.scaling_factor == 1.0


def test_every_view_is_encoded_in_its_own_orientation(
    config: PretrainConfig, examples: Examples, tmp_path: Path
) -> None:
    vae = build_vae(config, 32).eval()
    latents = encode_views(config, vae, examples, TrainingSession(tmp_path / "run"))
    assert latents.shape == (8, 12, 3, 16, 16) and latents.dtype == torch.float16
    with torch.no_grad():
        turned_before = vae.encode(to_unit(turned(examples.images, 5))).latent_dist.mode()
    assert torch.allclose(latents[5].float(), turned_before, atol=2e-3)


def test_a_domain_with_left_and_right_is_encoded_as_it_is(
    config: PretrainConfig, examples: Examples, tmp_path: Path
) -> None:
    straight = config.model_copy(update={"symmetric": False})
    assert (
        len(encode_views(straight, build_vae(config, 32), examples, TrainingSession(tmp_path / "run"))) == 1
    )
    crops = random_crops(examples.images, 32, 16, torch.Generator().manual_seed(0), symmetric=False)
    assert crops.diff(dim=3).abs().mean() > 3 * crops.diff(dim=2).abs().mean(), "the stripes stay upright"


def adversary_of(discriminator: Discriminator, lr: float) -> Adversary:
    return Adversary(
        discriminator, lr=lr, weight=0.5, precision="float32", device="cpu", group=WorkerGroup.here()
    )


def test_heads_on_features_learn_what_a_smoothed_image_lacks(examples: Examples) -> None:
    torch.manual_seed(0)
    real = to_unit(examples.images[:8])
    levels = [
        torch.nn.Conv2d(3, 8, 3, 2, 1).requires_grad_(False),
        torch.nn.Conv2d(8, 8, 3, 2, 1).requires_grad_(False),
    ]
    smooth = torch.nn.functional.avg_pool2d(real, 3, 1, 1)
    real, smooth = (Observed(one, feature_maps(levels, one)) for one in (real, smooth))
    discriminator = Discriminator(FeatureDiscriminator(real.maps))
    assert [tuple(one.shape[2:]) for one in discriminator(real)] == [(8, 8), (16, 16), (8, 8)]
    adversary = adversary_of(discriminator, lr=4e-3)
    for _ in range(30):
        adversary.update(real, smooth)
    for one, other in zip(discriminator(real)[1:], discriminator(smooth)[1:], strict=True):
        assert one.mean() > other.mean()


def test_the_discriminator_learns_to_tell_a_smoothed_image_from_a_striped_one(examples: Examples) -> None:
    torch.manual_seed(0)
    adversary = adversary_of(Discriminator(), lr=4e-3)
    real = to_unit(examples.images[:4])
    smooth = torch.nn.functional.avg_pool2d(real, 3, 1, 1)
    losses = [adversary.update(Observed(real), Observed(smooth)) for _ in range(20)]
    assert losses[-1] < 0.7 * losses[0]


def test_the_adversarial_loss_joins_when_its_time_has_come(
    config: PretrainConfig, examples: Examples, tmp_path: Path
) -> None:
    always = config.model_copy(update={"equivariance": 0.0})
    trainer = AutoencoderTrainer(always, examples, TrainingSession(tmp_path / "run"))
    assert "discriminator_loss" not in trainer.step(1, 0.1)
    assert "discriminator_loss" in trainer.step(2, 0.9)


def test_latents_at_half_the_size_decode_to_the_image_at_half_the_size(
    config: PretrainConfig, examples: Examples, tmp_path: Path
) -> None:
    trainer = AutoencoderTrainer(config, examples, TrainingSession(tmp_path / "run"))
    batch = random_crops(examples.images, 4, 16, torch.Generator().manual_seed(0), symmetric=True)
    restored, wanted, _ = trainer._restore(batch, True, torch.Generator().manual_seed(0))
    assert restored.shape == wanted.shape == (4, 3, 8, 8)
    assert torch.allclose(wanted, torch.nn.functional.avg_pool2d(batch, 2))


def test_a_score_of_the_discriminator_sees_24_pixels_and_the_means_around_them() -> None:
    images = torch.zeros(1, 3, 64, 64, requires_grad=True)
    PatchDiscriminator()(images)[0, 0, 8, 8].backward()
    seen = images.grad.abs().sum((0, 1)) > 0  # type: ignore[union-attr]
    assert int(seen.any(0).sum()) == int(seen.any(1).sum()) == 24 + 8


def test_the_discriminator_learns_a_grain_of_two_grey_levels() -> None:
    torch.manual_seed(0)
    adversary = adversary_of(Discriminator(), lr=1.6e-3)
    losses = []
    for _ in range(40):
        plain = 0.5 * torch.rand(8, 3, 1, 1).expand(8, 3, 16, 16)
        grainy = plain + 2 / 127.5 * torch.randn(plain.shape)
        losses.append(adversary.update(Observed(grainy), Observed(plain)))
    assert losses[-1] < 0.8 * losses[0]


def test_the_groups_of_a_norm_divide_every_width() -> None:
    default = PretrainConfig(data=Path("x"), out=Path("y"))
    assert all(width % GROUPS == 0 for width in default.vae_channels)


def test_a_wider_autoencoder_begins_with_what_the_narrow_one_restores(
    config: PretrainConfig, examples: Examples, tmp_path: Path
) -> None:
    narrow = build_vae(config, 32).eval()
    narrow.save_pretrained(tmp_path / "vae")
    more = {"vae_start": tmp_path / "vae", "latent_channels": config.latent_channels + 2}
    wide = build_vae(config.model_copy(update=more), 32).eval()
    images = to_unit(examples.images[:2])
    before, after = (vae.encode(images).latent_dist for vae in (narrow, wide))
    known = config.latent_channels
    assert torch.allclose(after.mean[:, :known], before.mean, atol=1e-5)
    assert torch.allclose(after.logvar[:, :known], before.logvar, atol=1e-5)
    assert torch.allclose(wide.decode(after.mean).sample, narrow.decode(before.mean).sample, atol=1e-5)
    wide.decode(wide.encode(images).latent_dist.mean).sample.square().mean().backward()
    reads_new = wide.decoder.conv_in.weight.grad[:, known:]  # type: ignore[union-attr, index]
    assert reads_new.abs().sum() > 0, "the new channels can be learned"


def test_a_start_of_another_architecture_is_refused_by_the_layer_that_differs(
    config: PretrainConfig, tmp_path: Path
) -> None:
    build_vae(config, 32).save_pretrained(tmp_path / "vae")
    fewer = {"vae_start": tmp_path / "vae", "latent_channels": config.latent_channels - 1}
    with pytest.raises(InvalidInput, match="Only the number of latent channels may differ, and only grow"):
        build_vae(config.model_copy(update=fewer), 32)
