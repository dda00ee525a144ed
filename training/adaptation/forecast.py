"""How much memory an adaptation will take, told before it starts, and what would fit where it is too much.

What autograd keeps of a forward pass is counted on the meta device, which computes shapes and no numbers: exact for any
network, crop and LoRA, in seconds and without the memory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.adaptation.config import AdaptConfig
from training.adaptation.dropout import dropping
from training.adaptation.foundation import Foundation
from training.loop.worker_group import WorkerGroup
from vouch.errors import Exhausted
from vouch.recipes.effects import UNET

ALONE = WorkerGroup()
GIGA = 1e9
BYTES = 4
"""Of a weight, a gradient or a moment: all are in single precision."""
HALF_SHARE = 0.6
"""Of what is kept in single precision, what mixed precision keeps: norms and sums stay wide."""
LORA_WORKSPACE, FULL_WORKSPACE = 0.62, 0.22
"""What the allocator holds beside it, of what the network keeps without checkpointing: pieces that came free and
are not given back. Checkpointing does not save it. Fitted to the starter on a CPU, batch 8 to 96. With every block of a
mebibyte mapped apart (MALLOC_MMAP_THRESHOLD_=1048576), a batch of 96 takes what is kept and nothing beside."""
AGAIN = 0.1
"""Of it, what a part of a batch finds taken by the part before."""
OVERHEAD = 3_000_000
"""Bytes that a first step takes however small it is: code that is loaded then, pools of threads, latents."""


@dataclass(frozen=True)
class MemoryForecast:
    """Bytes beside what the process holds already, of one worker. kept: what the backward pass needs, and the gradients
    of earlier parts of the batch; workspace: what the allocator holds beside it; learning: both moments of AdamW and
    the average, and on a CPU the best weights and those of the last safe sheet, which no GPU holds. saving: gradients,
    and the copy of a checkpoint on its way to the disk, which no GPU holds either."""

    kept: int
    workspace: int
    learning: int
    saving: int

    @property
    def total(self) -> int:
        """The most at one time: a checkpoint is written when no activations are held."""
        return self.learning + max(self.kept + self.workspace, self.saving) + OVERHEAD


def forecast(
    base: Foundation, weights: int, config: AdaptConfig, group: WorkerGroup = ALONE
) -> MemoryForecast:
    """Of parts that are prepared: with their LoRA, and with the weights that learn marked. weights: how many learn.
    group: the worker among those that share a batch."""
    rows = _rows(config, group)
    network, inputs = _learning(base, weights, config, rows)
    with dropping(base.pipe.unet, config.dropout):  # what is dropped is kept as a mask
        plain = kept_bytes(network, inputs)
        kept = kept_bytes(network, inputs, checkpointing=True) if config.checkpointing else plain
    share, one, on_cpu = HALF_SHARE if base.is_half else 1.0, BYTES * weights, base.device == "cpu"
    kept += 0 if config.recipe == "vae" else _caption_bytes(base) * -(-rows // config.accumulate)
    earlier = one if config.accumulate > 1 else 0
    held = one * (2 + (1 if config.ema else 0) + (2 if on_cpu else 0))
    saving = one + (held + one if on_cpu else 0)
    return MemoryForecast(
        round(share * kept) + earlier, round(share * _workspace(config) * plain), held, saving
    )


def _workspace(config: AdaptConfig) -> float:
    """What the allocator holds beside what is kept, of what is kept without checkpointing."""
    is_lora = config.recipe in UNET and config.rank > 0
    return (LORA_WORKSPACE if is_lora else FULL_WORKSPACE) + (AGAIN if config.accumulate > 1 else 0.0)


def _rows(config: AdaptConfig, group: WorkerGroup) -> int:
    """Images of a worker's step, kept ones included."""
    own = group.batch_share(config.batch)
    return own + (max(1, round(own * config.prior.share)) if config.prior.weight else 0)


