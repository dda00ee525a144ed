"""Pre-training: a miniature Stable Diffusion from a labelled image set.

Two phases, each checkpointed: the autoencoder on random crops, then text encoder and U-Net together on its
latents. The result is a plain diffusers folder, with ``vocabulary.json`` beside it.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training import checkpoint
from training.data import Examples, dihedral, load_examples, random_caption, to_unit
from training.ema import Ema
from training.objectives import denoising
from training.placing import device_of, place
from training.pretraining.grids import contact_sheet
from training.pretraining.tokens import train_tokenizer
from training.randomness import numbers, tensors
from training.session import Session
from training.team import Team
from vouch.captions import caption
from vouch.pipelines import DEFAULTS_FILE
from vouch.recipes import Pretraining


class PretrainConfig(Pretraining):
    """One pre-training run."""

    out: Path
    """The diffusers folder to write."""


def fit(config: PretrainConfig, session: Session) -> dict[str, float]:
    """Runs both phases, resuming from the session's folder, and writes `config.out`.

    Returns the figures that the model card quotes.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    examples = load_examples(config.data, config.size, config.domain)
    vae, vae_figures = fit_vae(config, examples, session)
    latents = encode_views(config, vae, examples, session)
    generator, figures = fit_unet(config, examples, latents, vae, session)
    if not session.team.leads:
        return {}
    save(generator, examples, config)
    figures = {**vae_figures, **figures, "images": len(examples)}
    session.note("figures.json", figures)
    return figures


# --- the autoencoder ---------------------------------------------------------------------------------------


def build_vae(config: PretrainConfig, size: int) -> AutoencoderKL:
    """f = 2^(levels-1); no attention, so that it works at any size."""
    levels = len(config.vae_channels)
    return AutoencoderKL(
        sample_size=size,
        latent_channels=config.latent_channels,
        block_out_channels=config.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        norm_num_groups=16,
        mid_block_add_attention=False,
    )


