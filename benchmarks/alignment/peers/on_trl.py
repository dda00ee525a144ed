"""DDPO by trl's own `DDPOTrainer`, the black-box method that users know (Black et al. 2023, arXiv 2305.13301).

Runs in an environment of its own, with the last trl that ships it. The reward is vouch's own code and weights, the LoRA
has the places and the rank of vouch's recipe, and what is saved is in diffusers' own layout. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from trl import DDPOConfig, DDPOTrainer, DefaultDDPOStableDiffusionPipeline

from vouch.models.captions import Vocabulary
from vouch.models.networks.reward import RewardEnsemble

ETA = 0.999
"""As near to 1 as it gets: at the first step, where the starter's schedule holds no signal at all, trl takes the square
root of 1 - alpha - sigma^2, which is 0 at eta 1 and by rounding less than 0: not a number."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="a diffusers folder with its vocabulary")
    parser.add_argument("--reward", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="where the LoRA goes")
    parser.add_argument("--seconds", type=float, required=True, help="of training, drawing included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--targets", nargs="+", required=True, help="layers that get a LoRA")
    parser.add_argument("--settings", type=json.loads, default={}, help="of trl's DDPOConfig, as JSON")
    print(json.dumps(train(parser.parse_args())))


def train(given: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(given.threads)
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        pipeline = Pipeline(as_before(given.base, Path(folder)), given.rank, given.targets)
    labels = Vocabulary.load(given.base).labels
    rewarded = Rewarded(RewardEnsemble.load(given.reward))
    trainer = DDPOTrainer(config(given.seed, given.settings), rewarded, prompts_of(labels), pipeline)
    passes = Passes(pipeline.unet)
    rewarded.started = started = time.monotonic()
    steps = epochs = 0
    while time.monotonic() - started < given.seconds:
        steps = trainer.step(epochs, steps)
        epochs += 1
    seconds = time.monotonic() - started
    pipeline.save_lora(given.out)
    return {
        "train_seconds": seconds,
        "epochs": epochs,
        "steps": steps,
        **passes.figures(),
        "curve": rewarded.curve,
    }


def config(seed: int, settings: dict[str, Any]) -> DDPOConfig:
    """No guidance, as images are drawn without it; advantages by prompt; nothing saved on the way."""
    return DDPOConfig(
        seed=seed,
        mixed_precision="no",
        allow_tf32=False,
        save_freq=1_000_000,
        sample_guidance_scale=1.0,
        train_cfg=False,
        sample_eta=ETA,
        per_prompt_stat_tracking=True,
        **settings,
    )


def prompts_of(labels: Sequence[str]) -> Any:
    """All classes in turn."""
    turn = itertools.cycle(labels)
    return lambda: (next(turn), {})


class Pipeline(DefaultDDPOStableDiffusionPipeline):
    """trl's own, with the LoRA of vouch's recipe, able to draw without guidance, and no bar for every image."""

    def __init__(self, folder: Path, rank: int, targets: Sequence[str]) -> None:
        super().__init__(str(folder))
        # Without guidance trl still hands over negative prompts, diffusers puts them before the others, and the rows
        # no longer fit the latents.
        self.sd_pipeline._encode_prompt = lambda *given, prompt_embeds, **more: prompt_embeds
        self._rank, self._targets = rank, list(targets)
        self.unet.to(memory_format=torch.channels_last)  # as vouch loads it
        self.vae.to(memory_format=torch.channels_last)

    def get_trainable_layers(self) -> Any:
        lora = LoraConfig(
            r=self._rank, lora_alpha=self._rank, target_modules=self._targets, init_lora_weights="gaussian"
        )
        self.unet.add_adapter(lora)
        return self.unet

    def set_progress_bar_config(self, **given: Any) -> None:
        super().set_progress_bar_config(disable=True)

    def save_lora(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        layers = {name: value.half() for name, value in get_peft_model_state_dict(self.unet).items()}
        StableDiffusionPipeline.save_lora_weights(str(out), unet_lora_layers=layers)


class Rewarded:
    """What the ensemble says of images, the mean of its logits as in vouch's own DDPO; keeps the curve of it."""

    def __init__(self, reward: RewardEnsemble) -> None:
        self._reward = reward
        self.started = 0.0
        self.curve: list[tuple[float, float]] = []
        """Seconds since the start, and the mean probability of being plausible."""

    @torch.no_grad()
    def __call__(
        self, images: torch.Tensor, prompts: Sequence[str], metadata: Any
    ) -> tuple[torch.Tensor, Any]:
        """Images [N, 3, H, W] in [0, 1]."""
        logits = self._reward.logits(images * 2 - 1, self._reward.encode(prompts))[:, :, 0]
        self.curve.append((time.monotonic() - self.started, float(logits.sigmoid().mean())))
        return logits.mean(0), {}


class Passes:
    """How many images the U-Net has computed a step of: to draw, and to learn (each of these also backward)."""

    def __init__(self, unet: torch.nn.Module) -> None:
        self.drawn = self.learned = 0
        unet.register_forward_hook(self._count)

    def figures(self) -> dict[str, int]:
        """By the names of vouch's own trainings."""
        return {"forward_passes": self.drawn + self.learned, "backward_passes": self.learned}

    def _count(self, unet: torch.nn.Module, given: Any, said: Any) -> None:
        if torch.is_grad_enabled():
            self.learned += len(given[0])
        else:
            self.drawn += len(given[0])


def as_before(base: Path, folder: Path) -> Path:
    """A copy of `base` as transformers wrote it before version 5, which is what this trl needs: the text encoder's
    weights under one more name, and the tokenizer by the class that reads a tokenizer.json."""
    shutil.copytree(base, folder, dirs_exist_ok=True)
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "PreTrainedTokenizerFast"]
    (folder / "model_index.json").write_text(json.dumps(index))
    told = folder / "tokenizer" / "tokenizer_config.json"
    told.write_text(
        json.dumps({**json.loads(told.read_text()), "tokenizer_class": "PreTrainedTokenizerFast"})
    )
    weights = folder / "text_encoder" / "model.safetensors"
    save_file({earlier(name): value for name, value in load_file(weights).items()}, weights, {"format": "pt"})
    return folder


def earlier(name: str) -> str:
    return name if name.startswith("text_model.") else f"text_model.{name}"


if __name__ == "__main__":
    main()
