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

from vouch.domains.criteria import load_domain
from vouch.errors import CorruptVersion
from vouch.models.captions import Vocabulary
from vouch.models.networks.backbone import Backbone, fit_size, to_input
from vouch.models.networks.vision import Looks, VisionBackbone, looks_as_json
from vouch.models.scale import Calibration, Scale

FORMAT = "reward-ensemble"
BACKBONE = "backbone"
"""The folder of a foreign backbone inside a version's."""
HEAD_WIDTH = 128


@dataclass(frozen=True)
class EnsembleScores:
    """Of N images: probability of being plausible, its standard deviation over the members, one per criterion.

    Arrays float32 [N], values in [0, 1].
    """

    overall: np.ndarray
    std: np.ndarray
    criteria: Mapping[str, np.ndarray]


class RewardNet(nn.Module):
    """One member: what the ensemble sees and the declared prompt to logits [N, 1 + criteria], the verdict first.

    `backbone` turns what is seen into features [N, width]: a whole network for images, one layer for features.
    """

    def __init__(self, backbone: nn.Module, width: int, prompt_width: int, outputs: int) -> None:
        super().__init__()
        self.backbone, self.width = backbone, width
        self.prompt = nn.Linear(prompt_width, width)
        self.head = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, outputs))

    def forward(self, seen: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        return self.judge(self.backbone(seen), prompts)

    def judge(self, seen: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Features [N, width] and the declared prompt to logits."""
        prompt_embeds = self.prompt(prompts)
        # The product lets one layer compare image and prompt, which a sum cannot.
        return self.head(torch.cat([seen, prompt_embeds, seen * prompt_embeds], dim=1))


class RewardEnsemble(nn.Module):
    """K members with one scale, which is fitted on ratings that none of them learned from.

    Each member has a small network of its own, or they share one foreign `backbone` and are heads upon its features:
    then an image passes it once, however many members there are.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        criteria: Sequence[str],
        *,
        members: int = 3,
        size: int = 64,
        widths: tuple[int, ...] = (24, 48, 96, 128),
        backbone: VisionBackbone | None = None,
        scale: Scale | None = None,
    ) -> None:
        super().__init__()
        self.vocabulary, self.criteria = vocabulary, tuple(criteria)
        self.class_criterion = load_domain().class_criterion  # a training sets that of its own domain
        self.size = backbone.looks.size if backbone else size
        self.widths, self.scale = tuple(widths), scale or Scale()
        self.backbone = backbone
        prompt = len(vocabulary.labels) + sum(len(v) for v in vocabulary.attributes.values())
        self.members = nn.ModuleList(self._member(prompt) for _ in range(members))

    def _member(self, prompt_width: int) -> RewardNet:
        outputs = 1 + len(self.criteria)
        if self.backbone is None:
            return RewardNet(Backbone(self.widths), self.widths[-1], prompt_width, outputs)
        wide = self.backbone.width
        layer = nn.Sequential(nn.LayerNorm(wide), nn.Linear(wide, HEAD_WIDTH), nn.GELU())
        return RewardNet(layer, HEAD_WIDTH, prompt_width, outputs)

    def parts(self) -> list[nn.Module]:
        """The networks that an image or a prompt passes one after the other, or that share its way."""
        shared = [] if self.backbone is None else [self.backbone]
        return [*shared, *(part for member in self.members for part in member.children())]

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
        seen = self.look(images)
        # One after the other: as one network with K groups they take half as long again on a CPU.
        logits = torch.stack([member(seen, prompts) for member in self.members])
        parts = self._calibrations()
        temperature = logits.new_tensor([part.temperature for part in parts])
        return logits / temperature + logits.new_tensor([part.offset for part in parts])

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Of logits [K, N, 1 + criteria], as raters answer: they lapse now and then, whatever they see."""
        lapse = logits.new_tensor([part.lapse for part in self._calibrations()])
        return lapse + (1 - 2 * lapse) * logits.sigmoid()

    def _calibrations(self) -> list[Calibration]:
        return [self.scale.verdict, *map(self.scale.of_criterion, self.criteria)]

    def look(self, images: torch.Tensor) -> torch.Tensor:
        """What members are given of images float [N, 3, H, W] in [-1, 1]: the images at their size, or the features
        [N, F] of the backbone that they share; differentiable."""
        return fit_size(images, self.size) if self.backbone is None else self.backbone(images)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What the members see in images float [N, 3, H, W] in [-1, 1], whatever was declared: [N, F], of length 1; of
        a backbone that they share its own features. Differentiable. Of three or more members the last is left out: it
        validates."""
        seen = self.look(images)
        if self.backbone is not None:
            return nn.functional.normalize(seen, dim=1)
        teach = self.members[:-1] if len(self.members) > 2 else self.members
        each = [nn.functional.normalize(member.backbone(seen), dim=1) for member in teach]
        return torch.cat(each, 1) / len(each) ** 0.5

    @torch.inference_mode()
    def score(self, images: np.ndarray, prompts: Sequence[str], batch: int = 64) -> EnsembleScores:
        """Scores uint8 images [N, H, W, 3] for their declared prompts.

        Raises:
            InvalidInput: a prompt outside the vocabulary.
        """
        codes = self.encode(prompts)
        parts = [
            self.probabilities(self.logits(to_input(images[i : i + batch], self.size), codes[i : i + batch]))
            for i in range(0, len(prompts), batch)
        ]
        probabilities = (
            torch.cat(parts, dim=1) if parts else torch.zeros(len(self.members), 0, 1 + len(self.criteria))
        )
        mean = probabilities.mean(0).numpy()
        std = probabilities[:, :, 0].std(0, unbiased=False).numpy()
        return EnsembleScores(mean[:, 0], std, {name: mean[:, 1 + i] for i, name in enumerate(self.criteria)})

    def save(self, folder: Path) -> None:
        """Writes ``reward.safetensors`` (half precision), ``reward.json``, the vocabulary, and a foreign backbone whole
        into ``backbone/``: the folder needs no other."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            k: (v.half() if v.is_floating_point() else v).contiguous()
            for k, v in self.state_dict().items()
            if not k.startswith(f"{BACKBONE}.")
        }
        save_file(weights, folder / "reward.safetensors")
        config = {
            "format": FORMAT,
            "members": len(self.members),
            "criteria": self.criteria,
            "size": self.size,
            "widths": self.widths,
            "scale": self.scale.as_json(),
        }
        if self.backbone is not None:
            config[BACKBONE] = looks_as_json(self.backbone.looks)
            self.backbone.save(folder / BACKBONE)
        (folder / "reward.json").write_text(json.dumps(config, indent=1))
        self.vocabulary.save(folder)

    @classmethod
    def load(cls, folder: Path) -> RewardEnsemble:
        """The ensemble in single precision and evaluation mode."""
        folder = Path(folder)
        config = json.loads((folder / "reward.json").read_text())
        vocabulary = Vocabulary.load(folder)
        assert vocabulary is not None
        looks = config.get(BACKBONE)
        model = cls(
            vocabulary,
            config["criteria"],
            members=config["members"],
            size=config["size"],
            widths=tuple(config["widths"]),
            backbone=VisionBackbone.load(folder / BACKBONE, Looks.of(looks)) if looks else None,
            scale=Scale.of(config),
        )
        _fill(model, load_file(folder / "reward.safetensors"))
        return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _fill(model: RewardEnsemble, weights: Mapping[str, torch.Tensor]) -> None:
    """Gives the members their weights; a foreign backbone has its own already."""
    keys = model.load_state_dict(weights, strict=False)
    missing = [name for name in keys.missing_keys if not name.startswith(f"{BACKBONE}.")]
    if missing or keys.unexpected_keys:
        raise CorruptVersion(
            f"The reward's weights do not fit its reward.json: {(*missing, *keys.unexpected_keys)[0]}."
        )
