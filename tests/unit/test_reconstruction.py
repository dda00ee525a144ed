"""Losses of the autoencoder on numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from training.objectives.reconstruction import (
    adaptive_weight,
    focal_frequency_loss,
    hinge_discriminator_loss,
    perceptual_loss,
    pixel_loss,
)


def stripes(period: int) -> torch.Tensor:
    """Vertical stripes of one pixel's contrast 1, [1, 3, 8, 8]."""
    columns = (torch.arange(8) % period < period // 2).float() - 0.5
    return columns.expand(1, 3, 8, 8).clone()


def test_equal_images_cost_nothing() -> None:
    images = torch.rand(2, 3, 8, 8)
    assert pixel_loss(images, images) == 0 and focal_frequency_loss(images, images) == 0
    assert perceptual_loss([images], [images]) == 0


def test_a_constant_shift_costs_its_size_and_its_square_and_no_edge() -> None:
    images = torch.zeros(1, 3, 4, 4)
    assert float(pixel_loss(images + 0.5, images)) == pytest.approx(0.5 + 0.25)


def test_a_lost_texture_costs_its_edges_too() -> None:
    """Flat grey in the place of stripes: mean error 1/2, square 1/4, and between every two columns an edge of 1."""
    assert float(pixel_loss(torch.zeros(1, 3, 8, 8), stripes(2))) == pytest.approx(0.5 + 0.25 + 1.0)


def test_focal_frequency_weighs_a_concentrated_error_most() -> None:
    """The same energy costs more in one frequency than spread over all: noise is not texture."""
    energy = stripes(2).pow(2).sum()
    noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    noise *= (energy / noise.pow(2).sum()).sqrt()
    nothing = torch.zeros(1, 3, 8, 8)
    assert focal_frequency_loss(nothing, stripes(2)) > 2 * focal_frequency_loss(nothing, noise)


def test_the_hinge_is_flat_beyond_its_margin() -> None:
    assert float(hinge_discriminator_loss(torch.tensor([2.0]), torch.tensor([-3.0]))) == 0.0
    assert float(hinge_discriminator_loss(torch.tensor([0.0]), torch.tensor([0.5]))) == pytest.approx(2.5)


def test_the_adaptive_weight_is_the_ratio_of_the_gradients_and_bounded() -> None:
    assert float(adaptive_weight(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0]))) == pytest.approx(2.5)
    assert float(adaptive_weight(torch.tensor([100.0]), torch.tensor([1e-3]))) == 20.0
