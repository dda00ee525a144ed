"""How the U-Net of a generator is computed: as PyTorch does it operation by operation, or compiled ahead of time.

A package of compiled code holds no weights: it computes with those of any U-Net of its architecture, where they lie.
So a version that is swapped in pays nothing, and adapted versions go on sharing the memory of their base. Packages
are kept in a folder for the next start; they are native code, so that folder must be one that only its owner writes.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

Network = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Latents [N, C, h, w], timesteps [N], encoded prompts [N, L, D] to its output [N, C, h, w]."""

FORMAT = 1  # of the packages; to be counted up when they are made in another way
MOST = 63  # rows of one call; diffusers treats batches of 64 and more in another way
BUCKETS = {"one": 1, "many": 8}  # rows that a package is traced with; "many" takes 2 to MOST
MEASURED_FILE = "measured.json"


def has_bfloat16_units(device: str = "cpu") -> bool:
    """Whether the device computes bfloat16 faster than float32: a processor with AMX or AVX-512 BF16; GPUs do."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def computing(precision: str, device: str = "cpu") -> torch.autocast:
    """Within it, products are computed in "float32" or "bfloat16"; weights, norms and results stay float32."""
    # Without the cache of cast weights: a CUDA graph must not keep what was cast before its capture.
    return torch.autocast(
        device, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=device == "cpu"
    )


class Eager:
    """Operation by operation, where the U-Net is; what goes in and comes out is on the CPU."""

    def __init__(self, unet: Any, precision: str = "float32") -> None:
        self._unet, self._precision = unet, precision

    def __call__(self, x: torch.Tensor, timesteps: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        device = self._unet.device
        return self.on_device(x.to(device), timesteps.to(device), prompts.to(device)).cpu()

    def on_device(self, x: torch.Tensor, timesteps: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """The same for inputs that are there already; its result stays there."""
        with computing(self._precision, self._unet.device.type):
            output: torch.Tensor = self._unet(x, timesteps, prompts, return_dict=False)[0]
        return output.float()


@dataclass(frozen=True)
class Measured:
    """What the compiled U-Net was worth where it was compiled: milliseconds of a step, at `rows` rows, and the largest
    difference of any of its outputs from the eager one's."""

    rows: int
    eager_ms: float
    compiled_ms: float
    difference: float

    @property
    def speedup(self) -> float:
        return self.eager_ms / self.compiled_ms


@dataclass(frozen=True)
class Architecture:
    """All that compiled code depends on: the U-Net without its weights, and the shapes that it is called with."""

    config: dict[str, Any]
    prompt: tuple[int, int]
    """Length and width of an encoded prompt."""
    precision: str = "float32"

    @classmethod
    def of(cls, pipe: Any, precision: str = "float32") -> Architecture:
        config = {k: v for k, v in dict(pipe.unet.config).items() if not k.startswith("_")}
        prompt = (pipe.tokenizer.model_max_length, pipe.text_encoder.config.hidden_size)
        return cls(json.loads(json.dumps(config)), prompt, precision)

    @property
    def key(self) -> str:
        """Names its package: another PyTorch or another kind of processor needs another."""
        parts = [
            FORMAT, asdict(self), torch.__version__, platform.machine(), torch.backends.cpu.get_cpu_capability()
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]

    def inputs(self, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Random ones, to trace and to time with."""
        draw, size = torch.Generator().manual_seed(0), self.config["sample_size"]
        latents = torch.randn(rows, self.config["in_channels"], size, size, generator=draw)
        return latents, torch.full((rows,), 500.0), torch.randn(rows, *self.prompt, generator=draw)


def _forget_unpacked() -> None:
    """PyTorch unpacks a package into a temporary folder, and leaves it there when the process is killed. What is
    mapped into memory needs no name any more."""
    maps = Path("/proc/self/maps")
    if maps.is_file():
        for path in set(re.findall(r"/\S*/aotinductor_\w+/", maps.read_text("utf-8", "surrogateescape"))):
            shutil.rmtree(path, ignore_errors=True)


class Compiled:
    """Compiled code upon the weights of `unet`, which it shares.

    Raises what PyTorch raises when the package is not for this machine or this U-Net.
    """

    def __init__(self, unet: Any, folder: Path) -> None:
        self.measured = Measured(**json.loads((folder / MEASURED_FILE).read_text()))
        self._weights = {f"unet.{name}": tensor for name, tensor in unet.state_dict().items()}
        self._one, self._many = (self._load(folder / f"{bucket}.pt2") for bucket in BUCKETS)

    def _load(self, file: Path) -> Any:
        package = torch._inductor.aoti_load_package(str(file))
        wanted = {name: self._weights[name] for name in package.get_constant_fqns()}
        package.load_constants(wanted, check_full_update=True, user_managed=True)
        _forget_unpacked()
        return package

    def __call__(self, x: torch.Tensor, timesteps: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        if len(x) <= MOST:
            return self._call(x, timesteps, prompts)
        parts = zip(x.split(MOST), timesteps.split(MOST), prompts.split(MOST), strict=True)
        return torch.cat([self._call(*part) for part in parts])

    def _call(self, x: torch.Tensor, timesteps: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        package = self._one if len(x) == 1 else self._many
        output: torch.Tensor = package(x.contiguous(), timesteps.contiguous(), prompts.contiguous())
        return output.float()
