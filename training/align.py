"""Alignment: a LoRA that draws what the reward model finds plausible, without forgetting what its parent knew.

Two methods share one loop: reward-weighted likelihood on rated samples (paper 1), and the reward's gradient through
the predicted clean image. The rated images, noised again, are where both learn, so no sampling is needed.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from training import checkpoint
from training.attributes import half_of
from training.data import Examples, dihedral, load_examples, random_caption
from training.inputs import Rated, load_rated
from training.objectives import denoising
from training.objectives.reward_gradient import ddim_step, reward_gradient_loss
from training.objectives.reward_weighted import reward_weighted_loss
from training.randomness import numbers, tensors
from training.session import Session
from vouch.errors import FailedPrecondition, InvalidInput
from vouch.networks.backbone import to_input
from vouch.networks.reward import RewardEnsemble
from vouch.pipelines import LORA_FILE, load_pipeline
from vouch.recipes import Alignment

ADAPTER = "vouch"
TARGETS = [
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "proj_in",
    "proj_out",
    "ff.net.0.proj",
    "ff.net.2",
    "conv1",
    "conv2",
]


class AlignConfig(Alignment):
    """One alignment."""

    out: Path
    base: Path
    """The diffusers folder that the LoRA belongs to."""
    parent: Path | None = None
    """A LoRA folder upon `base` to go on from."""
    reward: Path


@dataclass(frozen=True)
class Pool:
    """Latents [N, C, h, w] of images with their prompts and rewards [N]; real images count 1."""

    latents: torch.Tensor
    prompts: tuple[str, ...]
    rewards: torch.Tensor


def fit(config: AlignConfig, session: Session) -> dict[str, float]:
    """Trains the LoRA and saves it in `config.out` in diffusers' own layout.

    Raises:
        FailedPrecondition: no rated images.
        InvalidInput: a base whose prediction or pipeline is not understood.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    rated = load_rated(session.folder)
    if rated is None:
        raise FailedPrecondition("Alignment learns from rated images, and there are none.", "NO_RATINGS")
    model = _Model(config)
    pool = _rated_pool(model, rated)
    real = _real_pool(config, model)
    seconds, last = _train(model, pool, real, config, session)
    model.save(config.out)
    reward_before = float(pool.rewards.mean())
    figures = {
        "train_seconds": seconds,
        "loss": last,
        "rated_images": float(len(rated)),
        "reward_of_pool": reward_before,
    }
    session.note("figures.json", figures)
    return figures


