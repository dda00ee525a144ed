"""The samplers that a request may choose, by name. No torch: whoever names one needs none."""

from __future__ import annotations

SAMPLERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpm++2m": "DPMSolverMultistepScheduler",
}
"""A sampler's name, and the scheduler of diffusers that stands for it."""


def sampler_name(sampler: str, eta: float) -> str:
    """How an image's record names what drew it, such as "ddim" or "ddim eta=0.5"."""
    return f"{sampler} eta={eta:g}" if eta else sampler


def plain_name(recorded: str) -> str:
    """The sampler of a record's name, without its eta."""
    return recorded.partition(" ")[0]


def parse_name(recorded: str) -> tuple[str, float]:
    """Sampler and eta of a record's name, as a request gives them: "" for a sampler that no request can choose."""
    name, _, eta = recorded.partition(" eta=")
    return (name if name in SAMPLERS else "", float(eta) if eta else 0.0)
