"""The autoencoder of a latent diffusion model: trained on random crops, then whitened, then used to encode a data set.

The checklist of an expert decides what it must keep: granules and chromatin are two or three pixels wide, and what the
autoencoder takes away no later training can bring back.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional as F

from training.data.augmentation import dihedral, to_unit, turned
from training.data.examples import Examples
from training.loop import checkpoint
from training.loop.ema import Ema
from training.loop.gradient_step import apply_gradients
from training.loop.learning_rates import cosine
from training.loop.session import TrainingSession
from training.loop.trainer import Trainer
from training.loop.training_loop import TrainingLoop
from training.objectives import reconstruction
from training.pretraining.adversary import Adversary
from training.pretraining.config import PretrainConfig
from training.pretraining.precision import autocast
from training.randomness import numbers, tensors
from vouch.models.networks.attributes import AttributeNet

GROUPS = 8
"""Groups of a group norm."""


def build_vae(config: PretrainConfig, size: int) -> AutoencoderKL:
    """An `AutoencoderKL` that reduces each side by 2^(levels-1); without attention, so that it works at any size."""
    levels = len(config.vae_channels)
    return AutoencoderKL(
        sample_size=size,
        latent_channels=config.latent_channels,
        block_out_channels=config.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        norm_num_groups=GROUPS,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def fit_vae(
    config: PretrainConfig, examples: Examples, session: TrainingSession
) -> tuple[AutoencoderKL, dict[str, float]]:
    """Trains the autoencoder, resuming from the session's folder; returns it with averaged, whitened weights."""
    trainer = AutoencoderTrainer(config, examples, session)
    result = TrainingLoop(
        trainer, session, "autoencoder", session.folder / "vae", config.vae_steps, config.vae_minutes,
        config.checkpoint_every, metrics_prefix="vae_",
    ).run()  # fmt: skip
    trainer.ema.swap()
    vae = trainer.vae.eval().requires_grad_(False)
    whiten(vae, examples)
    return vae, {
        "vae_steps": result.steps,
        "vae_seconds": result.seconds,
        "vae_train_error_255": result.metrics["error_255"],
    }