def reconstruction_loss(restored: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of the pixels and, at two scales, of their gradients, which keep chromatin crisp."""
    loss = F.l1_loss(restored, images)
    for scale in (1, 2):
        a, b = (F.avg_pool2d(x, scale) if scale > 1 else x for x in (restored, images))
        loss = (
            loss
            + 0.5 * F.l1_loss(a.diff(dim=2), b.diff(dim=2))
            + 0.5 * F.l1_loss(a.diff(dim=3), b.diff(dim=3))
        )
    return loss


def fit_vae(
    config: PretrainConfig, examples: Examples, session: Session
) -> tuple[AutoencoderKL, dict[str, float]]:
    """The autoencoder, trained on random crops with a KL weight of 1e-6, as in Rombach et al. 2022."""
    vae = build_vae(config, examples.images.shape[-1]).to(memory_format=torch.channels_last)
    place((vae.encoder, vae.decoder, vae.quant_conv, vae.post_quant_conv), session.device)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=config.vae_lr, betas=(0.9, 0.99), weight_decay=1e-4)
    ema = Ema([vae], 0.995)
    folder, first, seconds, error = session.folder / "vae", 0, 0.0, 0.0
    if found := checkpoint.load_latest(folder):
        first, state = found
        vae.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        ema.load_state_dict(state["ema"])
        seconds, error = state["seconds"], state["error"]
    team = session.team
    team.align(vae.parameters())
    started = time.monotonic()
    for step in range(first + 1, config.vae_steps + 1):
        _set_lr(optimizer, config.vae_lr, step / config.vae_steps, step, 50, 0.5)
        random_ = tensors(team.seed(config.seed), "vae", step)
        batch = _random_crops(examples.images, team.share(config.vae_batch), config, random_)
        posterior = vae.encode(batch).latent_dist
        restored = vae.decode(posterior.sample(generator=random_)).sample
        loss = reconstruction_loss(restored, batch) + 1e-6 * posterior.kl().mean() / batch.shape[-1] ** 2
        _update(loss, optimizer, list(vae.parameters()), team)
        ema.update()
        error = float((restored.detach() - batch).abs().mean()) * 127.5
        session.report(
            step, config.vae_steps, "autoencoder", vae_error_255=error, vae_loss=float(loss.detach())
        )
        if team.leads and (step % config.checkpoint_every == 0 or step == config.vae_steps):
            state = {"model": vae.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.state_dict()}
            spent = seconds + time.monotonic() - started
            checkpoint.save(folder, step, {**state, "seconds": spent, "error": error})
    ema.swap()
    return vae.eval().requires_grad_(False), {
        "vae_seconds": seconds + time.monotonic() - started,
        "vae_train_error_255": error,
    }


def _random_crops(
    images: torch.Tensor, count: int, config: PretrainConfig, random_: torch.Generator
) -> torch.Tensor:
    rows = torch.randint(0, len(images), (count,), generator=random_)
    limit = images.shape[-1] - config.vae_crop
    y, x = (
        (int(torch.randint(0, limit + 1, (1,), generator=random_)) for _ in range(2)) if limit > 0 else (0, 0)
    )
    crops = images[rows, :, y : y + config.vae_crop, x : x + config.vae_crop]
    crops = dihedral(crops, random_) if config.symmetric else crops
    return to_unit(crops).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def encode_views(
    config: PretrainConfig, vae: AutoencoderKL, examples: Examples, session: Session
) -> torch.Tensor:
    """Latents [views, N, C, h, w] of turned copies, scaled to unit variance; sets the VAE's scaling factor."""
    path = session.folder / "latents"
    found = checkpoint.load_latest(path)
    if session.team.agree(found is not None):
        assert found is not None, f"{path} has to be the same folder for every worker"
        vae.register_to_config(scaling_factor=found[1]["scaling_factor"])
        return found[1]["latents"]
    views, total = [], config.views * len(examples)
    for view in range(config.views):
        random_ = tensors(config.seed, "view", view)
        rows = []
        for start in range(0, len(examples), 64):
            part = examples.images[start : start + 64]
            part = dihedral(part, random_) if config.symmetric and view else part
            batch = to_unit(part).contiguous(memory_format=torch.channels_last)
            rows.append(vae.encode(batch).latent_dist.mode().contiguous())
            session.report(view * len(examples) + start, total, "encoding")
        views.append(torch.cat(rows))
    latents = torch.stack(views)
    scaling_factor = 1.0 / float(latents.std())
    vae.register_to_config(scaling_factor=scaling_factor)
    latents.mul_(scaling_factor)
    if session.team.leads:
        checkpoint.save(path, 0, {"latents": latents, "scaling_factor": scaling_factor})
    return latents


# --- text encoder and U-Net --------------------------------------------------------------------------------


class Generator:
    """The parts of a miniature Stable Diffusion while they are trained."""

    def __init__(
        self, config: PretrainConfig, examples: Examples, vae: AutoencoderKL, latent_size: int
    ) -> None:
        self.vae = vae
        self.tokenizer: CLIPTokenizer = train_tokenizer(examples.vocabulary)
        self.text_encoder = build_text_encoder(config, self.tokenizer)
        self.unet = build_unet(config, latent_size).to(memory_format=torch.channels_last)
        # Cosine betas rescaled to zero terminal SNR (Lin et al. 2023, arXiv 2305.08891): sampling starts from the
        # pure noise that training has seen, so backgrounds keep their true brightness.
        self.scheduler = DDIMScheduler(
            beta_schedule="squaredcos_cap_v2",
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            clip_sample=False,
            set_alpha_to_one=True,
            steps_offset=1,
        )

    @property
    def trained(self) -> list[nn.Module]:
        return [self.unet, self.text_encoder]

    def embed(self, captions: list[str]) -> torch.Tensor:
        """[N, tokens, width]."""
        tokens = self.tokenizer(
            captions,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        return self.text_encoder(tokens.input_ids)[0]

    def pipeline(self) -> StableDiffusionPipeline:
        pipe = StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe


def build_text_encoder(config: PretrainConfig, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text encoder with random weights, trained with the U-Net."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.text_width,
            intermediate_size=4 * config.text_width,
            num_hidden_layers=config.text_layers,
            num_attention_heads=max(1, config.text_width // 16),
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_unet(config: PretrainConfig, latent_size: int) -> UNet2DConditionModel:
    """Attention below the first level only: at full size it costs most and says least about a single cell."""
    levels = len(config.channels)
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        block_out_channels=config.channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * (levels - 1),
        up_block_types=("CrossAttnUpBlock2D",) * (levels - 1) + ("UpBlock2D",),
        cross_attention_dim=config.text_width,
        attention_head_dim=tuple(max(1, c // 32) for c in config.channels),
        norm_num_groups=16,
    )


def fit_unet(
    config: PretrainConfig, examples: Examples, latents: torch.Tensor, vae: AutoencoderKL, session: Session
) -> tuple[Generator, dict[str, float]]:
    """Text encoder and U-Net by v-prediction with min-SNR weights; returns them with averaged weights."""
    model = Generator(config, examples, vae, latents.shape[-1])
    place(model.trained, session.device)
    parameters = [p for m in model.trained for p in m.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, betas=(0.9, 0.99), weight_decay=1e-2)
    ema = Ema(model.trained, config.ema)
    step, seconds, said = _resume(model, optimizer, ema, session.folder / "unet")
    team = session.team
    team.align(parameters)
    started = time.monotonic()

    def spent() -> float:
        return seconds + time.monotonic() - started

    def done() -> float:
        by_time = spent() / (60 * config.minutes) if config.minutes else 0.0
        return max(step / config.steps, by_time)

    while team.agree(done()) < 1.0:
        step += 1
        # Clocks differ: by rates of their own the workers' weights would drift apart.
        _set_lr(optimizer, config.lr, team.agree(done()), step, config.warmup, config.cooldown)
        loss = _unet_loss(model, config, examples, latents, step, team)
        _update(loss, optimizer, parameters, team)
        ema.update()
        said = float(loss.detach())
        session.report(step, config.steps, "U-Net", loss=said, lr=optimizer.param_groups[0]["lr"])
        if team.leads and step % config.checkpoint_every == 0:
            _checkpoint(model, optimizer, ema, session.folder / "unet", step, spent(), said)
        if team.leads and step % config.grid_every == 0:
            _draw_grid(model, examples, ema, session, step)
    if team.leads:
        _checkpoint(model, optimizer, ema, session.folder / "unet", step, spent(), said)
    ema.swap()
    return model, {"unet_steps": step, "unet_seconds": spent(), "unet_loss": said}


def _unet_loss(
    model: Generator,
    config: PretrainConfig,
    examples: Examples,
    latents: torch.Tensor,
    step: int,
    team: Team,
) -> torch.Tensor:
    count, name = team.share(config.batch), (team.seed(config.seed), "unet", step)
    rng, random_ = numbers(*name), tensors(*name)
    rows = torch.randint(0, len(examples), (count,), generator=random_)
    views = torch.randint(0, len(latents), (count,), generator=random_)
    clean = latents[views, rows]
    noise = torch.randn(clean.shape, generator=random_)
    timesteps = torch.randint(0, model.scheduler.config.num_train_timesteps, (count,), generator=random_)
    captions = [_caption(examples, int(row), config.drop_caption, rng) for row in rows]
    noisy = model.scheduler.add_noise(clean, noise, timesteps).contiguous(memory_format=torch.channels_last)
    output = model.unet(noisy, timesteps, model.embed(captions)).sample
    alphas = model.scheduler.alphas_cumprod
    wanted = denoising.target("v_prediction", clean, noise, alphas, timesteps)
    # v's own weighting (γ+1 at most) instead of a weight that vanishes at zero SNR, where the layout is decided.
    snr = denoising.signal_to_noise(alphas, timesteps)
    weight = torch.where(
        snr > config.snr_gamma, denoising.min_snr_weight(snr, "v_prediction", config.snr_gamma), 1.0
    )
    return (weight * denoising.per_sample_error(output, wanted)).mean()


def _caption(examples: Examples, row: int, drop: float, rng: random.Random) -> str:
    return "" if rng.random() < drop else random_caption(examples.labels[row], examples.attributes[row], rng)


def _set_lr(
    optimizer: torch.optim.Optimizer, peak: float, done: float, step: int, warmup: int, cooldown: float
) -> None:
    """Warm-up, plateau, linear cool-down over the last `cooldown` share."""
    falling = min(1.0, max(0.0, (1.0 - done) / cooldown)) if cooldown else 1.0
    for group in optimizer.param_groups:
        group["lr"] = peak * min(1.0, step / warmup) * max(falling, 0.01)


def _update(
    loss: torch.Tensor, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], team: Team
) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    team.average(parameters)
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


def _checkpoint(
    model: Generator, optimizer, ema: Ema, folder: Path, step: int, seconds: float, loss: float
) -> None:
    state = {
        "unet": model.unet.state_dict(),
        "text_encoder": model.text_encoder.state_dict(),
        "optimizer": optimizer.state_dict(),
        "ema": ema.state_dict(),
        "seconds": seconds,
        "loss": loss,
    }
    checkpoint.save(folder, step, state)


def _resume(model: Generator, optimizer, ema: Ema, folder: Path) -> tuple[int, float, float]:
    """Steps and seconds so far, and the last loss."""
    found = checkpoint.load_latest(folder)
    if found is None:
        return 0, 0.0, 0.0
    step, state = found
    model.unet.load_state_dict(state["unet"])
    model.text_encoder.load_state_dict(state["text_encoder"])
    optimizer.load_state_dict(state["optimizer"])
    ema.load_state_dict(state["ema"])
    return step, state["seconds"], state["loss"]


def _draw_grid(model: Generator, examples: Examples, ema: Ema, session: Session, step: int) -> None:
    ema.swap()
    home = {network: device_of(network) for network in (*model.trained, model.vae)}
    for network in home:
        network.cpu()  # the pipeline's own loop expects all of it in one place
    labels = list(examples.vocabulary.labels)
    pipe = model.pipeline()
    prompts = [caption(label) for label in labels for _ in range(4)]
    seeds = [torch.Generator().manual_seed(i) for i in range(len(prompts))]
    images = pipe(
        prompts, num_inference_steps=20, guidance_scale=2.0, generator=seeds, output_type="np"
    ).images
    path = session.folder / f"grid-{step:06d}.png"
    contact_sheet((images * 255).round().astype("uint8"), columns=4 * 2, path=path)
    session.tracker.image(path, step)
    for network, device in home.items():
        network.to(device)
    ema.swap()


def save(model: Generator, examples: Examples, config: PretrainConfig) -> None:
    """The diffusers folder, VAE and U-Net in half precision, with the vocabulary beside it.

    The text encoder stays in single precision: transformers would load it as stored where diffusers loads the
    others as float32, and a plain ``from_pretrained(folder)`` would then mix the two.
    """
    model.vae.to("cpu", torch.float16)
    model.unet.to("cpu", torch.float16)
    model.text_encoder.cpu()
    model.pipeline().save_pretrained(config.out, safe_serialization=True)
    examples.vocabulary.save(config.out)
    defaults = {"steps": config.default_steps, "guidance": config.default_guidance}
    (config.out / DEFAULTS_FILE).write_text(json.dumps(defaults))
