"""The denoising loss of diffusion models, for epsilon, v and sample prediction."""

from __future__ import annotations

import torch


def signal_to_noise(alphas_cumprod: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """SNR(t) = ᾱ_t / (1 - ᾱ_t) for timesteps [N]; 0 at the last step of a zero-terminal-SNR schedule."""
    alpha = alphas_cumprod[timesteps]
    return alpha / (1.0 - alpha)


def min_snr_weight(snr: torch.Tensor, prediction: str, gamma: float = 5.0) -> torch.Tensor:
    """Min-SNR-γ (Hang et al. 2023, arXiv 2303.09556): min(SNR, γ)/SNR for ε, min(SNR, γ)/(SNR+1) for v.

    Args:
        snr: [N].
        prediction: "epsilon", "v_prediction" or "sample".
    """
    clipped = snr.clamp(max=gamma)
    if prediction == "epsilon":
        return clipped / snr.clamp(min=1e-8)
    if prediction == "v_prediction":
        return clipped / (snr + 1.0)
    return clipped


def target(
    prediction: str,
    clean: torch.Tensor,
    noise: torch.Tensor,
    alphas_cumprod: torch.Tensor,
    timesteps: torch.Tensor,
) -> torch.Tensor:
    """What the network should say at `timesteps`: ε, x₀ or v = √ᾱ·ε - √(1-ᾱ)·x₀ (Salimans & Ho, arXiv 2202.00512)."""
    if prediction == "epsilon":
        return noise
    if prediction == "sample":
        return clean
    alpha = alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    return alpha.sqrt() * noise - (1.0 - alpha).sqrt() * clean


def noised(
    clean: torch.Tensor, noise: torch.Tensor, alphas_cumprod: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """x_t = √ᾱ·x₀ + √(1-ᾱ)·ε of latents [N, C, h, w] at timesteps [N]."""
    alpha = alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    return alpha.sqrt() * clean + (1.0 - alpha).sqrt() * noise


def predicted_clean(
    prediction: str,
    output: torch.Tensor,
    noisy: torch.Tensor,
    alphas_cumprod: torch.Tensor,
    timesteps: torch.Tensor,
) -> torch.Tensor:
    """x̂₀ from the network's output; for v-prediction x̂₀ = √ᾱ·x_t - √(1-ᾱ)·v, defined at zero SNR too."""
    alpha = alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    if prediction == "sample":
        return output
    if prediction == "v_prediction":
        return alpha.sqrt() * noisy - (1.0 - alpha).sqrt() * output
    return (noisy - (1.0 - alpha).sqrt() * output) / alpha.sqrt().clamp(min=1e-4)


def per_sample_error(output: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each sample, in single precision at least: [N, ...] to [N]."""
    wide = torch.promote_types(output.dtype, torch.float32)
    return (output.to(wide) - wanted.to(wide)).pow(2).flatten(1).mean(1)
