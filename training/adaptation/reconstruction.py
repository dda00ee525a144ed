"""What the autoencoder of a foundation model leaves of images: no recipe that freezes it can draw anything better."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vouch
from training.attributes.recognition import recognise
from training.evaluation.codec import through
from training.evaluation.sharpness import Spectra
from vouch.errors import FailedPrecondition
from vouch.models.networks.attributes import AttributeNet

LEAST_PSNR = 22.0
"""Decibels. An autoencoder of blood cells gives a chest X-ray 18, and any in its own domain 26 or more."""
MOST_CHROMA = 3.0
"""Mean of largest less smallest channel, of 255, that grey images may get."""
LEAST_SHARPNESS = 0.3
"""Power in the highest third of frequencies, after ÷ before."""
MOST_FEATURES = 0.5
"""Change of features, of their variance over the images. The starter's autoencoder gives cells 0.02 and chest X-rays
1.0; a blur of one pixel, at 64, gives either 0.26."""
SHIPPED = Path(vouch.__file__).parent / "starter" / "rater"
"""The network that looks where nobody names one. It learned cells, and sees what it lacks in other images too."""
GREY_CHROMA = 1.0
LOOKED_AT = 128
"""Images at the most."""


@dataclass(frozen=True)
class Reconstruction:
    """psnr: decibels, of all pixels. chroma: mean of largest less smallest channel of what came of grey images, of
    255; 0 where none is grey. sharpness: power in the highest third of frequencies, after ÷ before. features: mean
    squared change of a domain network's features ÷ their variance over the images, so that at 1 an image's features
    tell no more of it than any other image's do."""

    psnr: float
    chroma: float
    sharpness: float
    features: float

    @classmethod
    def of(cls, vae: Any, images: torch.Tensor, looks: AttributeNet) -> Reconstruction:
        """Of uint8 images [N, 3, S, S], at most LOOKED_AT of them, spread over the set. looks: the domain network."""
        rows = np.unique(np.linspace(0, len(images) - 1, min(len(images), LOOKED_AT)).astype(int))
        before = images[torch.from_numpy(rows)].permute(0, 2, 3, 1).contiguous().numpy()
        after = through(vae, before)
        error = np.square(before.astype(np.float32) - after.astype(np.float32)).mean()
        grey = _chroma(before) <= GREY_CHROMA
        power = [Spectra.of(some).high.mean() for some in (after, before)]
        return cls(
            psnr=float(10 * np.log10(255.0**2 / max(float(error), 1e-6))),
            chroma=float(_chroma(after)[grey].mean()) if grey.any() else 0.0,
            sharpness=float(power[0] / max(float(power[1]), 1e-12)),
            features=feature_change(looks, before, after),
        )

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with it, in words; none where it will do."""
        features = f"{self.features:.0%} of what tells them apart (at most {MOST_FEATURES:.0%})"
        found = (
            (self.psnr < LEAST_PSNR, f"it leaves {self.psnr:.1f} dB of them (at least {LEAST_PSNR:g})"),
            (self.chroma > MOST_CHROMA,
             f"it colours grey images by {self.chroma:.1f} of 255 (at most {MOST_CHROMA:g})"),
            (self.sharpness < LEAST_SHARPNESS,
             f"it keeps {self.sharpness:.0%} of what is fine (at least {LEAST_SHARPNESS:.0%})"),
            (self.features > MOST_FEATURES, f"it changes their features by {features}"),
        )  # fmt: skip
        return tuple(words for wrong, words in found if wrong)

    def refuse(self) -> None:
        """Raises FailedPrecondition where it will not do."""
        if self.faults:
            raise FailedPrecondition(
                f"The base's autoencoder does not know these images: {'; '.join(self.faults)}. Nothing that is "
                "trained upon it can draw better. Tune it first (--recipe vae), and name the version that comes of it "
                "with --base; or go on as it is with --keep-vae.",
                "VAE_FAILS",
            )

    def figures(self) -> dict[str, float]:
        """By name, as a run records them."""
        return {f"vae_{name}": value for name, value in asdict(self).items()}


def feature_change(looks: AttributeNet, before: np.ndarray, after: np.ndarray) -> float:
    """Mean squared distance of the features of uint8 images [N, H, W, 3] before and after ÷ their variance before; 0 of
    images that do not differ."""
    own, other = (
        recognise(looks, torch.from_numpy(some).permute(0, 3, 1, 2)).features for some in (before, after)
    )
    spread = float((own - own.mean(0)).square().sum(1).mean())
    return float((own - other).square().sum(1).mean()) / spread if spread > 1e-9 else 0.0


def domain_network(folder: Path | None) -> AttributeNet:
    """The network in this folder, or the one that ships."""
    return AttributeNet.load(folder or SHIPPED).eval()


def _chroma(images: np.ndarray) -> np.ndarray:
    """Of uint8 images [N, H, W, 3]: [N]."""
    wide = images.astype(np.int16)
    chroma: np.ndarray = (wide.max(3) - wide.min(3)).mean((1, 2))
    return chroma
