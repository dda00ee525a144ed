"""The U-Net in training: all of its weights, or a LoRA."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import nn

from training.adaptation.config import AdaptConfig
from training.adaptation.foundation import Foundation
from training.adaptation.tuning import Tuning, write_defaults
from training.alignment.student import TARGETS, TEXT_TARGETS
from vouch.models.captions import Vocabulary
from vouch.models.pipelines import LORA_FILE

ADAPTER = "adapt"
LORA_LR, FULL_LR = 3e-4, 5e-5


class UNetTuning(Tuning):
    """The recipe `unet`."""

    parts: tuple[str, ...] = ("unet",)

    def __init__(self, base: Foundation, config: AdaptConfig) -> None:
        super().__init__(base, config)
        lr = config.lr if config.lr is not None else LORA_LR if config.rank else FULL_LR
        rates = {"unet": lr, "text_encoder": config.text_lr if config.text_lr is not None else lr / 10}
        self._before: dict[str, nn.Module] = {}
        for part in self.parts:
            network = getattr(base.pipe, part)
            if not config.rank and config.prior.weight and config.prior.kind == "noise-free":
                self._before[part] = copy.deepcopy(network).eval()
            weights = adapted(network, part, config.rank) if config.rank else whole(network)
            self.groups.append({"params": weights, "lr": rates[part]})

    @contextmanager
    def as_base(self) -> Iterator[None]:
        pipe = self.base.pipe
        if self.config.rank:
            with _adapters_off([getattr(pipe, part) for part in self.parts]):
                yield
            return
        now = {part: getattr(pipe, part) for part in self.parts}
        for part, network in self._before.items():
            setattr(pipe, part, network)
        try:
            yield
        finally:
            for part, network in now.items():
                setattr(pipe, part, network)

    def save(self, out: Path) -> None:
        """A LoRA in diffusers' own layout upon the base; the whole folder where there is none, or the base was itself
        an adapted one."""
        out.mkdir(parents=True, exist_ok=True)
        pipe = self.base.pipe
        if self.config.rank and self.config.parent is None:
            layers = {f"{part}_lora_layers": lora_layers(getattr(pipe, part)) for part in self.parts}
            type(pipe).save_lora_weights(str(out), weight_name=LORA_FILE, **layers)
            Vocabulary((), {}).save(out)  # it reads any words
        else:
            if self.config.rank:
                pipe.fuse_lora(adapter_names=[ADAPTER])
                pipe.unload_lora_weights()
            save_whole(pipe, out)
        write_defaults(self.base.defaults, out)


class UNetTextTuning(UNetTuning):
    """The recipe `unet-text`: the text encoder learns beside the U-Net, at a rate of its own."""

    parts = ("unet", "text_encoder")


def adapted(network: Any, part: str, rank: int) -> list[nn.Parameter]:
    """The weights of a new LoRA upon a network."""
    targets = TARGETS if part == "unet" else TEXT_TARGETS
    lora = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, init_lora_weights="gaussian")
    network.add_adapter(lora, adapter_name=ADAPTER)
    return [weight for name, weight in network.named_parameters() if "lora_" in name]


def whole(network: nn.Module) -> list[nn.Parameter]:
    """All weights of a network, to be trained."""
    return list(network.requires_grad_(True).parameters())


def lora_layers(network: nn.Module) -> dict[str, torch.Tensor]:
    """The LoRA of a network as diffusers names it, in half precision."""
    return {k: v.half() for k, v in get_peft_model_state_dict(network, adapter_name=ADAPTER).items()}


def save_whole(pipe: Any, out: Path) -> None:
    """A diffusers folder. VAE and U-Net in half precision; the text encoder stays in single: transformers loads what
    is stored, diffusers float32."""
    pipe.to("cpu")
    for part in (pipe.vae, pipe.unet):
        part.to(torch.float16)
    pipe.save_pretrained(str(out), safe_serialization=True)


@contextmanager
def _adapters_off(networks: list[Any]) -> Iterator[None]:
    for network in networks:
        network.disable_adapters()
    try:
        yield
    finally:
        for network in networks:
            network.enable_adapters()