class AutoencoderTrainer(Trainer):
    """Autoencoder and discriminator, their optimisers and averages, and one step of both."""

    parts = ("vae", "optimizer", "adversary", "ema")

    def __init__(self, config: PretrainConfig, examples: Examples, session: TrainingSession) -> None:
        self.config, self.group, self.device = config, session.group, session.device
        self.images = examples.images
        self.vae = build_vae(config, examples.images.shape[-1]).to(
            self.device, memory_format=torch.channels_last
        )
        self.optimizer = torch.optim.AdamW(
            self.vae.parameters(), lr=config.vae_lr, betas=(0.9, 0.99), weight_decay=1e-4
        )
        self.adversary = Adversary(
            config.discriminator_lr, config.adversarial_weight, config.precision, self.device, self.group
        )
        self.ema = Ema([self.vae], config.vae_ema)
        self.parameters = [*self.vae.parameters(), *self.adversary.parameters]
        self.levels = feature_levels(config.vae_features, self.device)

    def rate(self, done: float, step: int) -> float:
        return cosine(done, step, self.config.vae_warmup)

    def step(self, step: int, done: float) -> dict[str, float]:
        """One update of the autoencoder and, from `adversarial_from` of the run on, one of the discriminator."""
        config, name = self.config, (self.group.rank_seed(self.config.seed), "vae", step)
        random_ = tensors(*name)
        count = self.group.batch_share(config.vae_batch)
        batch = random_crops(self.images, count, config.vae_crop, random_, config.symmetric).to(self.device)
        half_size = numbers(*name, "scale").random() < config.equivariance
        with autocast(config.precision, self.device):
            restored, wanted, kl = self._restore(batch, half_size, random_)
        restored = restored.float()
        adversarial = done >= config.adversarial_from and not half_size
        loss, gradient = self._reconstruction(restored, wanted, done)
        metrics = {"loss": float(loss.detach()), "kl": float(kl.detach())}
        if adversarial:
            gradient = gradient + self.adversary.gradient(
                restored, gradient, self.vae.decoder.conv_out.weight
            )
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward([restored, config.kl_weight * kl], [gradient, None])
        apply_gradients(self.optimizer, list(self.vae.parameters()), self.group)
        self.ema.update()
        if adversarial:
            metrics["discriminator_loss"] = self.adversary.update(wanted, restored.detach())
        return {**metrics, "error_255": float((restored.detach() - wanted).abs().mean()) * 127.5}

    def _restore(
        self, batch: torch.Tensor, half_size: bool, random_: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Decoded images, what they should be, and the KL divergence per latent value.

        Latents are turned, or halved in size, before they are decoded, and so are the images (EQ-VAE, arXiv
        2502.09509): latents that behave like small images are easier for the U-Net. A little noise upon them teaches
        the decoder to bear the U-Net's own small errors.
        """
        posterior = self.vae.encode(batch).latent_dist
        latents = posterior.mean + posterior.std * _noise(posterior.mean, random_)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        strength = self.config.latent_noise * torch.rand((len(batch), 1, 1, 1), generator=random_)
        scale = latents.detach().std(dim=(0, 2, 3), keepdim=True)
        latents = latents + strength.to(latents) * scale * _noise(latents, random_)
        if half_size:
            latents, batch = F.avg_pool2d(latents, 2), F.avg_pool2d(batch, 2)
        elif self.config.symmetric:
            turn = int(torch.randint(0, 8, (1,), generator=random_))
            latents, batch = turned(latents, turn), turned(batch, turn)
        latents = latents.contiguous(memory_format=torch.channels_last)
        return self.vae.decode(latents).sample, batch.contiguous(memory_format=torch.channels_last), kl

    def _reconstruction(
        self, restored: torch.Tensor, wanted: torch.Tensor, done: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss and its gradient with respect to `restored`. Features and frequencies join late: from the start
        they only slow the pixels down."""
        config = self.config
        free = restored.detach().requires_grad_(True)
        loss = reconstruction.pixel_loss(free, wanted)
        if done >= config.perceptual_from:
            loss = loss + config.frequency_weight * reconstruction.focal_frequency_loss(free, wanted)
            if self.levels:
                loss = loss + config.perceptual_weight * reconstruction.perceptual_loss(
                    self.levels, free, wanted
                )
        (gradient,) = torch.autograd.grad(loss, free)
        return loss, gradient


def random_crops(
    images: torch.Tensor, count: int, side: int, random_: torch.Generator, symmetric: bool
) -> torch.Tensor:
    """`count` crops of uint8 images [N, 3, H, W], turned where that means the same: float [count, 3, side, side] in
    [-1, 1]."""
    rows = torch.randint(0, len(images), (count,), generator=random_)
    side = min(side, images.shape[-1])
    corners = torch.randint(0, images.shape[-1] - side + 1, (count, 2), generator=random_).tolist()
    crops = torch.stack(
        [images[row, :, y : y + side, x : x + side] for row, (y, x) in zip(rows, corners, strict=True)]
    )
    crops = dihedral(crops, random_) if symmetric else crops
    return to_unit(crops).contiguous(memory_format=torch.channels_last)


def _noise(like: torch.Tensor, random_: torch.Generator) -> torch.Tensor:
    return torch.randn(like.shape, generator=random_).to(like)


def feature_levels(folder: Path | None, device: str) -> list[nn.Module]:
    """The levels of the perceptual network in `folder`, frozen; none where none is given."""
    if folder is None:
        return []
    net = AttributeNet.load(folder).eval().requires_grad_(False).to(device)
    return [net.backbone.stem, *net.backbone.blocks]


@torch.no_grad()
def whiten(vae: AutoencoderKL, examples: Examples, count: int = 2048) -> None:
    """Gives every latent channel mean 0 and standard deviation 1 over `examples`, inside the 1×1 convolutions around
    the latents: what is decoded stays the same, and `scaling_factor` is 1.

    One scale for channels whose deviations differ several times would give each its own signal-to-noise ratio.
    """
    device = vae.quant_conv.weight.device
    stride = max(1, len(examples) // count)
    parts = [
        vae.encode(to_unit(part).to(device)).latent_dist.mean for part in examples.images[::stride].split(64)
    ]
    latents = torch.cat(parts)
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    channels = len(mean)
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] /= std[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - mean) / std
    quant.bias[channels:] -= 2 * std.log()
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= std[None, :, None, None]
    vae.register_to_config(scaling_factor=1.0)


@torch.no_grad()
def encode_views(
    config: PretrainConfig,
    vae: AutoencoderKL,
    examples: Examples,
    session: TrainingSession,
    name: str = "latents",
) -> torch.Tensor:
    """Latents float16 [views, N, C, h, w] of turned copies of every image, kept as `name`. View 0 is not turned."""
    path = session.folder / name
    found = checkpoint.load_latest(path)
    if session.group.broadcast_scalar(found is not None):
        assert found is not None, f"{path} has to be the same folder for every worker"
        return found[1]["latents"]
    views = config.views if config.symmetric else 1
    total, parts = views * len(examples), []
    for view in range(views):
        for start in range(0, len(examples), 64):
            batch = turned(examples.images[start : start + 64], view)
            batch = to_unit(batch).to(session.device).contiguous(memory_format=torch.channels_last)
            with autocast(config.precision, session.device):  # errs by 0.004 of a latent's deviation
                latent = vae.encode(batch).latent_dist.mode()
            parts.append(latent.half().cpu().contiguous())
            session.report(view * len(examples) + start, total, "encoding")
    latents = torch.cat(parts).unflatten(0, (views, len(examples)))
    if session.group.is_rank_zero:
        checkpoint.save(path, 0, {"latents": latents})
    return latents
