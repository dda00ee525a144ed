"""What an autoencoder leaves of images is told by four figures, and each of them alone can refuse it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from tests.foundations import SIZE, WORDS
from training.adaptation import reconstruction
from training.adaptation.reconstruction import Reconstruction, domain_network, feature_change
from vouch.errors import FailedPrecondition
from vouch.models.networks.attributes import AttributeNet

GOOD = Reconstruction(psnr=30.0, chroma=0.5, sharpness=0.9, features=0.05)


@pytest.fixture
def images() -> np.ndarray:
    """Grey noise of several grains, uint8 [16, S, S, 3]."""
    rng = np.random.default_rng(0)
    grains = [
        np.kron(rng.integers(0, 255, (SIZE // k, SIZE // k)), np.ones((k, k))) for k in (1, 2, 4, 8) * 4
    ]
    return np.stack(grains)[..., None].repeat(3, 3).astype(np.uint8)


@pytest.fixture
def eyes() -> AttributeNet:
    torch.manual_seed(0)
    return AttributeNet(WORDS, SIZE, (8, 8)).eval()


def blurred(images: np.ndarray, radius: float) -> np.ndarray:
    return np.stack(
        [np.asarray(Image.fromarray(one).filter(ImageFilter.GaussianBlur(radius))) for one in images]
    )


def test_features_are_lost_with_the_blur(images: np.ndarray, eyes: AttributeNet) -> None:
    changes = [feature_change(eyes, images, blurred(images, radius)) for radius in (0.0, 0.5, 2.0)]
    assert changes[0] == 0 and changes[0] < changes[1] < changes[2]


def test_another_image_in_its_place_costs_twice_the_variance(images: np.ndarray, eyes: AttributeNet) -> None:
    """E|a − b|² of two independent images is twice their variance; of a fixed one it is the variance and a bias."""
    moved = [feature_change(eyes, images, np.roll(images, shift, 0)) for shift in range(1, len(images))]
    assert np.mean(moved) == pytest.approx(2 * len(images) / (len(images) - 1), rel=0.01)


def test_images_that_do_not_differ_lose_nothing_that_tells_them_apart(eyes: AttributeNet) -> None:
    same = np.full((4, SIZE, SIZE, 3), 90, np.uint8)
    assert feature_change(eyes, same, same + 20) == 0


def test_the_shipped_network_looks_where_none_is_named(images: np.ndarray) -> None:
    assert feature_change(domain_network(None), images, blurred(images, 2.0)) > 0.1


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"psnr": reconstruction.LEAST_PSNR - 1}, "leaves 21.0 dB"),
        ({"chroma": reconstruction.MOST_CHROMA + 1}, "colours grey images by 4.0"),
        ({"sharpness": reconstruction.LEAST_SHARPNESS / 2}, "keeps 15% of what is fine"),
        ({"features": 0.8}, "changes their features by 80% of what tells them apart"),
    ],
)
def test_each_figure_alone_can_refuse(fault: dict[str, float], says: str) -> None:
    GOOD.refuse()
    with pytest.raises(FailedPrecondition, match=says) as refused:
        replace(GOOD, **fault).refuse()
    assert refused.value.reason == "VAE_FAILS"


def test_a_run_tells_all_four() -> None:
    assert set(GOOD.figures()) == {"vae_psnr", "vae_chroma", "vae_sharpness", "vae_features"}