def _learning(
    base: Foundation, weights: int, config: AdaptConfig, rows: int
) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """The network whose activations are kept, and what goes through it at once."""
    if config.recipe == "vae":
        side = min(config.vae.crop, base.size)
        return base.pipe.vae, (torch.empty((rows, 3, side, side), device="meta"),)
    unet, count = base.pipe.unet, -(-rows // config.accumulate)
    own = sum(weight.numel() for weight in unet.parameters() if weight.requires_grad)
    return unet, _unet_inputs(base, count, words_learn=own < weights)


def _unet_inputs(
    base: Foundation, count: int, words_learn: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    config = base.pipe.unet.config
    with torch.no_grad():
        words = base.encode([""]).shape
    latents = (count, config.in_channels, config.sample_size, config.sample_size)
    return (
        torch.empty(latents, device="meta"),
        torch.empty(count, dtype=torch.long, device="meta"),
        torch.empty((count, *words[1:]), device="meta", requires_grad=words_learn),
    )


def _caption_bytes(base: Foundation) -> int:
    """What autograd keeps of one caption's way through the text encoder: nothing where no gradient passes it."""
    counted = _Counted(base.pipe.text_encoder)
    with counted.counting(), torch.enable_grad():
        base.encode([""])
    return counted.total


def kept_bytes(network: Any, inputs: tuple[torch.Tensor, ...], checkpointing: bool = False) -> int:
    """What autograd keeps of `network(*inputs)` for the backward pass, weights left out."""
    ghost = _ghost(network)
    counted, inner = _Counted(ghost), [0]

    def probe(block: Callable[..., Any], *given: Any) -> Any:
        """In place of a checkpoint: inputs are kept, and what the block keeps inside is held one block at a time."""
        within = _Counted(ghost)
        with within.counting():
            output = block(*given)
        inner[0] = max(inner[0], within.total)
        for value in given:
            counted.add(value)
        return output

    if checkpointing:
        ghost.enable_gradient_checkpointing(probe)
    elif getattr(ghost, "is_gradient_checkpointing", False):
        ghost.disable_gradient_checkpointing()
    with counted.counting(), torch.enable_grad():
        ghost(*inputs)
    return counted.total + inner[0]


def _ghost(network: nn.Module) -> Any:
    """A copy whose tensors have shapes and no numbers."""
    memo: dict[int, Any] = {}
    for weight in network.parameters():
        memo[id(weight)] = nn.Parameter(torch.empty_like(weight, device="meta"), weight.requires_grad)
    for buffer in network.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(network, memo)


class _Counted:
    """Bytes of the storages that autograd keeps, each once."""

    def __init__(self, network: nn.Module) -> None:
        self._own = {weight.untyped_storage()._cdata for weight in network.parameters()}
        self._kept: dict[int, Any] = {}

    @property
    def total(self) -> int:
        return sum(storage.nbytes() for storage in self._kept.values())

    def add(self, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            if storage._cdata not in self._own:
                self._kept[storage._cdata] = storage

    @contextmanager
    def counting(self) -> Iterator[None]:
        def pack(value: torch.Tensor) -> torch.Tensor:
            self.add(value)
            return value

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            yield


# ---- what there is


def free_bytes(device: str) -> int:
    """Memory that may still be taken: of the GPU, or of this machine and its control group."""
    if device != "cpu":
        return int(torch.cuda.mem_get_info()[0])
    lines = (line.split() for line in Path("/proc/meminfo").read_text("utf-8").splitlines())
    free = next(int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:")
    return min([free, *_left_in_group()])


def _left_in_group() -> list[int]:
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return []
    return [int(limit) - used] if limit.isdigit() else []


def check_memory(
    base: Foundation, weights: int, config: AdaptConfig, group: WorkerGroup = ALONE
) -> MemoryForecast:
    """The forecast, where it fits.

    Raises:
        Exhausted: it does not; says what would.
    """
    own = forecast(base, weights, config, group)
    free = round(config.memory_gb * GIGA) if config.memory_gb else free_bytes(base.device)
    if own.total <= free:
        return own
    raise Exhausted(
        f"This would take {own.total / GIGA:.2f} GB of memory, and {free / GIGA:.2f} GB are free. "
        f"{_remedy(base, weights, config, group, free)}",
        "NO_MEMORY",
    )


def _remedy(base: Foundation, weights: int, config: AdaptConfig, group: WorkerGroup, free: int) -> str:
    """The first change that would fit, the cheapest one in time first."""
    for change in _changes(config, group):
        other = forecast(base, weights, config.model_copy(update=change), group)
        if other.total <= free:
            words = " ".join(f"--{name} {str(value).lower()}" for name, value in change.items())
            return f"It would fit with {words} ({other.total / GIGA:.2f} GB)."
    if config.recipe in UNET and not config.rank:
        return "All weights do not fit however the batch is divided: train a LoRA (--rank 16)."
    return "Nothing that is trained upon this base fits: take a smaller one, or a machine with more memory."


def _changes(config: AdaptConfig, group: WorkerGroup) -> Iterator[dict[str, Any]]:
    """Settings that save memory, the cheapest in time first."""
    parts = [2**power for power in range(1, 13) if 2**power <= group.batch_share(config.batch)]
    if config.recipe == "vae":  # its batch is not divided
        yield {"checkpointing": True}
        yield from ({"batch": config.batch // count, "checkpointing": True} for count in parts)
        return
    yield from ({"accumulate": count} for count in parts if count > config.accumulate)
    yield from ({"checkpointing": True, "accumulate": count} for count in (1, *parts))
