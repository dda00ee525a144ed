"""The peer of the rate of training: what diffusers' `train_text_to_image` does, from diffusers' and accelerate's public
API alone. Images and text are encoded at every step; weights are averaged, errors weighed and gradients clipped as its
options `--use_ema --snr_gamma 5 --max_grad_norm 1` say.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler, StableDiffusionPipeline
from diffusers.training_utils import EMAModel, compute_snr
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from training.adaptation.config import AdaptConfig
from training.adaptation.data import CaptionedSet
from training.data.augmentation import to_unit


class DiffusersLoop:
    """A U-Net in training, all of its weights, by the settings of `config`."""

    def __init__(self, base: Path, data: CaptionedSet, config: AdaptConfig) -> None:
        self.config = config
        self.pipe: Any = StableDiffusionPipeline.from_pretrained(base, torch_dtype=torch.float32)
        self.noise = DDPMScheduler.from_config(self.pipe.scheduler.config)
        for part in (self.pipe.vae, self.pipe.text_encoder):
            part.requires_grad_(False)
        unet = self.pipe.unet.eval()  # without dropout, as vouch adapts
        lr = config.lr or 0.0
        optimizer = torch.optim.AdamW(
            unet.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=config.weight_decay
        )
        self.ema = EMAModel(unet.parameters(), decay=config.ema)
        self.accelerator = Accelerator(cpu=True)
        loader = DataLoader(self._tokenized(data), config.batch, shuffle=True, drop_last=True)
        self.unet, self.optimizer, self._loader = self.accelerator.prepare(unet, optimizer, loader)
        self._batches = self._endless()

    def step(self) -> None:
        """One update from a batch."""
        images, ids = next(self._batches)
        clean = (
            self.pipe.vae.encode(to_unit(images)).latent_dist.sample() * self.pipe.vae.config.scaling_factor
        )
        words = self.pipe.text_encoder(ids, return_dict=False)[0]
        noise = torch.randn_like(clean)
        timesteps = torch.randint(0, self.noise.config.num_train_timesteps, (len(clean),))
        noisy = self.noise.add_noise(clean, noise, timesteps)
        said = self.unet(noisy, timesteps, words, return_dict=False)[0]
        error = F.mse_loss(said, self._target(clean, noise, timesteps), reduction="none").mean((1, 2, 3))
        self.accelerator.backward((error * self._weight(timesteps)).mean())
        self.accelerator.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(self.unet.parameters())

    def averaged(self) -> dict[str, torch.Tensor]:
        """The averaged weights of the U-Net, by name."""
        self.ema.store(self.unet.parameters())
        self.ema.copy_to(self.unet.parameters())
        weights = {name: value.clone() for name, value in self.unet.state_dict().items()}
        self.ema.restore(self.unet.parameters())
        return weights

    def _tokenized(self, data: CaptionedSet) -> TensorDataset:
        tokenizer = self.pipe.tokenizer
        captions = [said[0] for said in data.captions]
        ids = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt",
                        max_length=tokenizer.model_max_length).input_ids  # fmt: skip
        return TensorDataset(data.images, ids)

    def _endless(self) -> Iterator[Any]:
        while True:
            yield from self._loader

    def _target(self, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        if self.noise.config.prediction_type == "v_prediction":
            velocity: torch.Tensor = self.noise.get_velocity(clean, noise, timesteps)
            return velocity
        return noise

    def _weight(self, timesteps: torch.Tensor) -> torch.Tensor:
        snr = compute_snr(self.noise, timesteps)
        clipped = snr.clamp(max=self.config.min_snr)
        return clipped / (snr + 1 if self.noise.config.prediction_type == "v_prediction" else snr)
