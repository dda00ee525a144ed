"""The samplers that a request may choose, by name. No torch: a client needs only the names."""

from __future__ import annotations

SAMPLERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpm++2m": "DPMSolverMultistepScheduler",
}
"""The diffusers scheduler of each sampler."""


def sampler_name(sampler: str, eta: float) -> str:
    """The sampler in an image's record, such as "ddim" or "ddim eta=0.5"."""
    return f"{sampler} eta={eta:g}" if eta else sampler


def plain_name(recorded: str) -> str:
    """The sampler of a record's name, without its eta."""
    return recorded.partition(" ")[0]


def parse_name(recorded: str) -> tuple[str, float]:
    """Sampler and eta of a record's name, as a request gives them; "" for a sampler that requests cannot choose."""
    name, _, eta = recorded.partition(" eta=")
    return (name if name in SAMPLERS else "", float(eta) if eta else 0.0)