class _Model:
    """Base pipeline with the LoRA in training, the frozen parent, and the reward."""

    def __init__(self, config: AlignConfig) -> None:
        self.config = config
        self.pipe = load_pipeline(config.base)
        self.prediction: str = self.pipe.scheduler.config.prediction_type
        if self.prediction not in ("epsilon", "v_prediction", "sample"):
            raise InvalidInput(f"Alignment knows epsilon, v and sample prediction, not {self.prediction!r}.")
        for part in (self.pipe.vae, self.pipe.text_encoder, self.pipe.unet):
            part.requires_grad_(False)
        self.unet = self.pipe.unet
        if config.parent is not None:
            self.pipe.load_lora_weights(str(config.parent), weight_name=LORA_FILE, adapter_name=ADAPTER)
        self.reference = copy.deepcopy(self.unet).eval()
        if config.parent is None:
            lora = LoraConfig(
                r=config.rank, lora_alpha=config.rank, target_modules=TARGETS, init_lora_weights="gaussian"
            )
            self.unet.add_adapter(lora, adapter_name=ADAPTER)
        self.trained = [p for n, p in self.unet.named_parameters() if "lora_" in n]
        for p in self.trained:
            p.requires_grad_(True)
        self.reward = RewardEnsemble.load(config.reward)
        self.alphas = self.pipe.scheduler.alphas_cumprod
        self._embedded: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def embed(self, prompts: list[str]) -> torch.Tensor:
        """[N, tokens, width]; the text encoder is frozen, so each prompt is encoded once."""
        for prompt in set(prompts) - set(self._embedded):
            tokens = self.pipe.tokenizer(
                prompt,
                padding="max_length",
                max_length=self.pipe.tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            )
            self._embedded[prompt] = self.pipe.text_encoder(tokens.input_ids)[0][0]
        return torch.stack([self._embedded[prompt] for prompt in prompts])

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [N, 3, H, W] to scaled latents."""
        size = self.unet.config.sample_size * self.pipe.vae_scale_factor
        parts = [
            self.pipe.vae.encode(to_input(images[i : i + 32], size)).latent_dist.mode()
            for i in range(0, len(images), 32)
        ]
        return torch.cat(parts) * self.pipe.vae.config.scaling_factor

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Scaled latents to images in [-1, 1]; differentiable."""
        return self.pipe.vae.decode(latents / self.pipe.vae.config.scaling_factor).sample

    def save(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        layers = {k: v.half() for k, v in get_peft_model_state_dict(self.unet, adapter_name=ADAPTER).items()}
        type(self.pipe).save_lora_weights(str(out), unet_lora_layers=layers, weight_name=LORA_FILE)


def _rated_pool(model: _Model, rated: Rated) -> Pool:
    images = rated.images.permute(0, 2, 3, 1).numpy()
    rewards = torch.from_numpy(model.reward.score(images, rated.prompts).overall)
    return Pool(model.encode(rated.images), rated.prompts, rewards)


def _real_pool(config: AlignConfig, model: _Model) -> Pool | None:
    if config.data is None or config.method != "reward_weighted":
        return None
    examples: Examples = half_of(load_examples(config.data), config.half)
    chosen = numbers(config.seed, "anchor").sample(range(len(examples)), min(2048, len(examples)))
    part, rng = examples.subset(chosen), numbers(config.seed, "captions")
    prompts = tuple(random_caption(a, b, rng) for a, b in zip(part.labels, part.attributes, strict=True))
    return Pool(model.encode(part.images), prompts, torch.ones(len(prompts)))


def _train(
    model: _Model, pool: Pool, real: Pool | None, config: AlignConfig, session: Session
) -> tuple[float, float]:
    optimizer = torch.optim.AdamW(model.trained, lr=config.lr, betas=(0.9, 0.99), weight_decay=0.0)
    step, seconds = _resume(model, optimizer, session.folder / "lora")
    started, loss = time.monotonic(), 0.0

    def spent() -> float:
        return seconds + time.monotonic() - started

    while step < config.steps and (config.minutes is None or spent() < 60 * config.minutes):
        step += 1
        for group in optimizer.param_groups:
            group["lr"] = config.lr * min(1.0, step / 10)
        current = _loss(model, pool, real, config, step)
        optimizer.zero_grad(set_to_none=True)
        current.backward()
        torch.nn.utils.clip_grad_norm_(model.trained, 1.0)
        optimizer.step()
        loss = float(current.detach())
        session.report(step, config.steps, config.method.replace("_", " "), loss=loss)
        if step % config.checkpoint_every == 0:
            state = {"lora": list(model.trained), "optimizer": optimizer.state_dict(), "seconds": spent()}
            checkpoint.save(session.folder / "lora", step, state)
    session.report(config.steps, config.steps, "done", loss=loss)
    return spent(), loss


def _resume(model: _Model, optimizer: torch.optim.Optimizer, folder: Path) -> tuple[int, float]:
    found = checkpoint.load_latest(folder)
    if found is None:
        return 0, 0.0
    step, state = found
    with torch.no_grad():
        for parameter, saved in zip(model.trained, state["lora"], strict=True):
            parameter.copy_(saved)
    optimizer.load_state_dict(state["optimizer"])
    return step, state["seconds"]


def _loss(model: _Model, pool: Pool, real: Pool | None, config: AlignConfig, step: int) -> torch.Tensor:
    rng, random_ = numbers(config.seed, "align", step), tensors(config.seed, "align", step)
    if config.method == "reward_weighted":
        return _weighted_loss(model, pool, real, config, rng, random_)
    return _gradient_loss(model, pool, config, rng, random_)


def _weighted_loss(
    model: _Model, pool: Pool, real: Pool | None, config: AlignConfig, rng, random_
) -> torch.Tensor:
    rows = [rng.randrange(len(pool.prompts)) for _ in range(config.batch)]
    error = _denoising_error(model, pool, rows, random_)
    real_error = None
    if real is not None:
        chosen = [rng.randrange(len(real.prompts)) for _ in range(max(1, config.batch // 2))]
        real_error = _denoising_error(model, real, chosen, random_)
    return reward_weighted_loss(error, pool.rewards[rows], real_error, config.beta)


def _denoising_error(model: _Model, pool: Pool, rows: list[int], random_: torch.Generator) -> torch.Tensor:
    clean = pool.latents[rows]
    timesteps = torch.randint(0, len(model.alphas), (len(rows),), generator=random_)
    noise = torch.randn(clean.shape, generator=random_)
    noisy = model.pipe.scheduler.add_noise(clean, noise, timesteps)
    output = model.unet(noisy, timesteps, model.embed([pool.prompts[i] for i in rows])).sample
    wanted = denoising.target(model.prediction, clean, noise, model.alphas, timesteps)
    return denoising.per_sample_error(output, wanted)


def _gradient_loss(model: _Model, pool: Pool, config: AlignConfig, rng, random_) -> torch.Tensor:
    rows = [rng.randrange(len(pool.prompts)) for _ in range(config.batch)]
    prompts = [pool.prompts[i] for i in rows]
    clean, embedded = pool.latents[rows], model.embed(prompts)
    timesteps = torch.randint(config.latest, config.earliest, (config.batch,), generator=random_)
    noisy = model.pipe.scheduler.add_noise(clean, torch.randn(clean.shape, generator=random_), timesteps)
    with torch.no_grad():
        reference = model.reference(noisy, timesteps, embedded).sample
    first = output = model.unet(noisy, timesteps, embedded).sample
    found = denoising.predicted_clean(model.prediction, output, noisy, model.alphas, timesteps)
    for _ in range(config.gradient_steps - 1):
        alpha = model.alphas[timesteps].view(-1, 1, 1, 1)
        noise = (noisy - alpha.sqrt() * found) / (1 - alpha).sqrt()
        timesteps = (timesteps - config.stride).clamp(min=0)
        noisy = ddim_step(found, noise, model.alphas, timesteps)
        output = model.unet(noisy, timesteps, embedded).sample
        found = denoising.predicted_clean(model.prediction, output, noisy, model.alphas, timesteps)
    images = model.decode(found)
    # Turned at random, so that no pattern that fools the reward in one position pays.
    images = dihedral(images, random_) if config.symmetric else images
    logits = model.reward.logits(images, model.reward.encode(prompts))[:, :, 0]
    return reward_gradient_loss(logits, first, reference, caution=config.caution, anchor=config.anchor)
