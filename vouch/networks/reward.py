"""The reward model: is this image a plausible picture of what its prompt declares, and on which criteria?

An ensemble of small networks. Their mean is the score; their disagreement says how sure it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vouch.captions import Vocabulary
from vouch.networks.backbone import Backbone, fit_size, to_input

FORMAT = "reward-ensemble"


@dataclass(frozen=True)
class Scores:
    """Of N images: probability of being plausible, its standard deviation over the members, one per criterion.

    Arrays float32 [N], values in [0, 1].
    """

    overall: np.ndarray
    std: np.ndarray
    criteria: Mapping[str, np.ndarray]


class RewardNet(nn.Module):
    """One member: image features and the declared prompt to logits [N, 1 + criteria], the overall verdict first."""

    def __init__(self, prompt_width: int, outputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.backbone = Backbone(widths)
        width = widths[-1]
        self.prompt = nn.Linear(prompt_width, width)
        self.head = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, outputs))

    def forward(self, images: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        seen, said = self.backbone(images), self.prompt(prompts)
        # The product lets one layer ask "does what I see fit what was said?", which a sum cannot.
        return self.head(torch.cat([seen, said, seen * said], dim=1))


class RewardEnsemble(nn.Module):
    """K members with one temperature; the temperature is fitted on ratings that none of them learned from."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        criteria: Sequence[str],
        *,
        members: int = 3,
        size: int = 64,
        widths: tuple[int, ...] = (24, 48, 96, 128),
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.vocabulary, self.criteria = vocabulary, tuple(criteria)
        self.size, self.widths, self.temperature = size, tuple(widths), temperature
        width = len(vocabulary.labels) + sum(len(v) for v in vocabulary.attributes.values())
        self.members = nn.ModuleList(
            RewardNet(width, 1 + len(self.criteria), self.widths) for _ in range(members)
        )

    def encode(self, prompts: Sequence[str]) -> torch.Tensor:
        """Prompts to multi-hot rows [N, P] of the declared label and attribute values.

        Raises:
            InvalidInput: a prompt outside the vocabulary.
        """
        columns = {("", label): i for i, label in enumerate(self.vocabulary.labels)}
        for name, values in self.vocabulary.attributes.items():
            columns |= {(name, value): len(columns) + i for i, value in enumerate(values)}
        out = torch.zeros(len(prompts), len(columns))
        for row, prompt in enumerate(prompts):
            declared = self.vocabulary.parse(prompt)
            out[row, columns["", declared.label]] = 1.0
            for name, value in declared.attributes.items():
                out[row, columns[name, value]] = 1.0
        return out

    def logits(self, images: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Images float [N, 3, H, W] in [-1, 1] and encoded prompts to logits [K, N, 1 + criteria]; differentiable."""
        images = fit_size(images, self.size)
        return torch.stack([member(images, prompts) for member in self.members]) / self.temperature

    @torch.inference_mode()
    def score(self, images: np.ndarray, prompts: Sequence[str], batch: int = 64) -> Scores:
        """Scores uint8 images [N, H, W, 3] for their declared prompts.

        Raises:
            InvalidInput: a prompt outside the vocabulary.
        """
        codes = self.encode(prompts)
        parts = [
            self.logits(to_input(images[i : i + batch], self.size), codes[i : i + batch]).sigmoid()
            for i in range(0, len(prompts), batch)
        ]
        found = (
            torch.cat(parts, dim=1) if parts else torch.zeros(len(self.members), 0, 1 + len(self.criteria))
        )
        mean = found.mean(0).numpy()
        std = found[:, :, 0].std(0, unbiased=False).numpy()
        return Scores(mean[:, 0], std, {name: mean[:, 1 + i] for i, name in enumerate(self.criteria)})

    def save(self, folder: Path) -> None:
        """Writes ``reward.safetensors`` (half precision), ``reward.json`` and the vocabulary."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in self.state_dict().items()
        }
        save_file(weights, folder / "reward.safetensors")
        config = {
            "format": FORMAT,
            "members": len(self.members),
            "criteria": self.criteria,
            "size": self.size,
            "widths": self.widths,
            "temperature": self.temperature,
        }
        (folder / "reward.json").write_text(json.dumps(config, indent=1))
        self.vocabulary.save(folder)

    @classmethod
    def load(cls, folder: Path) -> RewardEnsemble:
        """The ensemble in single precision and evaluation mode."""
        config = json.loads((Path(folder) / "reward.json").read_text())
        vocabulary = Vocabulary.load(Path(folder))
        assert vocabulary is not None
        model = cls(
            vocabulary,
            config["criteria"],
            members=config["members"],
            size=config["size"],
            widths=tuple(config["widths"]),
            temperature=config["temperature"],
        )
        model.load_state_dict(load_file(Path(folder) / "reward.safetensors"))
        return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
